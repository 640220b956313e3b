from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_genselfdiff.annotation.exchange import json_features, shapes
from napari_genselfdiff.annotation.exchange.geojson import read_geojson, write_geojson
from napari_genselfdiff.annotation.store import ACCEPTED, HUMAN, MODEL, AnnotationStore, Window
from napari_genselfdiff.errors import ConfigError, ExchangeError, StoreError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store, open_store, whole
from tests.annotation.checks import check_store
from tests.annotation.strokes import work

VIEW = Region(100, 90, 600, 700)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = new_store(tmp_path_factory.mktemp("blank"))
    store.close()
    return store.path


def fresh(blank: Path, folder: Path, name: str = "case.gsd.zarr") -> AnnotationStore:
    return open_store(Path(shutil.copytree(blank, folder / name)))


@pytest.fixture
def store(blank: Path, tmp_path: Path) -> AnnotationStore:
    return fresh(blank, tmp_path)


def partition(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Ids renumbered in the order of their first pixels: the same for the same objects."""
    used, first, back = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(used > 0, first, -1)))
    return (order + (0 if used[0] == 0 else 1))[back].reshape(ids.shape)


def assert_same_masks(a: AnnotationStore, b: AnnotationStore, task: str) -> None:
    one, other = whole(a, task), whole(b, task)
    np.testing.assert_array_equal(one["classes"], other["classes"])
    if "objects" in one:
        np.testing.assert_array_equal(partition(one["objects"]), partition(other["objects"]))


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6))
def test_round_trip_gives_the_same_masks(
    blank: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    store, other = fresh(blank, folder), fresh(blank, folder, "other.gsd.zarr")
    for step in range(6):
        work(store, seed + step)
    for task in ("Cells", "Regions"):
        if not whole(store, task)["classes"].any():
            continue
        file = folder / f"{task}.geojson.gz"
        number = write_geojson(store, task, file)
        assert read_geojson(file, other, task) == number
        assert_same_masks(store, other, task)
    check_store(other)
    store.close()
    other.close()


def test_features_are_what_qupath_reads(store: AnnotationStore, tmp_path: Path) -> None:
    window = disks(VIEW, (300, 300, 20), (400, 500, 30), value=7)
    window.classes[195:205, 205:215], window.ids[195:205, 205:215] = 0, 0  # a hole
    store.write_prediction("Cells", window, model_hash="m")
    file = tmp_path / "cells.geojson"
    assert write_geojson(store, "Cells", file, provenance={"model": "m"}) == 2
    collection = json.loads(file.read_text("utf-8"))
    assert collection["type"] == "FeatureCollection"
    assert collection["genselfdiff"]["provenance"] == {"model": "m"}
    assert collection["genselfdiff"]["use"] == "Research use only"
    first, second = collection["features"]
    for feature in (first, second):
        UUID(feature["id"])
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert properties["classification"] == {"name": "Lymphocyte", "color": [86, 180, 233]}
        assert properties["metadata"] == {"genselfdiff provenance": "model"}
        geometry = shapely.geometry.shape(feature["geometry"])
        assert geometry.is_valid
        assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
        assert properties["measurements"]["Area µm^2"] == pytest.approx(geometry.area / 16)
    assert len(first["geometry"]["coordinates"]) == 2
    # Pixel 280 is the first row of the disk; its upper edge is 280 in QuPath.
    assert shapely.geometry.shape(first["geometry"]).bounds == (280, 280, 321, 321)


def test_ids_are_stable(store: AnnotationStore, tmp_path: Path) -> None:
    store.write_prediction("Cells", disks(VIEW, (300, 300, 20), (400, 500, 30)), model_hash="m")
    ids = []
    for name in ("one", "two"):
        write_geojson(store, "Cells", tmp_path / name)
        ids.append([f["id"] for f in json.loads((tmp_path / name).read_text())["features"]])
        store.accept("Cells", VIEW)
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_qupath_frame_is_cropped_and_comes_back(store: AnnotationStore, tmp_path: Path) -> None:
    store.write_prediction("Cells", disks(VIEW, (300, 400, 20)), model_hash="m")
    file, bounds = tmp_path / "c.geojson", Region(50, 70, 900, 900)
    write_geojson(store, "Cells", file, frame="qupath", bounds=bounds)
    (feature,) = json.loads(file.read_text())["features"]
    assert shapely.geometry.shape(feature["geometry"]).bounds == (310, 230, 351, 271)
    before = whole(store, "Cells")
    store.undo()
    assert read_geojson(file, store, "Cells") == 1
    np.testing.assert_array_equal(whole(store, "Cells")["classes"], before["classes"])
    with pytest.raises(ConfigError, match="frame"):
        write_geojson(store, "Cells", file, frame="other")  # type: ignore[arg-type]


def test_provenance_comes_back_and_strangers_count_as_human(
    store: AnnotationStore, tmp_path: Path
) -> None:
    store.write_prediction("Cells", disks(VIEW, (300, 300, 20), (400, 500, 30)), model_hash="m")
    store.accept("Cells", Region(100, 90, 250, 700))
    file = tmp_path / "c.geojson"
    write_geojson(store, "Cells", file)
    store.clear_to_unknown("Cells", VIEW)
    read_geojson(file, store, "Cells")
    window = store.read("Cells", VIEW)
    assert (window.provenance[200, 210], window.provenance[300, 410]) == (ACCEPTED, MODEL)
    assert window.provenance[0, 0] == 0  # polygons say nothing of the background
    stranger = json.loads(file.read_text())
    for feature in stranger["features"]:
        del feature["properties"]["metadata"]
    file.write_text(json.dumps(stranger))
    read_geojson(file, store, "Cells")
    found = whole(store, "Cells")
    assert set(np.unique(found["provenance"][found["classes"] > 0])) == {HUMAN}
    check_store(store)


def test_an_import_is_one_step_that_can_be_undone(store: AnnotationStore, tmp_path: Path) -> None:
    file = tmp_path / "two places.geojson"
    file.write_text(collection(square(10, 10, 5), square(900, 1200, 5)))
    before = whole(store, "Nuclei")
    assert read_geojson(file, store, "Nuclei") == 2
    assert [op.what for op in store.history] == ["Import two places.geojson"]
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 2}
    store.undo()
    np.testing.assert_array_equal(whole(store, "Nuclei")["objects"], before["objects"])


def test_large_objects_and_many_blocks_come_once(
    store: AnnotationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object longer than a block and its margin, others on every border of blocks."""
    monkeypatch.setattr(shapes, "BLOCK", 512)
    monkeypatch.setattr(shapes, "_MARGIN", 16)
    view = Region(0, 0, 1300, 1100)
    spots = [(y, x, 12.0) for y in (511, 512, 1024, 700) for x in (200, 510, 514, 800)]
    window = disks(view, *spots, first=2)
    window.classes[5:1290, 1000:1010], window.ids[5:1290, 1000:1010] = 1, 1
    window.classes[30:40, 20:1010], window.ids[30:40, 20:1010] = 1, 1
    store.write_prediction("Nuclei", window, model_hash="m")
    file = tmp_path / "n.geojson"
    number = write_geojson(store, "Nuclei", file)
    assert number == store.summary("Nuclei")["objects"]["Nucleus"]
    ids = [feature["id"] for feature in json.loads(file.read_text())["features"]]
    assert len(set(ids)) == number
    before = partition(whole(store, "Nuclei")["objects"])
    store.clear_to_unknown("Nuclei", view)
    read_geojson(file, store, "Nuclei")
    np.testing.assert_array_equal(partition(whole(store, "Nuclei")["objects"]), before)


def test_the_last_pixel_of_a_coarse_grid_comes_back(store: AnnotationStore, tmp_path: Path) -> None:
    """1300 x 1100 pixels by 4 is 325 x 275; a slide of 1098 ends inside the last pixel."""
    odd = open_store(tmp_path / "odd.gsd.zarr", (1298, 1097))
    for task in store.tasks.values():
        odd.add_task(task)
    shape = odd.shape("Regions")
    assert shape == (325, 275)
    view = Region(300, 250, 25, 25)
    empty = odd.read("Regions", view)
    full = empty.copy()
    full.classes[...] = 2
    odd.write_edit("Regions", empty, full, what="Fill")
    file = tmp_path / "r.geojson"
    write_geojson(odd, "Regions", file)
    (feature,) = json.loads(file.read_text())["features"]
    assert feature["properties"]["objectType"] == "annotation"
    assert shapely.geometry.shape(feature["geometry"]).bounds == (1000, 1200, 1097, 1298)
    odd.undo()
    read_geojson(file, odd, "Regions")
    np.testing.assert_array_equal(odd.read("Regions", view).classes, full.classes)


def test_an_export_that_fails_leaves_the_old_file(
    store: AnnotationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m")
    file = tmp_path / "n.geojson"
    file.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StoreError, match="disk is full"):
        write_geojson(store, "Nuclei", file)
    assert file.read_text() == "old"
    assert [f.name for f in tmp_path.iterdir() if "partial" in f.name] == []


def square(x: float, y: float, side: float, name: str = "Nucleus") -> dict[str, Any]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return feature({"type": "Polygon", "coordinates": [ring]}, name)


def feature(geometry: Any, name: Any = "Nucleus") -> dict[str, Any]:
    properties = {"classification": {"name": name, "color": [1, 2, 3]}}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def collection(*features: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features})


@pytest.mark.parametrize("wrap", ["collection", "list", "single"])
def test_all_shapes_of_files_are_read(store: AnnotationStore, tmp_path: Path, wrap: str) -> None:
    one = square(20, 10, 4)
    text = {"collection": collection(one), "list": json.dumps([one]), "single": json.dumps(one)}
    file = tmp_path / "f.geojson"
    file.write_bytes(b"\xef\xbb\xbf" + text[wrap].encode())
    assert read_geojson(file, store, "Nuclei") == 1
    assert store.read("Nuclei", Region(10, 20, 4, 4)).classes.all()
    assert store.summary("Nuclei")["classes"] == {"Nucleus": 16}


BOWTIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (feature(None), "without a geometry"),
        (7, "without a geometry"),
        (feature({"type": "Point", "coordinates": [1, 2]}), "no polygons"),
        (feature(polygon([[0, 0], [1, 1]])), "unusable coordinates"),
        (feature(polygon([[0, 0], [1, "2"], [3, 3]])), "unusable coordinates"),
        (feature(polygon([[0, 0], [1, True], [3, 3]])), "unusable coordinates"),
        (feature(polygon([[0, 0], [1, 1e300], [3, 3]])), "unusable coordinates"),
        (feature(polygon(5)), "unusable coordinates"),
        (feature({"type": "Polygon", "coordinates": None}), "unusable coordinates"),
        (feature(polygon([[0, 0], [5, 5], [9, 9], [0, 0]])), "without an area|crossed"),
        (feature(polygon()), "without an area"),
        (square(-500, -500, 20), "outside the slide"),
        (square(10, 10, 5, "Mitosis"), "unknown class"),
        ({**square(10, 10, 5), "properties": None}, "without a class"),
        (feature(polygon(BOWTIE)), "crossed themselves and were repaired"),
    ],
)
def test_what_cannot_be_used_is_counted(
    store: AnnotationStore, tmp_path: Path, bad: Any, said: str
) -> None:
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    file = tmp_path / "f.geojson"
    text = collection(square(100, 100, 5), bad)
    file.write_text(text.replace("Nucleus", "Lymphocyte"))
    drawn = read_geojson(file, store, "Cells")
    assert drawn == (2 if "repaired" in said else 1)
    assert any(part in notices[0] for part in said.split("|"))
    check_store(store)


def test_missing_class_is_no_question_where_there_is_only_one(
    store: AnnotationStore, tmp_path: Path
) -> None:
    file = tmp_path / "f.geojson"
    file.write_text(collection({**square(10, 10, 5), "properties": {}}))
    assert read_geojson(file, store, "Nuclei") == 1


def test_a_derived_class_of_qupath_counts_by_its_first_name(
    store: AnnotationStore, tmp_path: Path
) -> None:
    one = square(10, 10, 5)
    one["properties"] = {"classification": {"names": ["lymphocyte", "CD3"], "color": [1, 1, 1]}}
    file = tmp_path / "f.geojson"
    file.write_text(collection(one))
    assert read_geojson(file, store, "Cells") == 1
    assert store.summary("Cells")["objects"]["Lymphocyte"] == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "ends too early"),
        (b"   ", "ends too early"),
        (b"not json", "does not begin like GeoJSON"),
        (b'{"features": 5}', "no list"),
        (b'{"features": [{"a": ', "not complete JSON"),
        (collection(square(0, 0, 4))[:-30].encode(), "not complete JSON"),
        (b'{"features": []}', "nothing that can be drawn"),
        (b'{"features": [{"geometry": {"coordinates": [NaN]}}]}', "NaN is no number"),
        (b'{"features": [{"a": -Infinity}]}', "no number"),
        (b'{"features": [' + b"[" * 200_000, "nested too deeply"),
        ("héé".encode("latin-1"), "not UTF-8"),
        (collection(square(0, 0, 4)).encode("utf-16"), "not UTF-8"),
        (gzip.compress(collection(square(0, 0, 4)).encode())[:-20], "cannot be read"),
        (b"\x1f\x8b" + b"x" * 50, "cannot be read"),
        (b'{"genselfdiff": {"offset": ["a", 1]}, "features": [{}]}', "offset"),
    ],
)
def test_hostile_files_change_nothing(
    store: AnnotationStore, tmp_path: Path, data: bytes, said: str
) -> None:
    file = tmp_path / "f.geojson"
    file.write_bytes(data)
    with pytest.raises(ExchangeError, match=said) as caught:
        read_geojson(file, store, "Nuclei")
    assert "\n" not in str(caught.value)
    assert store.history == []
    with pytest.raises(ExchangeError, match="not there"):
        read_geojson(tmp_path / "missing", store, "Nuclei")


def test_sizes_are_limited(
    store: AnnotationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.geojson.gz"
    file.write_bytes(gzip.compress(b'{"features": [' + b" " * 3 * 2**20))
    monkeypatch.setattr(json_features, "MAX_BYTES", 2**20)
    with pytest.raises(ExchangeError, match="more than"):
        read_geojson(file, store, "Nuclei")
    monkeypatch.undo()
    monkeypatch.setattr("napari_genselfdiff.annotation.exchange.geojson_in.MAX_VERTICES", 5)
    file.write_text(collection(square(10, 10, 5), square(30, 10, 5)))
    with pytest.raises(ExchangeError, match="vertices"):
        read_geojson(file, store, "Nuclei")
    assert store.history == []


def test_long_files_are_read_in_pieces(
    store: AnnotationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of a few bytes, cut within words and characters of several bytes."""
    monkeypatch.setattr(json_features, "_PIECE", 3)
    squares = [square(20 * n, 15, 5, "Nücleus") for n in range(20)]
    file = tmp_path / "f.geojson"
    text = json.dumps({"features": squares}, ensure_ascii=False, indent=1)
    file.write_bytes(text.encode())
    assert read_geojson(file, store, "Nuclei") == 20
    assert store.summary("Nuclei")["classes"] == {"Nucleus": 500}


def test_real_files_of_others(data_dir: Path, tmp_path: Path) -> None:
    files = sorted((data_dir / "annotations" / "geojson").glob("*.geojson"))
    assert files
    for file in files:
        with open_store(tmp_path / f"{file.stem}.gsd.zarr", (60_000, 60_000)) as store:
            for task in new_store(tmp_path / file.stem).tasks.values():
                store.add_task(task)
            try:
                assert read_geojson(file, store, "Nuclei") > 0
            except ExchangeError as err:
                assert "nothing that can be drawn" in str(err)  # noqa: PT017 - either is right


def test_windows_of_objects_show_them_whole(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20), (500, 600, 90)), model_hash="m")
    seen: dict[int, Window] = {}
    for window, ids in shapes.whole_objects(store, "Nuclei"):
        seen.update(dict.fromkeys(ids.tolist(), window))
    for object_id, window in seen.items():
        row = store.object_rows("Nuclei", np.array([object_id], np.uint32))[0]
        assert (window.ids == object_id).sum() == row[1]
    assert len(seen) == 2
