"""Commands with a tiny model in use, a small slide, and a fixed profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from napari_genselfdiff.cli import app
from napari_genselfdiff.registry.folder import Model, write_model
from napari_genselfdiff.registry.registry import Registry
from tests.registry.networks import network, task

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """Return ``run(*arguments, code=0)``: what a command wrote; its exit code is checked."""

    def run(*arguments: object, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model of the task Nuclei."""
    folder = tmp_path_factory.mktemp("made")
    fields = {
        "task": task(),
        "mpp_range": (0.25, 0.5),
        "tile": 128,
        "halo": 16,
        "min_object_um2": 6.0,
    }
    return write_model(folder / "tiny", fields, network()).path


@pytest.fixture
def model(home: Path, made: Path) -> Model:
    """Put the tiny model to use, and speed settings that need not be measured."""
    profile = {"device": "cpu", "precision": "fp32", "threads": 1, "batch": 1}
    (home / "speed.json").write_text(json.dumps(profile))
    registry = Registry(home)
    return registry.use(registry.add(made))


@pytest.fixture
def speed(home: Path, model: Model) -> tuple[str, Path]:
    """Return the arguments that choose the fixed profile."""
    return "--profile", home / "speed.json"


@pytest.fixture
def slide(make_slide: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a slide of 500 x 600 pixels of 0.25 µm in a folder of its own."""
    folder = tmp_path / "slides"
    folder.mkdir()
    return make_slide(folder / "case.tif", 500, 600, levels=2)
