"""What is measured of every object equals scikit-image, whatever block it lies in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skimage import measure

from napari_genselfdiff.annotation.exchange import shapes
from napari_genselfdiff.annotation.exchange.geojson import write_geojson
from napari_genselfdiff.annotation.exchange.table import write_table
from napari_genselfdiff.annotation.object_table import NUMBERS, ObjectTable, joined, object_tables
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store

VIEW = Region(100, 90, 600, 700)
SURE = {1: 0.9, 2: 0.6123}


class Painted:
    """Stands for a slide: any colour everywhere."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.rgb = np.random.default_rng(3).integers(40, 250, (*shape, 3)).astype(np.uint8)

    def read(self, region: Region, downsample: float) -> NDArray[np.uint8]:
        assert downsample == 1
        return self.rgb[region.slices]


def measured(store: AnnotationStore, slide: Any = None) -> ObjectTable:
    return joined(list(object_tables(store, "Cells", slide=slide)))


def predicted(tmp_path: Path) -> AnnotationStore:
    store = new_store(tmp_path)
    window = disks(VIEW, (300, 310, 20), (400, 500, 30))
    window.classes[window.ids == 2] = 7
    window.ids[390:395, 260:600] = np.where(window.ids[390:395, 260:600] > 0, 2, 0)
    window.confidences = SURE
    store.write_prediction("Cells", window, model_hash="m")
    return store


def test_every_column_is_that_of_scikit_image(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shapes, "BLOCK", 512)  # some objects lie across blocks
    monkeypatch.setattr(shapes, "_MARGIN", 40)
    store = new_store(tmp_path)
    spots = [(512, 300, 30), (515, 512, 25), (300, 510, 12), (700, 200, 9), (620, 620, 60)]
    store.write_prediction("Cells", disks(Region(0, 0, 900, 900), *spots), model_hash="m")
    slide = Painted(store.shape("Cells"))
    table = measured(store, slide)
    window = store.read("Cells", Region(0, 0, 900, 900))
    regions: Any = measure.regionprops
    found = {region.label: region for region in regions(window.ids.astype(np.int64))}
    assert sorted(table.ids.tolist()) == sorted(found)
    light = -np.log10(np.maximum(slide.rgb[:900, :900], 1) / 255.0)
    for row, object_id in enumerate(table.ids.tolist()):
        region = found[object_id]
        got = {name: column[row] for name, column in table.numbers.items()}
        assert (got["centroid_y"], got["centroid_x"]) == pytest.approx(region.centroid)
        assert got["area_um2"] == pytest.approx(region.area / 16)
        assert got["perimeter_um"] == pytest.approx(region.perimeter / 4)
        assert got["eccentricity"] == pytest.approx(region.eccentricity, abs=1e-6)
        round_ = min(4 * np.pi * region.area / region.perimeter**2, 1)
        assert got["circularity"] == pytest.approx(round_)
        density = light[tuple(region.coords.T)].mean(axis=0)
        vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        by_hand = np.linalg.solve(vectors.T, density)
        assert got["haematoxylin_od"] == pytest.approx(by_hand[0])
        assert got["eosin_od"] == pytest.approx(by_hand[1])


def test_confidence_is_of_what_a_model_made(tmp_path: Path) -> None:
    store = predicted(tmp_path)
    before = store.read("Cells", Region(700, 700, 40, 40))
    after = before.copy()
    after.classes[10:20, 10:20], after.ids[10:20, 10:20] = 1, 2**31
    store.write_edit("Cells", before, after, what="Brush")
    table = measured(store)
    assert table.numbers["confidence"][:2] == pytest.approx([0.9, 0.6123])
    assert np.isnan(table.numbers["confidence"][2])  # drawn by hand
    store.undo()
    store.undo()
    assert np.isnan(store.object_confidences("Cells", table.ids)).all()
    store.redo()
    assert store.object_confidences("Cells", table.ids[:2]) == pytest.approx([0.9, 0.6123])


def test_a_new_prediction_says_anew_how_sure_it_is_but_not_of_what_was_accepted(
    tmp_path: Path,
) -> None:
    store = predicted(tmp_path)
    ids = measured(store).ids
    store.accept("Cells", Region(280, 280, 60, 60))
    window = disks(VIEW, (300, 310, 21), (400, 500, 31), first=5)
    window.confidences = {5: 0.2, 6: 0.3}
    store.write_prediction("Cells", window, model_hash="n")
    assert store.object_confidences("Cells", ids) == pytest.approx([0.9, 0.3])


def test_files_hold_the_same_columns(tmp_path: Path) -> None:
    store = predicted(tmp_path)
    table = measured(store)
    write_table(store, "Cells", tmp_path / "t.csv")
    read = pd.read_csv(tmp_path / "t.csv")
    for name in NUMBERS:
        np.testing.assert_allclose(read[name], table.numbers[name], atol=0.006)
    write_geojson(store, "Cells", tmp_path / "t.geojson")
    features = json.loads((tmp_path / "t.geojson").read_text())["features"]
    first = features[0]["properties"]["measurements"]
    assert first["Confidence"] == pytest.approx(0.9)
    assert first["Perimeter µm"] == pytest.approx(table.numbers["perimeter_um"][0], abs=1e-4)
    assert first["Circularity"] == pytest.approx(table.numbers["circularity"][0], abs=1e-4)
    assert "Haematoxylin OD mean" not in first  # there was no slide to look at
    write_geojson(store, "Cells", tmp_path / "s.geojson", slide=Painted(store.shape("Cells")))  # type: ignore[arg-type]
    features = json.loads((tmp_path / "s.geojson").read_text())["features"]
    assert 0 < features[0]["properties"]["measurements"]["Haematoxylin OD mean"] < 2


def test_annotations_without_the_file_of_confidences_have_none(tmp_path: Path) -> None:
    import shutil

    store = predicted(tmp_path)
    shutil.rmtree(store.path / "tables" / "Cells.confidence")
    again = AnnotationStore.open_read_only(store.path)
    table = joined(list(object_tables(again, "Cells")))
    assert len(table) == 2
    assert np.isnan(table.numbers["confidence"]).all()
    assert len(joined([], ("Front",)).in_roi("Front")) == 0


def test_areas_have_the_form_and_stain_of_scikit_image(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shapes, "BLOCK", 512)  # the first of them lies across blocks
    store = new_store(tmp_path, (2600, 2400))
    height, width = store.shape("Regions")
    rows, columns = np.ogrid[:height, :width]
    mask = (rows - 400) ** 2 + 2 * (columns - 420) ** 2 < 200**2
    mask &= (rows - 500) ** 2 + (columns - 400) ** 2 > 40**2  # a hole
    mask[505:520, 100:590] = True
    mask |= (rows - 60) ** 2 + (columns - 30) ** 2 < 20**2
    mask[639:, :9] = True  # at the slide's edge
    before = store.read("Regions", Region(0, 0, height, width))
    after = before.copy()
    after.classes[mask] = 2
    store.write_edit("Regions", before, after, what="Brush")
    rgb = np.random.default_rng(1).integers(30, 250, (height, width, 3)).astype(np.uint8)

    class Slide4:
        def read(self, region: Region, downsample: float) -> NDArray[np.uint8]:
            assert downsample == 4
            return rgb[region.slices]

    label, regions = cast("Any", measure.label), cast("Any", measure.regionprops)
    found = regions(label(mask, connectivity=1))
    slide: Any = Slide4()
    table = joined(list(object_tables(store, "Regions", slide=slide)))
    light = -np.log10(rgb / 255.0)
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert len(table) == len(found) == 3
    for row in range(3):
        got = {name: column[row] for name, column in table.numbers.items()}
        centre = (got["centroid_y"] - 1.5) / 4, (got["centroid_x"] - 1.5) / 4
        region = min(found, key=lambda one: float(np.hypot(*np.subtract(one.centroid, centre))))
        assert centre == pytest.approx(region.centroid)
        assert got["area_um2"] == pytest.approx(region.area)
        assert got["perimeter_um"] == pytest.approx(region.perimeter)
        assert got["eccentricity"] == pytest.approx(region.eccentricity, abs=1e-9)
        round_ = min(4 * np.pi * region.area / region.perimeter**2, 1)
        assert got["circularity"] == pytest.approx(round_)
        by_hand = np.linalg.solve(vectors.T, light[tuple(region.coords.T)].mean(axis=0))
        assert got["haematoxylin_od"] == pytest.approx(by_hand[0])
        assert got["eosin_od"] == pytest.approx(by_hand[1])
        assert np.isnan(got["confidence"])
    write_geojson(store, "Regions", tmp_path / "r.geojson", slide=slide)
    features = json.loads((tmp_path / "r.geojson").read_text())["features"]
    measurements = [feature["properties"]["measurements"] for feature in features]
    assert [m["Perimeter µm"] for m in measurements] == pytest.approx(
        table.numbers["perimeter_um"], abs=1e-4
    )
    assert all("Eosin OD mean" in m and "Confidence" not in m for m in measurements)
