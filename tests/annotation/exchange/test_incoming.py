"""Annotations of other programs come in, and go out again with the same meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image

from napari_genselfdiff.annotation.exchange.aperio_xml import read_aperio
from napari_genselfdiff.annotation.exchange.dsa_json import read_dsa
from napari_genselfdiff.annotation.exchange.geojson import write_geojson
from napari_genselfdiff.annotation.exchange.incoming import classes_in, import_file, kind_of
from napari_genselfdiff.annotation.exchange.json_features import read_features
from napari_genselfdiff.annotation.store import HUMAN, AnnotationStore
from napari_genselfdiff.errors import ConfigError, ExchangeError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import CELLS, new_store, open_store, whole
from tests.annotation.checks import check_store


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return new_store(tmp_path)


XML = """<Annotations MicronsPerPixel="0.25">
 <Annotation Id="1" Name="Lymphocyte"><Regions>
  <Region Type="0" Text="" NegativeROA="1"><Vertices>
   <Vertex X="20" Y="20"/><Vertex X="30" Y="20"/><Vertex X="30" Y="30"/><Vertex X="20" Y="30"/>
  </Vertices></Region>
  <Region Type="0" Text=""><Vertices>
   <Vertex X="10" Y="10"/><Vertex X="50" Y="10"/><Vertex X="50" Y="40"/><Vertex X="10" Y="40"/>
  </Vertices></Region>
  <Region Type="1" Text="Tumour cell"><Vertices>
   <Vertex X="100" Y="200"/><Vertex X="104" Y="206"/></Vertices></Region>
  <Region Type="2" Text="odd"><Vertices>
   <Vertex X="300" Y="300"/><Vertex X="340" Y="320"/></Vertices></Region>
 </Regions></Annotation></Annotations>"""


def test_aperio_xml(store: AnnotationStore, tmp_path: Path) -> None:
    """Holes may come first, rectangles and ellipses are two corners."""
    file = tmp_path / "a.xml"
    file.write_text(XML)
    assert classes_in(file) == {"Lymphocyte": 1, "Tumour cell": 1, "odd": 1}
    assert import_file(file, store, "Cells", classes={"ODD": "Lymphocyte"}) == 3
    found = whole(store, "Cells")["classes"]
    assert (found[10:40, 10:50] == 7).sum() == 30 * 40 - 100
    assert (found[20:30, 20:30] == 0).all()
    assert (found[200:206, 100:104] == 1).all()
    assert (found == 1).sum() == 24
    assert (found[300:320, 300:340] == 7).sum() == pytest.approx(np.pi * 20 * 10, rel=0.01)
    check_store(store)


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<Annotations><Annotation Name="&b;"/></Annotations>"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "document type"),
        (XML[:-40], "not complete XML"),
        ("<svg></svg>", "no Annotations"),
        ("<a>" * 200, "nested too deeply"),
        (XML.replace('X="10"', 'X="NaN"').replace('X="100"', 'X="1e400"'), ""),
    ],
)
def test_hostile_xml_is_one_error_or_counted(
    store: AnnotationStore, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "a.xml"
    file.write_text(text)
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    if said:
        with pytest.raises(ExchangeError, match=said) as caught:
            import_file(file, store, "Cells")
        assert "\n" not in str(caught.value)
        assert store.history == []
    else:
        assert import_file(file, store, "Cells", classes={"odd": "Lymphocyte"}) == 1
        assert "2 with unusable coordinates" in notices[0]


DSA: dict[str, Any] = {
    "annotation": {
        "elements": [
            {"type": "polyline", "closed": True, "group": "Lymphocyte", "points":
             [[10, 10, 0], [30, 10, 0], [30, 20, 0], [10, 20, 0]]},
            {"type": "rectangle", "center": [100, 200, 0], "width": 40, "height": 20,
             "rotation": np.pi / 2, "label": {"value": "tumour cell"}},
            {"type": "circle", "center": [300, 300, 0], "radius": 10, "group": "Lymphocyte"},
            {"type": "arrow", "points": [[0, 0], [1, 1]], "group": "Lymphocyte"},
            {"type": "circle", "group": "Lymphocyte"},
        ]
    }
}  # fmt: skip


def test_dsa_json(store: AnnotationStore, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(DSA))
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    assert import_file(file, store, "Cells") == 3
    assert "1 that are no polygons" in notices[0]
    assert "1 with unusable coordinates" in notices[0]
    found = whole(store, "Cells")["classes"]
    assert (found[10:20, 10:30] == 7).all()
    assert (found[180:220, 90:110] == 1).all()  # 40 wide and 20 high, turned by 90 degrees
    assert (found == 1).sum() == 800


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_label_images(tmp_path: Path, size: int, suffix: str) -> None:
    """1301 x 1099 level-0 pixels; pixel (i, j) of an image of half the size covers 2 x 2."""
    store = open_store(tmp_path / "s.gsd.zarr", (1301, 1099))
    store.add_task(CELLS)
    labels = np.zeros((-(-1301 // size), -(-1099 // size)), np.uint16)
    labels[10:20, 30:50], labels[-1, -1], labels[600:, 500] = 700, 9, 65535
    file = tmp_path / f"labels{suffix}"
    if suffix == ".png":
        Image.fromarray(labels).save(file)
    else:
        tifffile.imwrite(file, labels, tile=(256, 256), compression="zlib")
    assert kind_of(file) == "labels"
    assert import_file(file, store, "Cells", classes={"": "Lymphocyte", "9": "Tumour cell"}) == 3
    found = whole(store, "Cells")
    full = np.kron(labels, np.ones((size, size), np.uint16))[:1301, :1099]
    expected = np.where(full == 9, 1, np.where(full > 0, 7, 0))
    np.testing.assert_array_equal(found["classes"], expected)
    pairs = np.unique(np.stack([full, found["objects"]]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == 4
    assert set(np.unique(found["provenance"])) == {0, HUMAN}
    check_store(store)
    store.undo()
    assert not whole(store, "Cells")["classes"].any()


def test_numbers_of_areas_are_classes(store: AnnotationStore, tmp_path: Path) -> None:
    names = [spec.name for spec in store.tasks["Regions"].classes]
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    labels = np.zeros((325, 275), np.uint8)
    labels[:5], labels[5:10], labels[10:15] = 1, 2, 77
    tifffile.imwrite(tmp_path / "a.tif", labels)
    assert import_file(tmp_path / "a.tif", store, "Regions", classes={"1": names[1]}) == 2
    found = store.read("Regions", Region(0, 0, 16, 4)).classes[:, 0]
    assert found.tolist() == [2] * 10 + [0] * 6
    assert "left out: 77" in notices[0]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros((1300, 1100), np.uint8), "0 everywhere"),
        (np.ones((1300, 900), np.uint8), "1300 x 900 pixels and the slide 1300 x 1100"),
        (np.ones((1300, 1100), np.float32), "unsigned whole numbers"),
        (np.ones((1300, 1100, 3), np.uint8), "unsigned whole numbers|usable"),
    ],
)
def test_images_that_do_not_fit_change_nothing(
    store: AnnotationStore, tmp_path: Path, labels: Any, said: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", labels)
    with pytest.raises(ExchangeError, match=said):
        import_file(tmp_path / "a.tif", store, "Cells")
    assert store.history == []


def test_all_pieces_of_a_knotted_ring_come_in(store: AnnotationStore, tmp_path: Path) -> None:
    """Two squares joined by a line walked twice: repairing it gives polygons and a loose line."""
    ring = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0], [0, 5], [-5, 5], [0, 5], [0, 0]]
    ring += [[40, 0], [50, 0], [50, 10], [40, 10], [40, 0]]
    feature = {"geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    (tmp_path / "f.geojson").write_text(json.dumps({"features": [feature]}))
    assert import_file(tmp_path / "f.geojson", store, "Nuclei") == 1
    assert store.summary("Nuclei")["classes"] == {"Nucleus": 200}


def test_classes_are_mapped_or_left_out(store: AnnotationStore, tmp_path: Path) -> None:
    def square(x: int, **properties: Any) -> dict[str, Any]:
        ring = [[x, 0], [x + 10, 0], [x + 10, 10], [x, 10]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        return {"type": "Feature", "geometry": geometry, "properties": properties}

    features = [square(0, label="TIL"), square(20, classification="Stroma"), square(40)]
    file = tmp_path / "f.geojson"
    file.write_text(json.dumps({"features": features}))
    assert classes_in(file) == {"TIL": 1, "Stroma": 1, "": 1}
    mapping = {"til": "lymphocyte", "stroma": None, "": "Tumour cell"}
    assert import_file(file, store, "Cells", classes=mapping) == 2
    assert whole(store, "Cells")["classes"][5, [5, 25, 45]].tolist() == [7, 0, 1]
    with pytest.raises(ConfigError, match="no class 'Moon'"):
        import_file(file, store, "Cells", classes={"til": "Moon"})


REAL = {
    "aperio_xml/TCGA-B0-5711-01Z-00-DX1.xml": (342, 0.25),
    "aperio_xml/TCGA-HT-8564-01Z-00-DX1.xml": (249, 0.25),
    "geojson/luna_1006844.annotation.geojson": (15, 2.0),
    "geojson/luna_123.annotation.geojson": (2, 1.0),
    "dsa_json/luna_Annotation.json": (2, 1.0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_keep_their_meaning(
    data_dir: Path, tmp_path: Path, name: str, make_task: Callable[..., Any]
) -> None:
    """Everything comes in; what goes out comes back as the very same rings."""
    file, (stated, mpp) = data_dir / "annotations" / name, REAL[name]
    if not file.exists():
        pytest.skip("not among the real data")
    classes = classes_in(file)
    assert classes.total() == stated
    task = make_task(sorted(filter(None, classes)) or ["Nucleus"], mpp)
    notices: list[str] = []
    stores = []
    for number in range(2):
        store = open_store(tmp_path / f"{number}.gsd.zarr", (60_000, 60_000))
        store.add_task(task)
        store.events.notice.connect(notices.append)
        stores.append(store)
    first, second = stores
    drawn = import_file(file, first, task.name)
    lost = sum(int(n) for n in re.findall(r"(\d+) [^;]*left out", " ".join(notices)))
    assert (drawn, lost) == (stated, 0)
    out, again = tmp_path / "out.geojson", tmp_path / "again.geojson"
    there = write_geojson(first, task.name, out)
    assert there <= drawn
    assert import_file(out, second, task.name) == there
    assert first.summary(task.name)["classes"] == second.summary(task.name)["classes"]
    write_geojson(second, task.name, again)
    assert rings(again) == rings(out)
    pixels = sum(first.summary(task.name)["classes"].values())
    assert pixels * first.downsample(task.name) ** 2 == pytest.approx(area_of(file), rel=0.005)


def area_of(file: Path) -> float:
    """Level-0 pixels covered by a file's polygons, by shapely alone."""
    kind = kind_of(file)
    read = {"aperio": read_aperio, "dsa": read_dsa, "geojson": read_features}[kind]
    parts = []
    for _, feature in read(file):
        ring = feature["geometry"]["coordinates"][0]
        if len(ring) > 2:
            parts.append(shapely.make_valid(shapely.Polygon(ring)))
    return float(shapely.union_all(parts).area)


def rings(path: Path) -> list[Any]:
    features = json.loads(path.read_text())["features"]
    found = [
        (f["properties"]["classification"]["name"], f["geometry"]["coordinates"]) for f in features
    ]
    return sorted(found, key=str)


@pytest.fixture
def make_task() -> Callable[..., Any]:
    """Return ``make_task(names, mpp)``: a task of objects with these classes."""

    def make(names: list[str], mpp: float) -> Any:
        specs = [
            type(CELLS.classes[0])(value=i, name=name, color="#F0E442", key=str(i))
            for i, name in enumerate(names, start=1)
        ]
        return CELLS.model_copy(update={"name": "Found", "classes": tuple(specs), "mpp": mpp})

    return make
