"""``genselfdiff export`` and ``import``: what is written comes back as the same masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile

from napari_genselfdiff.annotation.store import HUMAN, AnnotationStore
from napari_genselfdiff.annotation.tasks import NUCLEI, REGIONS
from napari_genselfdiff.slides.geometry import Region
from tests.commands.conftest import Run

SHAPE = (300, 400)


def _open(path: Path) -> AnnotationStore:
    return AnnotationStore.open(
        path, slide_path="case.tif", slide_hash="0" * 64, shape=SHAPE, mpp=0.25, mpp_assumed=False
    )


def _ids(path: Path) -> Any:
    store = AnnotationStore.open_read_only(path)
    try:
        return store.read("Nuclei", Region(0, 0, *SHAPE))
    finally:
        store.close()


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Return annotations with two nuclei, one of them with a hole."""
    path = tmp_path / "case.tif.gsd.zarr"
    store = _open(path)
    store.add_task(NUCLEI)
    before = store.read("Nuclei", Region(0, 0, *SHAPE))
    after = before.copy()
    for number, (y, x, radius) in enumerate([(60, 70, 20), (200, 300, 30)], start=1):
        rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
        far = (rows - y) ** 2 + (columns - x) ** 2
        inside = (far < radius**2) & ((far > 64) | (number == 2))
        after.classes[inside], after.ids[inside] = 1, 4_000_000_000 + number
    store.write_edit("Nuclei", before, after, what="Brush")
    store.close()
    return path


def test_geojson_comes_back_as_the_same_masks(run: Run, annotated: Path, tmp_path: Path) -> None:
    shapes = tmp_path / "out" / "nuclei.geojson"
    assert "2 shapes of Nuclei" in run("export", annotated, "--to", shapes).stdout
    features = json.loads(shapes.read_text())["features"]
    assert len(features) == 2
    other = tmp_path / "other.gsd.zarr"
    store = _open(other)
    store.add_task(NUCLEI)
    store.close()
    assert "2 shapes taken in" in run("import", shapes, "--into", other).stdout
    before, after = _ids(annotated), _ids(other)
    np.testing.assert_array_equal(after.classes, before.classes)
    assert len(np.unique(after.ids)) == 3
    assert (after.provenance[after.classes > 0] == HUMAN).all()


def test_labels_are_written_with_their_size(run: Run, annotated: Path, tmp_path: Path) -> None:
    run("export", annotated, "--to", tmp_path / "nuclei.ome.tif")
    with tifffile.TiffFile(tmp_path / "nuclei.ome.tif") as tif:
        np.testing.assert_array_equal(tif.asarray(), _ids(annotated).ids)
        assert 'PhysicalSizeX="0.25"' in str(tif.ome_metadata)


def test_table_has_a_row_for_every_nucleus(run: Run, annotated: Path, tmp_path: Path) -> None:
    assert "2 rows" in run("export", annotated, "--to", tmp_path / "nuclei.csv").stdout
    assert len((tmp_path / "nuclei.csv").read_text().splitlines()) == 3


def test_parquet_says_where_it_comes_from(run: Run, annotated: Path, tmp_path: Path) -> None:
    result = run("export", annotated, "--to", tmp_path / "nuclei.parquet")
    assert "2 rows" in result.stdout
    assert "case.tif cannot be opened: densities of stains" in result.stderr
    table = pd.read_parquet(tmp_path / "nuclei.parquet")
    assert table["centroid_y"].tolist() == [60, 200]
    assert table["haematoxylin_od"].isna().all()
    metadata = pq.read_schema(tmp_path / "nuclei.parquet").metadata
    about = json.loads(metadata[b"genselfdiff"])
    assert (about["checked_share"], about["mpp"], about["mpp_assumed"]) == (1.0, 0.25, False)


@pytest.mark.parametrize("name", ["a.geojson", "a.csv", "a.ome.tif"])
def test_qupaths_frame_needs_the_slide(
    run: Run, annotated: Path, tmp_path: Path, name: str
) -> None:
    result = run("export", annotated, "--to", tmp_path / name, "--frame", "qupath", code=1)
    assert "use --frame level0" in result.stderr
    assert not (tmp_path / name).exists()


def test_classes_of_the_file_are_named(run: Run, annotated: Path, tmp_path: Path) -> None:
    ring = [[0, 0], [9, 0], [9, 9], [0, 9]]
    features = [
        {"geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"label": name}}
        for name in ("TIL", "Ink")
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"features": features}))
    answer = ("--class", "TIL=Nucleus", "--class", "Ink=")
    result = run("import", tmp_path / "a.geojson", "--into", annotated, *answer)
    assert "1 shapes taken in" in result.stdout
    result = run("import", tmp_path / "a.geojson", "--into", annotated, "--class", "TIL", code=1)
    assert "--class TIL; THEIRS=OURS is needed" in result.stderr


def test_several_tasks_need_a_choice(run: Run, annotated: Path, tmp_path: Path) -> None:
    store = _open(annotated)
    store.add_task(REGIONS)
    store.close()
    result = run("export", annotated, "--to", tmp_path / "a.csv", code=1)
    assert "Nuclei, Regions, choose with --task" in result.stderr
    run("export", annotated, "--to", tmp_path / "a.csv", "--task", "Nuclei")
    assert "no task 'Glands'" in (
        run("export", annotated, "--to", tmp_path / "a.csv", "--task", "Glands", code=1).stderr
    )


def test_kinds_that_cannot_be_written_are_refused(
    run: Run, annotated: Path, tmp_path: Path
) -> None:
    result = run("export", annotated, "--to", tmp_path / "a.xlsx", code=1)
    assert "a.xlsx cannot be written; name it .geojson, .geojson.gz, .csv" in result.stderr


def test_file_that_is_no_geojson_changes_nothing(run: Run, annotated: Path, tmp_path: Path) -> None:
    before = _ids(annotated)
    (tmp_path / "bad.geojson").write_text('{"type": "FeatureCollection", "features": [')
    result = run("import", tmp_path / "bad.geojson", "--into", annotated, code=1)
    assert result.stderr.count("\n") == 1
    np.testing.assert_array_equal(_ids(annotated).ids, before.ids)


@pytest.mark.parametrize("verb", ["export", "import"])
def test_missing_annotations_are_one_line(run: Run, verb: str, tmp_path: Path) -> None:
    where = tmp_path / "none.gsd.zarr"
    arguments = (where, "--to", "a.csv") if verb == "export" else ("a.geojson", "--into", where)
    result = run(verb, *arguments, code=1)
    assert "none.gsd.zarr" in result.stderr
    assert result.stderr.count("\n") == 1
