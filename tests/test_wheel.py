"""The wheel holds what the plugin needs and nothing else, and napari finds the plugin in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.wheel

DISCOVER = """
import json
from importlib.metadata import entry_points
from npe2 import PluginManager
import napari_genselfdiff
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.registry.registry import Registry
manager = PluginManager()
manager.discover()
manifest = manager.get_manifest("napari-genselfdiff")
print(json.dumps({
    "package": napari_genselfdiff.__file__,
    "widgets": [w.display_name for w in manifest.contributions.widgets],
    "samples": [
        sample_path(s.key).is_file()
        for s in manifest.contributions.sample_data
        if s.key != "synthetic_slide"  # made when it is opened
    ],
    "models": [m.card.name for m in Registry().list()],
    "scripts": [e.value for e in entry_points(group="console_scripts", name="genselfdiff")],
}))
"""


def _run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=environment.pop("cwd"),
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the source archive, as a release does; no network is needed."""
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("not run from a checkout")
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=str(out))
    (found,) = out.glob("*.whl")
    return found


def test_only_the_package_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"napari_genselfdiff", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert not [n for n in names if ".gsd.zarr" in n or "__pycache__" in n]


@pytest.mark.parametrize(
    "name",
    [
        "napari.yaml",
        "py.typed",
        "samples/CMU-1-Small-Region.svs",
        "samples/tnbc_pyramid.ome.tif",
        "samples/tnbc_pyramid_masks.png",
        "samples/SOURCES.md",
        "learning/recipes/nuclei.toml",
        "registry/bundled/nuclei/model.json",
        "registry/bundled/nuclei/weights.safetensors",
        "registry/bundled/backbone/weights.safetensors",
    ],
)
def test_data_are_in_it_byte_by_byte(wheel: Path, name: str) -> None:
    with zipfile.ZipFile(wheel) as file:
        packed = file.read(f"napari_genselfdiff/{name}")
    assert packed == (ROOT / "napari_genselfdiff" / name).read_bytes()


def test_napari_finds_the_plugin_in_it(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    _run(*pip, "--target", target, wheel, cwd=str(tmp_path))
    found = json.loads(
        _run(sys.executable, "-c", DISCOVER, cwd=str(tmp_path), PYTHONPATH=str(target))
    )
    assert Path(found["package"]).is_relative_to(target)
    assert found["widgets"] == ["Annotate slide"]
    assert found["samples"] == [True, True]
    assert "nuclei" in found["models"]
    assert found["scripts"][0] == "napari_genselfdiff.cli:app"
