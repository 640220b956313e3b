"""Folders with tiny models, and a registry that came with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_genselfdiff.registry.folder import Model, write_model
from napari_genselfdiff.registry.registry import Registry
from tests.registry.networks import WriteModel, make_backbone, network, task


@pytest.fixture
def write(tmp_path: Path) -> WriteModel:
    """Write a model folder; ``seed`` decides its weights."""

    def make(
        name: str = "nuclei", seed: int = 0, folder: Path | None = None, **fields: Any
    ) -> Model:
        extras = fields.pop("extras", None)
        half = fields.pop("half", False)
        values = {"task": task(), "mpp_range": (0.25, 0.5), **fields}
        return write_model(
            (folder or tmp_path / "made") / name, values, network(seed), half, extras=extras
        )

    return make


@pytest.fixture
def bundled(write: WriteModel, tmp_path: Path) -> Path:
    write("nuclei", 99, tmp_path / "bundled", notes="shipped")
    make_backbone(tmp_path / "bundled" / "backbone", 98)
    return tmp_path / "bundled"


@pytest.fixture
def registry(tmp_path: Path, bundled: Path) -> Registry:
    return Registry(tmp_path / "home", bundled=bundled)
