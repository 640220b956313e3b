"""State and verbs: open, size of a pixel, accept, undo, bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, UNKNOWN
from napari_genselfdiff.errors import (
    ConfigError,
    ModelFileError,
    SlideError,
    StoreError,
    StoreLockedError,
)
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.session.parts import FakeEngine, make_session, predict

Opened = tuple[Session, FakeEngine]
VIEW = Region(100, 120, 200, 240)


def provenance(session: Session, region: Region) -> Any:
    assert session.store is not None
    return session.store.read(session.task.name, region).provenance


def test_opening_says_so_and_prepares_the_worker(closed: Opened, slide_path: Path) -> None:
    session, engine = closed
    changed = MagicMock()
    session.events.slide_changed.connect(changed)
    session.open_slide(slide_path)
    changed.assert_called()
    assert session.store is not None
    assert session.store.path == slide_path.with_name("case.tif.gsd.zarr")
    assert "case.tif" in session.status.text
    assert engine.requests[0][0] == "Warm-up"
    assert session.model is not None


def test_what_is_no_slide_leaves_the_old_one_open(opened: Opened, tmp_path: Path) -> None:
    session, _ = opened
    fake = tmp_path / "report.svs"
    fake.write_text("dear colleague")
    with pytest.raises(SlideError, match="text file"):
        session.open_slide(fake)
    assert session.slide is not None
    assert session.slide.path.name == "case.tif"
    with session.attempt():
        session.open_slide(fake)
    assert session.status.tone == "error"
    assert "\n" not in session.status.text


def test_unknown_pixel_size_is_asked_once_and_remembered(
    closed: Opened, tmp_path: Path, make_slide: Callable[..., Path]
) -> None:
    session, _ = closed
    path = make_slide(tmp_path / "unknown.tif", 128, 128, mpp=None, levels=1)
    session.open_slide(path)
    before = session.store
    assert before is None
    assert session.status.tone == "warning"
    with pytest.raises(ConfigError, match="µm/px"):
        session.predicting.start(VIEW)
    session.assume_mpp(0.5)
    assert session.store is not None
    assert session.store.mpp_assumed
    with pytest.raises(ConfigError, match="cannot change"):
        session.assume_mpp(0.25)
    session.open_slide(path)
    assert session.slide is not None
    assert session.slide.mpp == 0.5
    assert session.slide.mpp_assumed
    copied = path.with_name("a-copy-elsewhere.tif")  # without annotations beside it
    shutil.copyfile(path, copied)
    session.open_slide(copied)
    assert (session.slide.mpp, session.slide.mpp_assumed) == (0.5, True)


def test_a_second_window_may_look_but_not_write(
    opened: Opened, slide_path: Path, tmp_path: Path, bundled: Path
) -> None:
    other, _ = make_session(tmp_path / "other", bundled)
    other.open_slide(slide_path)
    assert other.store is not None
    assert other.store.read_only
    assert other.status.tone == "warning"
    with pytest.raises(StoreLockedError):
        other.correcting.accept(VIEW, 1.0)
    other.close()


def test_damaged_annotations_are_left_alone(closed: Opened, slide_path: Path) -> None:
    session, _ = closed
    root = slide_path.with_name("case.tif.gsd.zarr") / "zarr.json"
    session.open_slide(slide_path)
    session.close_slide()
    root.write_text("{broken")
    session.open_slide(slide_path)
    assert session.slide is not None
    assert session.store is None
    assert session.status.tone == "error"
    with pytest.raises(StoreError, match="damaged"):
        session.correcting.accept(VIEW, 1.0)
    assert root.read_text() == "{broken"


def test_altered_model_is_named_when_predicting(opened: Opened) -> None:
    session, _ = opened
    assert session.model is not None
    weights = session.model.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"12345678")
    session.refresh_models()
    with pytest.raises(ModelFileError):
        session.predicting.start(VIEW)
    assert session.predicting.problem(VIEW)


def test_accept_needs_a_look_from_near(opened: Opened) -> None:
    session, _ = opened
    with pytest.raises(ConfigError, match="zoom in"):
        session.correcting.accept(VIEW, 2.5)
    assert session.correcting.accept(VIEW, 1.0) == VIEW.area
    assert (provenance(session, VIEW) == ACCEPTED).all()
    assert session.correcting.accept(VIEW, 1.0) == 0


def test_clear_makes_unknown_and_undo_brings_back(opened: Opened) -> None:
    session, engine = opened
    predict(session, engine, VIEW, (150, 200, 12))
    session.correcting.accept(VIEW, 1.0)
    session.correcting.clear_to_unknown(VIEW)
    assert (provenance(session, VIEW) == UNKNOWN).all()
    operation = session.correcting.undo()
    assert operation is not None
    assert operation.what == "Clear to unknown"
    assert (provenance(session, VIEW) == ACCEPTED).all()
    assert session.correcting.redo() is not None
    assert (provenance(session, VIEW) == UNKNOWN).all()


def test_undo_of_nothing_says_so(opened: Opened) -> None:
    session, _ = opened
    assert session.correcting.undo() is None
    assert "nothing to undo" in session.status.text


def test_deleted_object_becomes_known_background(opened: Opened) -> None:
    session, engine = opened
    predict(session, engine, VIEW, (150, 200, 12), (250, 300, 9))
    assert session.correcting.delete_object(150, 205)
    assert not session.correcting.delete_object(150, 205)
    spot = Region(145, 195, 10, 10)
    assert session.store is not None
    window = session.store.read("Nuclei", spot)
    assert (window.classes == 0).all()
    assert (window.provenance == HUMAN).all()
    assert session.correcting.delete_object(250, 300)


def test_full_disk_is_one_line_and_loses_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, engine = opened
    predict(session, engine, VIEW, (150, 200, 12))
    before = provenance(session, VIEW)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "case.gsd.zarr")

    monkeypatch.setattr("napari_genselfdiff.annotation.disk.os.replace", full)
    with session.attempt():
        session.correcting.accept(VIEW, 1.0)
    assert session.status.tone == "error"
    assert "disk is full" in session.status.text
    monkeypatch.undo()
    np.testing.assert_array_equal(provenance(session, VIEW), before)
    assert session.correcting.accept(VIEW, 1.0) > 0


def test_read_only_folder_keeps_annotations_in_the_users_own(
    closed: Opened, slide_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = closed
    home = slide_path.parent / "home"
    monkeypatch.setattr(
        "napari_genselfdiff.session.session.default_store_path", lambda _: home / "case.gsd.zarr"
    )
    session.open_slide(slide_path)
    assert session.store is not None
    assert session.store.path.parent == home


def test_another_task_starts_empty_and_says_what_it_lacks(opened: Opened) -> None:
    session, _ = opened
    session.choose_task("Regions")
    assert session.model is None
    with pytest.raises(ModelFileError, match="no model"):
        session.open_model()
    assert session.store is not None
    assert "Regions" in session.store.tasks
    with pytest.raises(ConfigError, match="no task"):
        session.choose_task("Weather")


def test_closing_ends_the_engine_and_frees_the_lock(closed: Opened, slide_path: Path) -> None:
    session, engine = closed
    session.open_slide(slide_path)
    store = session.store
    session.close()
    assert engine.closed
    assert store is not None
    assert store.read_only
    shutil.rmtree(store.path)


def test_errors_of_listeners_are_told_too(opened: Opened) -> None:
    session, _ = opened

    def fails() -> None:
        raise StoreError("the disk is gone")

    session.events.task_changed.connect(fails)
    with session.attempt():
        session.choose_task("Glands")
    assert session.status.text == "The disk is gone."
