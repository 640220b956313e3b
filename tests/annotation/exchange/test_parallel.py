from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.annotation.exchange import parallel, shapes
from napari_genselfdiff.annotation.exchange.geojson import write_geojson
from napari_genselfdiff.annotation.exchange.parallel import write_objects
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.engine.workers import LocalWorkers
from napari_genselfdiff.errors import JobFailedError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from tests.annotation.builders import disks, new_store


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    """Many small objects, and one that reaches over several blocks."""
    store = new_store(tmp_path)
    rng = np.random.default_rng(3)
    places = rng.uniform(60, 1000, (60, 2)).tolist()
    many = disks(Region(20, 30, 1200, 1000), *((y, x, 7.0) for y, x in places), (500, 400, 150.0))
    store.write_prediction("Nuclei", many, model_hash="0" * 64)
    return store


def test_many_hands_write_the_same_file(
    store: AnnotationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (shapes, parallel):
        monkeypatch.setattr(module, "BLOCK", 512)
    monkeypatch.setattr(shapes, "_MARGIN", 16)
    alone, together = tmp_path / "alone.geojson", tmp_path / "together.geojson"
    number = write_geojson(store, "Nuclei", alone, provenance={"model": "m"})
    with ThreadPoolExecutor(3) as pool:
        assert write_objects(store, "Nuclei", together, pool.submit, provenance={"model": "m"}) == (
            number
        )
    assert "Haematoxylin" not in together.read_text()
    assert number == store.summary("Nuclei")["objects"]["Nucleus"] >= 20
    assert _undated(alone) == _undated(together)


def test_other_processes_can_do_it_and_see_the_slide(
    store: AnnotationStore, tmp_path: Path, make_slide: Callable[..., Path]
) -> None:
    alone, together = tmp_path / "alone.geojson", tmp_path / "together.geojson"
    with open_slide(make_slide(tmp_path / "case.tif", 1300, 1100)) as slide:
        write_geojson(store, "Nuclei", alone, slide=slide)
        workers = LocalWorkers(1, 0)
        try:
            write_objects(store, "Nuclei", together, workers.submit, slide=slide)
        finally:
            workers.close()
    assert "Haematoxylin OD mean" in together.read_text()
    assert _undated(alone) == _undated(together)


def test_a_dead_process_is_said_and_leaves_the_old_file(
    store: AnnotationStore, tmp_path: Path
) -> None:
    path = tmp_path / "cells.geojson"
    path.write_text("old")

    def submit(*_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("killed"))
        return future

    with pytest.raises(JobFailedError, match="export them again"):
        write_objects(store, "Nuclei", path, submit)
    assert [file.name for file in tmp_path.glob("*geojson*")] == ["cells.geojson"]
    assert path.read_text() == "old"


def _undated(path: Path) -> list[str]:
    """Lines of a file but that which says when it was written."""
    return [line for line in path.read_text().splitlines() if not line.startswith('"genselfdiff"')]
