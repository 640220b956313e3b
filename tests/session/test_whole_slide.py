"""Segment slide while one works: whose pixels win, pause, leaving and coming back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.annotation.runs import unfinished_runs
from napari_genselfdiff.annotation.store import ACCEPTED, HUMAN
from napari_genselfdiff.engine.slide_request import SlideRequest
from napari_genselfdiff.engine.slide_tasks import forget
from napari_genselfdiff.engine.workers import HereWorkers
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction import plan as plan_module
from napari_genselfdiff.session import taking_over
from napari_genselfdiff.session import whole_slide as module
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.session.parts import FakeEngine

Opened = tuple[Session, FakeEngine]
SHAPE = (600, 800)
WHOLE = Region(0, 0, *SHAPE)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small blocks and pieces, so that there are many."""
    monkeypatch.setattr(plan_module, "MARGIN", 48)
    original = SlideRequest

    def with_small_blocks(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{"block": 288, **kwargs})

    monkeypatch.setattr(module, "SlideRequest", with_small_blocks)
    monkeypatch.setattr(taking_over, "PIECE", 288)
    yield
    forget()


@pytest.fixture
def session(opened: Opened) -> Session:
    opened[0].whole_slide.make_workers = lambda _number: HereWorkers()
    return opened[0]


def poll_until(session: Session, what: Any, most: int = 4000) -> None:
    import time

    for _ in range(most):
        session.poll()
        if what():
            return
        time.sleep(0.002)
    raise AssertionError(f"never came: {session.status.text}")


def state(session: Session) -> str:
    return session.whole_slide.state


def read(session: Session) -> Any:
    assert session.store is not None
    return session.store.read("Nuclei", WHOLE)


def whole(session: Session) -> Any:
    session.whole_slide.start()
    poll_until(session, lambda: state(session) == "idle")
    return read(session)


def test_a_slide_is_segmented_and_said_so(session: Session) -> None:
    window = whole(session)
    assert "The slide is segmented" in session.status.text
    assert session.status.tone == "good"
    assert (window.provenance == 1).mean() > 0.5
    assert session.store is not None
    assert not unfinished_runs(session.store.path)
    assert len(list(session.store.path.glob("runs/*/run.json"))) == 1


def test_what_one_draws_and_accepts_meanwhile_stays(session: Session) -> None:
    """The editor is used all the time while the run goes on; neither overwrites the other."""
    store, rng = session.store, np.random.default_rng(1)
    assert store is not None
    session.whole_slide.start()
    said: dict[tuple[int, int], int] = {}
    strokes = 0

    def work() -> bool:
        nonlocal strokes
        if state(session) == "idle":
            return True
        y, x = int(rng.integers(0, 560)), int(rng.integers(0, 760))
        spot = Region(y, x, 40, 40)
        if strokes < 12:
            strokes += 1
            before = store.read("Nuclei", spot)
            after = before.copy()
            value = strokes % 2
            after.classes[8:20, 8:20] = value
            after.ids[8:20, 8:20] = 4_000_000_000 * value
            after.provenance[8:20, 8:20] = HUMAN
            store.write_edit("Nuclei", before, after, what="Brush")
            there = store.read("Nuclei", spot)
            for yy, xx in zip(*np.nonzero(there.provenance >= ACCEPTED), strict=True):
                said[y + int(yy), x + int(xx)] = int(there.classes[yy, xx])
        return False

    poll_until(session, work)
    window = read(session)
    assert strokes == 12
    assert len(said) >= 12 * 12
    for place, value in said.items():
        assert window.provenance[place] >= ACCEPTED
        assert window.classes[place] == value


def test_nothing_is_taken_over_where_one_edits(session: Session) -> None:
    segmenting, edited = session.whole_slide, Region(20, 20, 150, 150)
    segmenting.edited = lambda: edited
    segmenting.start()
    running = segmenting._running
    assert running is not None
    poll_until(session, lambda: running.work.finished and running.work.idle)
    for _ in range(200):
        session.poll()
    there = read(session)
    assert not there.provenance[edited.slices].any()
    assert (there.provenance[:, 600:] == 1).any(), "elsewhere results come"
    assert state(session) == "running"
    segmenting.edited = lambda: None
    poll_until(session, lambda: state(session) == "idle")
    assert read(session).provenance[edited.slices].any()


def test_nothing_changes_under_a_stroke(session: Session) -> None:
    segmenting = session.whole_slide
    segmenting.busy = lambda: True
    segmenting.start()
    running = segmenting._running
    assert running is not None
    poll_until(session, lambda: running.work.finished and running.work.idle)
    assert not read(session).provenance.any()
    segmenting.busy = lambda: False
    poll_until(session, lambda: state(session) == "idle")
    assert read(session).provenance.any()


def test_undo_takes_back_what_a_person_did_and_nothing_else(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, segmenting = session.store, session.whole_slide
    assert store is not None
    monkeypatch.setattr(taking_over, "_REDO_S", 0.3)
    segmenting.start()
    with pytest.raises(ConfigError, match="nothing of yours"):
        session.correcting.undo()
    spot = Region(500, 700, 40, 40)
    before = store.read("Nuclei", spot)
    after = before.copy()
    after.classes[5:25, 5:25], after.ids[5:25, 5:25] = 1, 4_000_000_000
    store.write_edit("Nuclei", before, after, what="Brush")
    poll_until(session, lambda: sum(s.what == "Segment slide" for s in store.history) >= 2)
    undone = session.correcting.undo()
    assert undone is not None
    assert undone.what == "Brush"
    assert not read(session).provenance.any(), "what came since is out of the way"
    assert session.correcting.redo() is not None, "and for a moment it can be redone"
    assert (read(session).provenance == HUMAN).sum() >= 400
    session.correcting.undo()
    poll_until(session, lambda: state(session) == "idle")
    ended = read(session)
    assert not (ended.provenance == HUMAN).any()
    store.clear_to_unknown("Nuclei", WHOLE)
    again = whole(session)
    np.testing.assert_array_equal(ended.classes, again.classes)
    np.testing.assert_array_equal(ended.provenance, again.provenance)


def test_undo_takes_a_whole_run_back_and_redo_brings_it_again(session: Session) -> None:
    window = whole(session)
    session.correcting.undo()
    assert not read(session).provenance.any()
    assert "Segment slide" in session.status.text
    session.correcting.redo()
    np.testing.assert_array_equal(read(session).ids, window.ids)


def test_pause_leave_come_back_and_go_on(
    session: Session, slide_path: Path, opened: Opened
) -> None:
    segmenting = session.whole_slide
    segmenting.start()
    running = segmenting._running
    assert running is not None
    poll_until(session, lambda: running.work.share > 0.3)
    segmenting.pause()
    poll_until(session, lambda: state(session) == "paused")
    share = running.work.share
    for _ in range(20):
        session.poll()
    assert running.work.share == share
    assert "Paused" in str(segmenting.activity)
    session.close_slide()
    assert segmenting.activity is None
    session.open_slide(slide_path)
    offered = segmenting.unfinished()
    assert offered is not None
    assert 0 <= offered.share < 1
    with pytest.raises(ConfigError, match="interrupted: go on with it, or discard it"):
        segmenting.start()
    segmenting.go_on()
    assert segmenting._running is not None
    assert segmenting._running.work.tiles > 0, "what was answered is not answered again"
    poll_until(session, lambda: state(session) == "idle")
    assert segmenting.unfinished() is None
    resumed = read(session)
    assert session.store is not None
    session.store.clear_to_unknown("Nuclei", WHOLE)
    again = whole(session)
    np.testing.assert_array_equal(resumed.classes, again.classes)
    np.testing.assert_array_equal(resumed.provenance, again.provenance)


def test_cancel_keeps_what_is_finished(session: Session) -> None:
    segmenting = session.whole_slide
    segmenting.start()
    poll_until(session, lambda: bool(read(session).provenance.any()))
    assert segmenting.cancel()
    assert segmenting.unfinished() is None
    assert read(session).provenance.any()
    assert "what was finished stays" in session.status.text
    assert not segmenting.cancel()


def test_a_failure_is_said_and_the_run_stays(session: Session, slide_path: Path) -> None:
    segmenting = session.whole_slide
    segmenting.start()
    slide_path.write_bytes(slide_path.read_bytes() + b"more")
    poll_until(session, lambda: state(session) == "idle")
    assert "has changed since the run began" in session.status.text
    assert session.status.tone == "error"
    assert segmenting.unfinished() is not None
    segmenting.discard()
    assert segmenting.unfinished() is None


def test_the_threshold_moves_the_tissue(session: Session, opened: Opened) -> None:
    """What is outlined is what is segmented."""
    engine, segmenting = opened[1], session.whole_slide
    assert session.slide is not None
    told: list[None] = []
    session.events.whole_slide_changed.connect(lambda: told.append(None))
    engine.tissue = lambda *request: engine._job("Find tissue", *request)  # type: ignore[attr-defined]
    segmenting.look(2.0)
    engine.jobs[-1].on_end("done", (plan_module.find_tissue(session.slide, 2.0), 2.0))
    session.poll()
    assert segmenting.tissue_share() == 0
    assert told
    with pytest.raises(ConfigError, match="no tissue was found; lower the threshold"):
        segmenting.start()
    assert session.store is not None
    assert not unfinished_runs(session.store.path)


def test_without_a_slide_the_reason_is_given(closed: Opened) -> None:
    session = closed[0]
    assert session.whole_slide.problem() == "no slide is open; open one first"
    with pytest.raises(ConfigError, match="no slide is open"):
        session.whole_slide.start()
