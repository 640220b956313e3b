"""Regions of interest: drawn, named, kept with the history, and what is measured in them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_genselfdiff.annotation.exchange.geojson import read_geojson, write_geojson
from napari_genselfdiff.annotation.exchange.table import write_table
from napari_genselfdiff.annotation.object_table import joined, object_tables
from napari_genselfdiff.annotation.places import WHOLE, measure_places
from napari_genselfdiff.annotation.rois import free_name, new_roi
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import ConfigError, StoreCorruptError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store, reopen

SQUARE = [(99.5, 99.5), (99.5, 299.5), (299.5, 299.5), (299.5, 99.5)]
"""Pixels 100 to 299 of level 0: 200 x 200."""
VIEW = Region(0, 0, 1000, 1000)


def names(store: AnnotationStore) -> list[str]:
    return [roi.name for roi in store.rois]


def test_they_follow_undo_redo_and_a_restart(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    told: list[int] = []
    store.events.history_changed.connect(lambda: told.append(1))
    store.add_roi("Cells", " Tumour front ", SQUARE)
    store.add_roi("Cells", "Stroma", [(y + 300, x) for y, x in SQUARE])
    store.rename_roi("Cells", "stroma", "Margin")
    store.remove_roi("Cells", "Tumour front")
    assert names(store) == ["Margin"]
    assert len(told) == 4
    assert [step.what for step in store.history] == [
        "Add Tumour front",
        "Add Stroma",
        "Rename Stroma to Margin",
        "Remove Tumour front",
    ]
    for expected in (["Tumour front", "Margin"], ["Tumour front", "Stroma"], ["Tumour front"], []):
        store.undo()
        assert names(store) == expected
    store.redo()
    store.close()
    again = reopen(store.path)
    assert names(again) == ["Tumour front"]
    again.redo()
    assert names(again) == ["Tumour front", "Stroma"]
    again.close()


REFUSED: tuple[tuple[str, list[tuple[float, float]], str], ...] = (
    ("", SQUARE, "name"),
    ("n" * 65, SQUARE, "name"),
    ("Line", [(0, 0), (5, 5)], "points"),
    ("Flat", [(0, 0), (0, 9), (0, 5)], "encloses nothing"),
    ("Far", [(y - 5000, x) for y, x in SQUARE], "beside the slide"),
    ("first", SQUARE, "one name"),
    ("Nowhere", [(float("nan"), 0), (0, 9), (9, 9)], "points"),
)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.add_roi("Cells", "First", SQUARE)
    for name, points, problem in REFUSED:
        with pytest.raises(ConfigError, match=problem):
            store.add_roi("Cells", name, points)
    assert names(store) == ["First"]
    with pytest.raises(ConfigError, match="the slide has First"):
        store.remove_roi("Cells", "Second")
    assert free_name([new_roi("roi 1", SQUARE)]) == "ROI 2"


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for data in (b"{", b"[]", b'{"rois": [{"name": "a"}]}', b"[" * 100_000):
        (store.path / "rois.json").write_bytes(data)
        with pytest.raises(StoreCorruptError, match="regions of interest are damaged"):
            _ = store.rois


def test_an_outline_that_crosses_itself_counts_every_part_it_goes_around() -> None:
    eight = new_roi("Eight", [(-0.5, -0.5), (9.5, 9.5), (9.5, -0.5), (-0.5, 9.5)])
    assert eight.area((100, 100)) == pytest.approx(50)
    assert eight.area((5, 100)) == pytest.approx(25)  # cut by the slide's border
    mask = eight.mask(Region(0, 0, 10, 10), 1)
    assert mask is not None
    assert not mask[4, 0]
    assert mask[0, 4]
    assert eight.mask(Region(20, 20, 4, 4), 1) is None


def test_numbers_worked_out_by_hand(tmp_path: Path) -> None:
    """0.25 µm per pixel: the square of 200 x 200 pixels is 0.05 x 0.05 mm = 0.0025 mm²."""
    store = new_store(tmp_path)
    cells = [(150, 150, 5), (250, 250, 8), (299, 150, 6), (302, 200, 6), (600, 600, 10)]
    window = disks(VIEW, *cells)
    window.classes[window.ids == 2] = 7
    store.write_prediction("Cells", window, model_hash="m")
    roi = store.add_roi("Cells", "Front", SQUARE)
    tissue = SimpleNamespace(mask=np.zeros((130, 110), bool), downsample=10.0)
    tissue.mask[:20, :] = True  # level-0 rows 0 to 199
    table = joined(list(object_tables(store, "Cells", rois=store.rois)))
    assert table.in_roi("Front").tolist() == [True, True, True, False, False]
    whole, front = measure_places(store, "Cells", [roi], table, tissue)
    assert (whole.name, front.name) == (WHOLE, "Front")
    assert whole.area_mm2 == pytest.approx(0.25**2)  # 1000 pixels a side are annotated
    assert whole.tissue_mm2 == pytest.approx(200 * 1100 * 0.25**2 / 1e6)
    assert front.area_mm2 == pytest.approx(0.0025)
    assert front.tissue_mm2 == pytest.approx(0.00125)  # its upper half
    assert front.known == pytest.approx(1)
    tumour, lymphocyte = front.classes
    assert (tumour.objects, lymphocyte.objects) == (2, 1)
    pixels = int((window.classes[100:300, 100:300] == 1).sum())
    assert tumour.area_mm2 == pytest.approx(pixels / 16e6)
    assert tumour.of_place == pytest.approx(pixels / 40_000)
    assert tumour.of_tissue == pytest.approx(pixels / 20_000)
    assert tumour.per_mm2 == pytest.approx(800)
    assert tumour.per_mm2_tissue == pytest.approx(1600)
    assert whole.classes[0].objects == 4
    assert whole.classes[0].per_mm2 == pytest.approx(64)


def test_exports_are_restricted_and_show_the_outline(tmp_path: Path) -> None:
    import pandas as pd

    store = new_store(tmp_path)
    window = disks(VIEW, (150, 150, 5), (600, 600, 10))
    store.write_prediction("Cells", window, model_hash="m")
    store.add_roi("Cells", "Front", SQUARE)
    assert write_table(store, "Cells", tmp_path / "all.csv") == 2
    assert list(pd.read_csv(tmp_path / "all.csv")["rois"].fillna("")) == ["Front", ""]
    assert write_table(store, "Cells", tmp_path / "one.csv", roi="front") == 1
    with pytest.raises(ConfigError, match="no region of interest 'Back'"):
        write_table(store, "Cells", tmp_path / "none.csv", roi="Back")
    assert write_geojson(store, "Cells", tmp_path / "one.geojson", roi="Front") == 1
    outline, cell = json.loads((tmp_path / "one.geojson").read_text())["features"]
    assert outline["properties"]["objectType"] == "annotation"
    assert outline["properties"]["name"] == "Front"
    assert len(outline["properties"]["color"]) == 3
    ring = outline["geometry"]["coordinates"][0]
    assert sorted(map(tuple, ring[:-1])) == [(100, 100), (100, 300), (300, 100), (300, 300)]
    assert cell["properties"]["objectType"] == "detection"
    heard: list[str] = []
    store.events.notice.connect(heard.append)
    assert read_geojson(tmp_path / "one.geojson", store, "Cells") == 1  # the outline is no object
    assert "1 regions of interest were there already" in heard[0]


def test_areas_are_cut_at_the_border(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    before = store.read("Regions", Region(0, 0, 60, 60))  # a grid of level 0 by 4
    after = before.copy()
    after.classes[...] = 2
    store.write_edit("Regions", before, after, what="Brush")
    roi = store.add_roi("Regions", "Front", SQUARE)  # pixels 25 to 74 of the grid
    (table,) = object_tables(store, "Regions", rois=[roi], within=roi)
    assert table.numbers["area_um2"].tolist() == [35 * 35]
    assert write_geojson(store, "Regions", tmp_path / "a.geojson", roi="Front") == 1
    area = json.loads((tmp_path / "a.geojson").read_text())["features"][1]
    ring = area["geometry"]["coordinates"][0]
    assert sorted(map(tuple, ring[:-1])) == [(100, 100), (100, 240), (240, 100), (240, 240)]
    _, front = measure_places(store, "Regions", [roi], None, None)
    assert front.known == pytest.approx(0.49)
    assert front.classes[1].of_place == pytest.approx(0.49)
    assert front.classes[1].objects is None
    assert front.classes[1].of_tissue is None
