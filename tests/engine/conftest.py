"""A folder, a slide and a small network for the tests of one module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_genselfdiff.registry.folder import Model
from tests.engine.slide_runs import SIDE, balanced_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def slide_path(folder: Path, make_slide: Callable[..., Path]) -> Path:
    return make_slide(folder / "slide.tif", *SIDE, mpp=0.5)


@pytest.fixture(scope="module")
def model(folder: Path, make_tissue: Callable[..., Any]) -> Model:
    return balanced_model(folder / "tiny", make_tissue)
