"""From the request to the annotations, and what happens in between."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from napari_genselfdiff.annotation.window import HUMAN, MODEL
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.profile import Profile, read_profile
from napari_genselfdiff.registry.card import ClassSpec
from napari_genselfdiff.session.predicting import LIVE
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.session.parts import FakeEngine, make_model, predict, region_done, tile_done

Opened = tuple[Session, FakeEngine]
VIEW = Region(100, 120, 200, 240)


def test_result_reaches_the_annotations(opened: Opened) -> None:
    session, engine = opened
    changed = MagicMock()
    session.events.annotations_changed.connect(changed)
    predict(session, engine, VIEW, (150, 200, 12), (250, 300, 9))
    assert session.store is not None
    window = session.store.read("Nuclei", VIEW)
    assert len(np.unique(window.ids)) == 3
    assert (window.provenance == MODEL).all()
    changed.assert_called()
    assert session.status.text.startswith("2 nuclei")
    assert session.predicting.activity is None


def test_tiles_are_shown_as_they_come(opened: Opened) -> None:
    session, engine = opened
    seen = MagicMock()
    session.events.tile_done.connect(seen)
    session.predicting.start(VIEW)
    engine.jobs[-1].on_partial(tile_done(Region(100, 120, 96, 96)))
    session.poll()
    (preview,) = seen.call_args.args
    assert preview.region == VIEW
    assert preview.core == Region(100, 120, 96, 96)
    activity = session.predicting.activity
    assert activity is not None
    assert activity.share == 0.25
    assert activity.eta_s == 2.0


def test_what_a_person_checked_is_kept_and_said(opened: Opened) -> None:
    session, engine = opened
    predict(session, engine, VIEW, (150, 200, 12))
    session.correcting.delete_object(150, 200)
    session.correcting.accept(Region(240, 290, 20, 20), 1.0)
    predict(session, engine, VIEW, (150, 200, 12), (250, 300, 9))
    assert session.store is not None
    window = session.store.read("Nuclei", VIEW)
    assert not window.ids[50, 80]
    assert (window.provenance == HUMAN).sum() > 400
    assert "Kept everything you checked" in session.status.text


def test_cancel_changes_nothing_and_a_late_result_is_dropped(opened: Opened) -> None:
    session, engine = opened
    session.predicting.start(VIEW)
    job = engine.jobs[-1]
    assert session.predicting.cancel()
    assert job.state == "cancelled"
    job.state, job.result = "done", region_done(VIEW, (150, 200, 12))
    session.poll()
    assert session.store is not None
    assert not session.store.read("Nuclei", VIEW).ids.any()
    assert not session.predicting.cancel()


def test_every_run_is_recorded_and_has_a_command(opened: Opened) -> None:
    session, engine = opened
    predict(session, engine, VIEW, (150, 200, 12))
    assert session.predicting.command == "", "a result without a profile cannot be repeated"
    session.predicting.start(VIEW)
    done = replace(region_done(VIEW, (150, 200, 12)), profile=Profile(threads=3))
    engine.jobs[-1].on_end("done", done)
    session.poll()
    slide, store = session.open_store()
    (path,) = store.path.glob("runs/*/run.json")
    record = json.loads(path.read_text())
    assert record["region"] == [VIEW.y, VIEW.x, VIEW.height, VIEW.width]
    assert len(record["labels_sha256"]) == 64
    assert read_profile(path) == Profile(threads=3), "serves as --profile"
    words = shlex.split(session.predicting.command)
    assert words[:3] == ["genselfdiff", "segment", str(slide.path)]
    assert words[words.index("--profile") + 1] == str(path)
    assert words[words.index("--region") + 1] == "100,120,200,240"
    assert "--mpp" not in words
    session.close_slide()
    assert session.predicting.command == ""


def test_a_new_request_takes_the_place_of_the_old(opened: Opened) -> None:
    session, engine = opened
    session.predicting.start(VIEW)
    session.predicting.start(Region(0, 0, 100, 100))
    assert [job.state for job in engine.jobs] == ["cancelled", "queued"]


def test_a_dead_worker_is_one_line(opened: Opened) -> None:
    session, engine = opened
    session.predicting.start(VIEW)
    engine.jobs[-1].on_end("failed", error="the worker ended by itself; try again")
    session.poll()
    assert session.status.tone == "error"
    assert session.status.text == "The worker ended by itself; try again."
    assert session.predicting.activity is None


def test_result_for_a_closed_slide_goes_nowhere(opened: Opened) -> None:
    session, engine = opened
    session.predicting.start(VIEW)
    session.close_slide()
    engine.jobs[-1].state = "done"
    engine.jobs[-1].result = region_done(VIEW, (150, 200, 12))
    session.poll()
    assert session.slide is None


def test_too_large_a_view_says_zoom_in(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = opened
    monkeypatch.setattr("napari_genselfdiff.session.predicting.MAX_SIDE", 300)
    whole = Region(0, 0, 600, 800)
    assert session.predicting.is_too_large(whole)
    assert not session.predicting.is_too_large(VIEW)
    assert "zoom in" in (session.predicting.problem(whole) or "")
    with pytest.raises(ConfigError, match="zoom in"):
        session.predicting.start(whole)
    with pytest.raises(ConfigError, match="on screen"):
        session.predicting.start(None)


def test_a_job_that_ended_by_cancelling_gives_nothing(opened: Opened) -> None:
    session, engine = opened
    session.predicting.start(VIEW)
    engine.jobs[-1].on_end("cancelled")
    session.poll()
    assert session.predicting.activity is None


def test_what_live_mode_predicted_in_a_row_is_undone_and_redone_at_once(opened: Opened) -> None:
    session, engine = opened
    store = session.store
    assert store is not None
    predict(session, engine, VIEW, (150, 200, 12))
    for shift in (0, 40, 80):
        region = VIEW.shifted(shift, shift)
        session.predicting.start(region, live=True)
        engine.jobs[-1].on_end("done", region_done(region, (250 + shift, 300, 9)))
        session.poll()
    session.correcting.accept(Region(240, 290, 20, 20), 1.0)
    before = store.read("Nuclei", Region(0, 0, 600, 800))
    assert [step.what for step in store.history] == ["Predict", *[LIVE] * 3, "Accept view"]
    undone = [session.correcting.undo() for _ in range(4)]
    assert [step and step.what for step in undone] == ["Accept view", LIVE, "Predict", None]
    assert "nothing to undo" in session.status.text
    assert not store.read("Nuclei", VIEW).provenance.any()
    redone = [session.correcting.redo() for _ in range(4)]
    assert [step and step.what for step in redone] == ["Predict", LIVE, "Accept view", None]
    after = store.read("Nuclei", Region(0, 0, 600, 800))
    np.testing.assert_array_equal(after.ids, before.ids)
    np.testing.assert_array_equal(after.provenance, before.provenance)
    session.correcting.undo()
    session.correcting.undo()
    assert "3 views" in session.status.text


def test_classes_only_the_model_knows_are_added_before_it_answers(
    opened: Opened, tmp_path: Path
) -> None:
    session, engine = opened
    mitosis = ClassSpec(value=7, name="Mitosis", color="#009E73", key="")
    known = session.task
    both = known.model_copy(update={"classes": (*known.classes, mitosis)})
    session.choose_model(
        session.registry.add(make_model(tmp_path / "both", 3, task=both, classes=2).path)
    )
    assert session.predicting.problem(VIEW) is None
    session.predicting.start(VIEW)
    assert [spec.name for spec in session.task.classes] == ["Nucleus", "Mitosis"]
    assert "also knows Mitosis" in session.status.text
    session.predicting.cancel()
    session.correcting.undo()
    assert session.task == known
    assert len(engine.jobs) == 1
