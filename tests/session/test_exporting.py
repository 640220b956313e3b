"""Exports beside everything else: what they show, how they end, and what is left of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_genselfdiff.annotation.exchange.outgoing import KINDS
from napari_genselfdiff.engine.exporting import ExportDone, Exported, export, export_list
from napari_genselfdiff.engine.tasks import Context
from napari_genselfdiff.errors import ConfigError, JobFailedError
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.session.parts import FakeEngine, predict
from tests.session.test_measuring import end as end_measuring

VIEW = Region(0, 0, 200, 300)
DISKS = (60, 60, 12), (120, 200, 15)

Opened = tuple[Session, FakeEngine]


@pytest.fixture
def annotated(opened: Opened) -> Opened:
    predict(*opened, VIEW, *DISKS)
    return opened


def work(engine: FakeEngine, *, stop_after: int | None = None) -> list[ExportDone]:
    """Do what the worker would with the last request, perhaps until it is stopped."""
    context, asked = Context(), 0
    told: list[ExportDone] = []

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return stop_after is not None and asked > stop_after

    context.tell, context.should_stop = told.append, should_stop
    kind, request = engine.requests[-1]
    assert kind == "Export"
    steps = (export if hasattr(request, "slide") else export_list)(context, request)
    try:
        next(steps)
    except StopIteration as ended:
        state: Any = "cancelled" if ended.value is None else "done"
        engine.jobs[-1].on_end(state, ended.value)
    finally:
        context.close()
    return told


def shapes(path: Path) -> list[Any]:
    found: list[Any] = json.loads(path.read_text(encoding="utf-8"))["features"]
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix not in {"", ".zarr"})


def test_it_tells_how_far_it_is_and_what_was_written(annotated: Opened, tmp_path: Path) -> None:
    session, engine = annotated
    path = tmp_path / "a.geojson"
    session.exporting.start(path)
    assert session.status.text == "Exporting a.geojson as it is now; go on working."
    engine.jobs[-1].on_partial(ExportDone(0.25, 6.0))
    session.poll()
    activity = session.exporting.activity
    assert activity is not None
    assert (activity.what, activity.share, activity.eta_s) == ("Exporting a.geojson: 25%", 0.25, 6)
    with pytest.raises(ConfigError, match=r"a\.geojson is being exported; wait for it or cancel"):
        session.exporting.start(tmp_path / "b.geojson")
    work(engine)
    session.poll()
    assert session.exporting.activity is None
    assert session.status.text == "Exported 2 shapes of Nuclei to a.geojson."
    measurements = shapes(path)[0]["properties"]["measurements"]
    assert 0 <= measurements["Haematoxylin OD mean"] < 3  # the slide is at hand
    assert {"Perimeter µm", "Circularity", "Eccentricity", "Eosin OD mean"} <= measurements.keys()
    session.exporting.start(tmp_path / "b.csv", "qupath")
    work(engine)
    session.poll()
    assert len(pd.read_csv(tmp_path / "b.csv")) == 2


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_shows_what_was_there_when_it_began(
    annotated: Opened, tmp_path: Path, suffix: str
) -> None:
    session, engine = annotated
    plain, path = tmp_path / f"plain{suffix}", tmp_path / f"a{suffix}"
    session.exporting.start(plain)
    work(engine)
    session.poll()
    session.exporting.start(path)
    session.correcting.delete_object(60, 60)
    session.measuring.add_roi([(9.5, 9.5), (9.5, 99.5), (99.5, 99.5)])
    session.correcting.undo()
    session.correcting.undo()
    session.correcting.undo()  # the prediction itself
    session.correcting.accept(VIEW, 0.25)  # which can no longer be done again
    work(engine)
    session.poll()
    assert "as they were when the export began" in session.status.text
    assert same_content(plain, path)
    journal = session.open_store()[1].path / "journal"
    assert len(list(journal.glob("*.zip"))) == 1  # nothing is held any more


def same_content(a: Path, b: Path) -> bool:
    if a.name.endswith((".tif", ".tiff")):
        return np.array_equal(tifffile.imread(a), tifffile.imread(b))
    return a.read_bytes() == b.read_bytes()


def test_cancel_leaves_nothing_half_written(annotated: Opened, tmp_path: Path) -> None:
    session, engine = annotated
    assert not session.exporting.cancel()
    folder = tmp_path / "out"
    folder.mkdir()
    for suffix in KINDS:
        path = folder / f"a{suffix}"
        path.write_text("older")
        session.exporting.start(path)
        work(engine, stop_after=0)
        session.poll()
        assert session.exporting.activity is None
        assert path.read_text() == "older"
    session.exporting.start(folder / "a.csv")
    assert session.exporting.cancel()
    assert engine.jobs[-1].state == "cancelled"
    assert session.status.text == "Export cancelled; a.csv was not written."
    assert Counter(names(folder)) == Counter(f"a{suffix}" for suffix in KINDS)
    session.exporting.start(folder / "a.csv")  # and another one can begin
    work(engine)


def test_an_error_is_said_and_leaves_the_old_file(annotated: Opened, tmp_path: Path) -> None:
    session, engine = annotated
    with pytest.raises(ConfigError, match=r"a\.txt cannot be written"):
        session.exporting.start(tmp_path / "a.txt")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.csv").write_text("older")
    (folder / ".a.csv.theirs.partial").write_text("of another program")
    session.exporting.start(folder / "a.csv")
    (folder / ".a.csv.ours.partial").write_text("half")  # its process was killed
    engine.jobs[-1].on_end("failed", error="Export failed: its process was ended by the system")
    with pytest.raises(JobFailedError, match="ended by the system"):
        session.exporting.poll()
    assert session.exporting.activity is None
    assert sorted(path.name for path in folder.iterdir()) == [".a.csv.theirs.partial", "a.csv"]
    assert (folder / "a.csv").read_text() == "older"


def test_it_goes_on_when_the_slide_is_closed_and_ends_with_the_window(
    annotated: Opened, tmp_path: Path
) -> None:
    session, engine = annotated
    session.exporting.start(tmp_path / "a.geojson")
    session.close_slide()
    work(engine)
    session.poll()
    assert session.status.text == "Exported 2 shapes of Nuclei to a.geojson."
    with pytest.raises(ConfigError, match="no slide is open"):
        session.exporting.start(tmp_path / "b.geojson")


def test_closing_the_window_ends_it(annotated: Opened, tmp_path: Path) -> None:
    session, engine = annotated
    session.exporting.start(tmp_path / "a.geojson")
    (tmp_path / ".a.geojson.ours.partial").write_text("half")
    session.close()
    assert engine.jobs[-1].state == "cancelled"
    assert not list(tmp_path.glob("*.geojson*"))
    assert not list(tmp_path.glob(".*.partial"))


def test_without_the_slide_stains_are_left_out_and_that_is_said(
    annotated: Opened, tmp_path: Path
) -> None:
    session, engine = annotated
    slide, _ = session.open_store()
    session.exporting.start(tmp_path / "a.geojson")
    slide.path.rename(slide.path.with_name("away.tif"))
    work(engine)
    session.poll()
    assert "Stain densities are left out:" in session.status.text
    assert session.status.tone == "warning"
    measurements = shapes(tmp_path / "a.geojson")[0]["properties"]["measurements"]
    assert "Haematoxylin OD mean" not in measurements
    assert "Perimeter µm" in measurements


def test_the_list_is_written_as_it_is_shown(annotated: Opened, tmp_path: Path) -> None:
    session, engine = annotated
    with pytest.raises(ConfigError, match="nothing was measured"):
        session.exporting.start_list(tmp_path / "t.csv", np.arange(0))
    session.measuring.start()
    ids = end_measuring(session, engine).table.ids
    session.exporting.start_list(tmp_path / "t.csv", np.array([1, 0]))
    work(engine)
    session.poll()
    assert session.status.text == "Exported 2 rows to t.csv."
    assert pd.read_csv(tmp_path / "t.csv")["id"].tolist() == ids[[1, 0]].tolist()
    session.correcting.delete_object(60, 60)
    session.exporting.start_list(tmp_path / "t.parquet", np.array([1]))
    engine.jobs[-1].on_end("done", Exported("1 row"))
    session.poll()
    assert "of before the last changes" in session.status.text
