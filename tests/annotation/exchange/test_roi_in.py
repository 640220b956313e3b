"""Regions of interest go out with GeoJSON and come back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from napari_genselfdiff.annotation.exchange.geojson import write_geojson
from napari_genselfdiff.annotation.exchange.incoming import classes_in, import_file
from napari_genselfdiff.annotation.exchange.roi_in import ROI_MARK
from napari_genselfdiff.annotation.rois import MAX_ROIS
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import ExchangeError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store

SQUARE = [(99.5, 99.5), (99.5, 299.5), (299.5, 299.5), (299.5, 99.5)]
EIGHT = [(400.0, 400.0), (500.0, 500.0), (500.0, 400.0), (400.0, 500.0)]  # crosses itself
STAR = [(700.13, 300.5), (900.0, 380.25), (720.0, 460.0), (880.0, 290.0), (880.0, 470.0)]


def feature(ring: Any, name: Any = "Front", kind: str = "Polygon") -> dict[str, Any]:
    properties = {"name": name, "metadata": {"genselfdiff": ROI_MARK}}
    geometry = {"type": kind, "coordinates": [ring] if kind == "Polygon" else ring}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def written(folder: Path, *features: Any) -> Path:
    path = folder / "rois.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def box(y: float, x: float, side: float = 50) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def heard(store: AnnotationStore) -> list[str]:
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    return notices


@pytest.mark.parametrize("frame", ["level0", "qupath"])
@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz"])
def test_they_come_back_as_they_were(tmp_path: Path, frame: Any, suffix: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    store, other = new_store(tmp_path / "a"), new_store(tmp_path / "b")
    window = disks(Region(0, 0, 300, 300), (150, 150, 9))
    store.write_prediction("Cells", window, model_hash="m")
    for name, points in (("Front", SQUARE), ("Eight", EIGHT), ("Star", STAR)):
        store.add_roi("Cells", name, points)
    path = tmp_path / f"a{suffix}"
    write_geojson(store, "Cells", path, frame=frame, bounds=Region(7, 13, 1200, 1000))
    assert "" not in classes_in(path)  # nobody is asked for their class
    assert import_file(path, other, "Cells") == 1
    assert [roi.name for roi in other.rois] == ["Front", "Eight", "Star"]
    for one, again in zip(store.rois, other.rois, strict=True):
        assert again.shape.symmetric_difference(one.shape).area < 5  # a hundredth of a pixel around
    assert [step.what for step in other.history] == [
        f"Import {path.name}",
        f"Import regions of {path.name}",
    ]
    other.undo()
    assert other.rois == ()
    other.redo()
    assert len(other.rois) == 3


def test_outlines_alone_can_be_imported_and_are_not_doubled(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    notices = heard(store)
    path = written(tmp_path, feature(box(100, 100)), feature(box(300, 300), "Back"))
    assert import_file(path, store, "Cells") == 0
    assert [roi.name for roi in store.rois] == ["Front", "Back"]
    assert not notices
    with pytest.raises(ExchangeError, match="2 regions of interest were there already"):
        import_file(path, store, "Cells")
    written(tmp_path, feature(box(500, 500), "front"))  # another place of that name
    import_file(path, store, "Cells")
    assert [roi.name for roi in store.rois] == ["Front", "Back", "front (2)"]


def test_parts_that_lie_apart_stay_one(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    parts = [[box(100, 100)], [box(300, 100)], [box(100, 300)], [box(300, 300, 10)]]
    import_file(written(tmp_path, feature(parts, kind="MultiPolygon")), store, "Cells")
    (roi,) = store.rois
    expected = shapely.MultiPolygon([shapely.Polygon(part[0]) for part in parts])
    assert roi.shape.symmetric_difference(expected).area < 1e-6


def test_unusable_ones_are_counted(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    notices = heard(store)
    tangle = np.random.default_rng(0).integers(0, 900, (40_000, 2)).tolist()
    comb = [[[[x, 0.0], [x + 0.2, 0.0], [x, 900.0], [x, 0.0]]] for x in range(5000)]
    path = written(
        tmp_path,
        feature(box(100, 100)),
        feature(box(100, 100), name=7),
        feature(box(100, 100), name="x" * 65),
        feature([[0, 0], [9, 9]]),
        feature([[0, 0], ["9", 0], [9, 9], [0, 0]]),
        feature([[0, 0], [1e300, 0], [9, 9], [0, 0]]),
        feature(tangle),
        feature(comb, kind="MultiPolygon"),
        feature(box(0, 0), kind="Point"),
        feature(box(9000, 9000)),
        {"type": "Feature", "properties": feature([])["properties"], "geometry": {}},
    )
    import_file(path, store, "Cells")
    assert [roi.name for roi in store.rois] == ["Front"]
    assert "9 unusable regions of interest were left out" in notices[0]
    assert "1 regions of interest outside the slide were left out" in notices[0]


def test_no_more_than_a_slide_can_have(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    notices = heard(store)
    many = [feature(box(5 * n % 900, n % 700, 9), f"R{n}") for n in range(MAX_ROIS + 7)]
    import_file(written(tmp_path, *many), store, "Cells")
    assert len(store.rois) == MAX_ROIS
    assert "7 regions of interest beyond what a slide can have were left out" in notices[0]
    corners = np.array(box(0, 0, 100))[[0] * 40_000 + [1, 2, 3, 0]].tolist()
    notices.clear()
    store.undo()
    import_file(written(tmp_path, *(feature(corners, f"R{n}") for n in range(4))), store, "Cells")
    assert [roi.name for roi in store.rois] == [f"R{n}" for n in range(3)]
    assert "1 regions of interest beyond what a slide can have were left out" in notices[0]
