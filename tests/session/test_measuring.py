"""Measuring beside everything else, regions of interest, and what becomes out of date."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.engine.tasks import Context, measure
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.measuring import Measured, MeasuringDone, measure_task
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.session.parts import FakeEngine, predict

VIEW = Region(0, 0, 200, 300)
SQUARE = [(99.5, 99.5), (99.5, 299.5), (299.5, 299.5), (299.5, 99.5)]

Opened = tuple[Session, FakeEngine]


def end(session: Session, engine: FakeEngine) -> Measured:
    """Do what the worker would."""
    slide, store = session.open_store()
    *steps, result = measure_task(store, session.task.name, slide)
    assert isinstance(result, Measured)
    for step in steps:
        engine.jobs[-1].on_partial(step)
    session.poll()
    engine.jobs[-1].on_end("done", result)
    session.poll()
    return result


def is_stale(session: Session) -> bool:
    return session.measuring.is_stale


def test_it_tells_how_far_it_is_and_what_was_found(opened: Opened) -> None:
    session, engine = opened
    with pytest.raises(ConfigError, match="nothing is annotated"):
        session.measuring.start()
    predict(session, engine, VIEW, (60, 60, 12), (120, 200, 15))
    session.measuring.start()
    assert engine.requests[-1][0] == "Measure"
    with pytest.raises(ConfigError, match="being measured"):
        session.measuring.start()
    engine.jobs[-1].on_partial(MeasuringDone(0.25, 6.0))
    session.poll()
    activity = session.measuring.activity
    assert activity is not None
    assert (activity.what, activity.share, activity.eta_s) == ("Measuring nuclei: 25%", 0.25, 6.0)
    found = end(session, engine)
    assert session.measuring.activity is None
    assert session.measuring.measured is found
    assert len(found.table) == 2
    assert found.places[0].classes[0].objects == 2
    assert found.places[0].tissue_mm2 is not None
    assert not np.isnan(found.table.numbers["haematoxylin_od"]).any()
    assert "Measured 2 nuclei" in session.status.text


def test_it_is_out_of_date_after_any_change(opened: Opened) -> None:
    session, engine = opened
    predict(session, engine, VIEW, (60, 60, 12), (120, 200, 15))
    session.measuring.start()
    end(session, engine)
    assert not is_stale(session)
    session.correcting.delete_object(60, 60)
    assert is_stale(session)
    session.measuring.start()
    session.correcting.undo()  # while it is being measured
    end(session, engine)
    assert is_stale(session)
    session.measuring.start()
    end(session, engine)
    session.measuring.add_roi(SQUARE)
    assert is_stale(session)


def test_cancel_keeps_what_was_measured_before(opened: Opened) -> None:
    session, engine = opened
    assert not session.measuring.cancel()
    predict(session, engine, VIEW, (60, 60, 12))
    session.measuring.start()
    found = end(session, engine)
    session.measuring.start()
    assert session.measuring.cancel()
    assert engine.jobs[-1].state == "cancelled"
    assert session.measuring.measured is found
    session.choose_task("Glands")
    assert session.measuring.measured is None


def test_regions_of_interest_come_and_go_with_undo(opened: Opened) -> None:
    session, _ = opened
    told: list[list[str]] = []
    names = session.measuring
    session.events.rois_changed.connect(lambda: told.append([roi.name for roi in names.rois]))
    session.measuring.add_roi(SQUARE)
    session.measuring.add_roi([(y + 250, x) for y, x in SQUARE])
    session.measuring.rename_roi("ROI 1", "Front")
    session.measuring.remove_roi("ROI 2")
    session.correcting.undo()
    session.correcting.undo()
    assert told == [
        ["ROI 1"],
        ["ROI 1", "ROI 2"],
        ["Front", "ROI 2"],
        ["Front"],
        ["Front", "ROI 2"],
        ["ROI 1", "ROI 2"],
    ]
    session.close_slide()
    assert told[-1] == []


def test_the_workers_task_reads_what_is_on_disk(opened: Opened) -> None:
    session, engine = opened
    predict(session, engine, VIEW, (60, 60, 12), (120, 200, 15))
    session.measuring.add_roi(SQUARE)
    slide, store = session.open_store()
    context = Context()
    try:
        steps = measure(context, store.path, None, "Nuclei", slide.path, None, None)
        shares, result = [], None
        while True:
            try:
                shares.append(next(steps).share)
            except StopIteration as ended:
                result = ended.value
                break
    finally:
        context.close()
    assert shares[-1] == 1
    assert result is not None
    assert [place.name for place in result.places] == ["Whole slide", "ROI 1"]
    assert result.places[1].classes[0].objects == 1
    stopped: Any = measure_task(store, "Nuclei", slide, should_stop=lambda: True)
    assert not any(isinstance(step, Measured) for step in stopped)
