"""napari finds the plugin in an editable install, and every entry of its manifest works."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManager, PluginManifest

ROOT = Path(__file__).parents[1]
NAME = "napari-genselfdiff"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    manager = PluginManager()
    manager.discover()
    return manager.get_manifest(NAME)


def test_it_is_discovered_with_its_version(manifest: PluginManifest) -> None:
    assert manifest.display_name == "GenSelfDiff"
    assert manifest.package_version == version(NAME)


def test_every_command_leads_to_something_callable(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands or []:
        module, _, attribute = str(command.python_name).partition(":")
        if module.startswith("napari_genselfdiff.widgets"):
            pytest.importorskip("qtpy.QtWidgets", reason="no Qt binding", exc_type=ImportError)
        assert callable(getattr(import_module(module), attribute)), command.id


def test_contributions_name_known_commands(manifest: PluginManifest) -> None:
    found = manifest.contributions
    known = {command.id for command in found.commands or []}
    parts: list[Any] = [
        *(found.widgets or []),
        *(found.readers or []),
        *(found.writers or []),
        *(found.sample_data or []),
        *(item for items in found.menus.values() for item in items),
    ]
    assert {part.command for part in parts} == known
    assert [widget.display_name for widget in found.widgets or []] == ["Annotate slide"]
    assert len(found.sample_data or []) == 3


def test_menus_are_ones_napari_lets_plugins_fill(manifest: PluginManifest) -> None:
    from napari._app_model.constants import MenuId

    assert set(manifest.contributions.menus) <= {str(menu) for menu in MenuId.contributables()}


def test_reader_patterns_are_those_it_accepts(manifest: PluginManifest) -> None:
    from napari_genselfdiff._reader import SUFFIXES, get_reader

    (reader,) = manifest.contributions.readers or []
    assert {f"*{suffix}" for suffix in SUFFIXES} == set(reader.filename_patterns)
    assert all(get_reader(f"slide{suffix.upper()}") for suffix in SUFFIXES)


def test_root_entry_is_a_link_to_the_packages_manifest() -> None:
    link = ROOT / "napari.yaml"
    if not link.exists():
        pytest.skip("not run from a checkout")
    assert link.is_symlink()
    assert link.resolve() == (ROOT / "napari_genselfdiff" / "napari.yaml").resolve()
