"""Exports by a process of their own: told how far they are, stopped, and gone afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.engine.engine import Engine
from napari_genselfdiff.engine.exporting import Exported, ExportRequest, Moment
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store
from tests.engine.test_engine import gone, poll_until

SIDE = 2048  # of a block of the export


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    """Annotations that take some tenths of a second to write, in two blocks."""
    with new_store(tmp_path, (SIDE, 2 * SIDE)) as store:
        for x in (0, SIDE):
            places = [(y, x + n, 9.0) for y in range(20, 2000, 40) for n in range(20, 2000, 40)]
            window = disks(Region(0, x, SIDE, SIDE), (30, x + 30, 9.0))
            for number, (y, at, _) in enumerate(places, start=1):
                window.classes[y - 9 : y + 9, at - x - 9 : at - x + 9] = 1
                window.ids[y - 9 : y + 9, at - x - 9 : at - x + 9] = number
            store.write_prediction("Cells", window, model_hash="m")
        yield store


def request(store: AnnotationStore, path: Path) -> ExportRequest:
    return ExportRequest(path, Moment.of(store), "Cells", path.with_name("no slide.svs"), None)


def test_a_process_writes_the_file_and_ends(store: AnnotationStore, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    with Engine() as engine:
        job = engine.export(request(store, path))
        poll_until(engine, lambda: job.state == "running")
        pid = engine.pids["files"]
        assert engine.pids.keys() == {"files"}
        poll_until(engine, lambda: job.done)
        result = job.value()
        assert isinstance(result, Exported)
        assert result.written == "5000 shapes"
        assert "no slide.svs" in result.slide_problem
        shares = [step.share for step in job.take_partials()]
        assert shares == sorted(shares)
        assert shares[-1] == 0.5  # after the first of two blocks
        assert len(json.loads(path.read_text())["features"]) == 5000
        poll_until(engine, lambda: not engine.pids)
        assert gone(pid)
        again = engine.export(request(store, tmp_path / "b.csv"))
        assert again.wait(60).written == "5000 rows"


def test_a_cancelled_export_leaves_no_file(store: AnnotationStore, tmp_path: Path) -> None:
    with Engine() as engine:
        job = engine.export(request(store, tmp_path / "a.geojson"))
        poll_until(engine, lambda: bool(job.partials) or job.state == "running")
        job.cancel()
        poll_until(engine, lambda: job.done, 2)
        assert job.state == "cancelled"
        poll_until(engine, lambda: not engine.pids)
    assert not list(tmp_path.glob("*a.geojson*"))
    assert not list(tmp_path.glob(".*a.geojson*"))
