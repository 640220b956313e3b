"""The window's Predict and ``genselfdiff segment`` give the same label bytes on the same region."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.window import Window
from napari_genselfdiff.cli import app
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.samples import copy_sample
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region

PLACE = Region(600, 70, 300, 420)
PROFILE = Profile(threads=1, parallel=2)


def _predict_in_a_session(slide: Path, home: Path) -> str:
    """Predict as the window does; give the command it offers."""
    session = Session(Registry(home), profile=PROFILE)
    try:
        session.open_slide(slide)
        session.predicting.start(PLACE)
        until = time.monotonic() + 300
        while session.predicting.activity is not None:
            assert time.monotonic() < until, session.status.text
            session.poll()
            time.sleep(0.02)
        assert session.status.tone == "good", session.status.text
        return session.predicting.command
    finally:
        session.close()


def _labels(slide: Path) -> Window:
    store = AnnotationStore.open_read_only(slide.with_name(slide.name + ".gsd.zarr"))
    try:
        return store.read("Nuclei", PLACE)
    finally:
        store.close()


def test_same_bytes(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_window = copy_sample("tnbc_pyramid", tmp_path / "window")
    by_command = Path(shutil.copytree(by_window.parent, tmp_path / "command")) / by_window.name
    copied = _predict_in_a_session(by_window, home)
    (tmp_path / "speed.json").write_text(json.dumps(PROFILE.to_dict()))
    region = f"{PLACE.y},{PLACE.x},{PLACE.height},{PLACE.width}"
    arguments = ["segment", str(by_command), "--region", region]
    result = CliRunner().invoke(app, [*arguments, "--profile", str(tmp_path / "speed.json")])
    assert result.exit_code == 0, result.output
    window, command = _labels(by_window), _labels(by_command)
    assert window.ids.max() > 20  # the shipped model finds nuclei there
    for array in ("classes", "ids", "provenance"):
        np.testing.assert_array_equal(getattr(window, array), getattr(command, array))

    # The command on the clipboard gives the same labels, from another folder.
    monkeypatch.chdir(tmp_path)
    name, *words = shlex.split(copied)
    assert name == "genselfdiff"
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    folders = (by_window.with_name(f"{by_window.name}.gsd.zarr"), tmp_path / "predicted")
    first, again = (_labels_sha256(folder) for folder in folders)
    assert first == again


def _labels_sha256(folder: Path) -> str:
    (path,) = folder.rglob("run.json")
    return str(json.loads(path.read_text())["labels_sha256"])
