from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from napari_genselfdiff.annotation.exchange.table import COLUMNS, write_table
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store

VIEW = Region(100, 90, 600, 700)


def test_a_row_an_object(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    window = disks(VIEW, (300, 310, 20), (400, 500, 30), value=7)
    store.write_prediction("Cells", window, model_hash="m")
    store.accept("Cells", Region(300, 0, 1, 1100))  # one row of the first object
    file = tmp_path / "cells.csv"
    assert write_table(store, "Cells", file) == 2
    table = pd.read_csv(file)
    assert tuple(table.columns) == COLUMNS
    first = table.iloc[0]
    assert (first["id"], first["class"]) == (1, "Lymphocyte")
    assert (first["centroid_y"], first["centroid_x"]) == (300, 310)
    pixels = (window.ids == 1).sum()
    assert first["area_um2"] == pytest.approx(pixels / 16)
    assert first["accepted_share"] == pytest.approx(41 / pixels, abs=1e-4)
    assert first["model_share"] == pytest.approx(1 - 41 / pixels, abs=1e-4)


def test_areas_have_rows_without_ids_and_level0_centroids(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    before = store.read("Regions", Region(0, 0, 50, 50))  # a grid of level 0 by 4
    after = before.copy()
    after.classes[10:20, 30:40] = 1
    store.write_edit("Regions", before, after, what="Brush")
    file = tmp_path / "r.csv"
    assert write_table(store, "Regions", file) == 1
    (row,) = pd.read_csv(file).to_dict("records")
    assert pd.isna(row["id"])
    assert (row["centroid_y"], row["centroid_x"]) == (59.5, 139.5)  # pixels 40..79 and 120..159
    assert row["area_um2"] == pytest.approx(100.0)
    assert row["human_share"] == 1.0


def test_an_empty_task_gives_a_table_without_rows(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert write_table(store, "Cells", tmp_path / "t.csv") == 0
    assert tuple(pd.read_csv(tmp_path / "t.csv").columns) == COLUMNS
    with pytest.raises(ConfigError, match="no task"):
        write_table(store, "Moon", tmp_path / "t.csv")
