"""``genselfdiff measure``, and exports restricted to a region of interest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from tests.annotation.builders import store_of
from tests.commands.conftest import Run

SQUARE = [(-0.5, -0.5), (-0.5, 199.5), (199.5, 199.5), (199.5, -0.5)]


@pytest.fixture
def annotated(tmp_path: Path, make_slide: Callable[..., Path]) -> Path:
    """Annotations of a real slide with two square nuclei, one in the region of interest."""
    path = make_slide(tmp_path / "case.tif", 600, 800, levels=2)
    with open_slide(path) as slide:
        store = store_of(slide, tmp_path / "case.tif.gsd.zarr")
    store.add_task(NUCLEI)
    before = store.read("Nuclei", Region(0, 0, 600, 800))
    after = before.copy()
    for number, (y, x) in enumerate([(50, 60), (400, 500)], start=1):
        after.classes[y : y + 20, x : x + 20] = 1
        after.ids[y : y + 20, x : x + 20] = 4_000_000_000 + number
    store.write_edit("Nuclei", before, after, what="Brush")
    store.accept("Nuclei", Region(0, 0, 200, 100))
    store.add_roi("Nuclei", "Front", SQUARE)
    store.close()
    return store.path


def test_classes_are_measured_on_the_slide_and_in_each_region(run: Run, annotated: Path) -> None:
    found = json.loads(run("measure", annotated, "--json").stdout)
    assert (found["schema"], found["task"], found["mpp"]) == (1, "Nuclei", 0.25)
    whole, front = found["places"]
    assert [whole["name"], front["name"]] == ["Whole slide", "Front"]
    assert whole["classes"][0]["objects"] == 2
    (inside,) = front["classes"]
    assert inside["objects"] == 1
    assert inside["area_mm2"] == pytest.approx(400 / 16e6)
    assert front["area_mm2"] == pytest.approx(40_000 / 16e6)
    assert front["known"] == pytest.approx(0.5)
    assert inside["of_place"] == pytest.approx(0.01)
    assert inside["per_mm2"] == pytest.approx(1 / 0.0025)
    assert whole["tissue_mm2"] is not None
    said = run("measure", annotated)
    assert "Front" in said.stdout
    assert "only 50% of it is annotated" in said.stderr


def test_exports_can_be_restricted(run: Run, annotated: Path, tmp_path: Path) -> None:
    assert "1 rows" in run("export", annotated, "--to", tmp_path / "a.csv", "--roi", "front").stdout
    (row,) = pd.read_csv(tmp_path / "a.csv").to_dict("records")
    assert row["rois"] == "Front"
    assert np.isnan(row["confidence"])  # drawn by hand
    assert 0 <= row["haematoxylin_od"] < 3
    run("export", annotated, "--to", tmp_path / "a.geojson", "--roi", "Front")
    outline, nucleus = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert outline["properties"]["name"] == "Front"
    assert "Haematoxylin OD mean" in nucleus["properties"]["measurements"]
    for wrong in (("b.csv", "Back"), ("b.ome.tif", "Front")):
        refused = run("export", annotated, "--to", tmp_path / wrong[0], "--roi", wrong[1], code=1)
        assert "Error:" in refused.stderr
        assert not (tmp_path / wrong[0]).exists()
