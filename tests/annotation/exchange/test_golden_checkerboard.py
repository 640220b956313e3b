"""A checkerboard goes out in every format and comes back without a pixel's shift.

The slide is a scan of 480 x 768 pixels at row 132, column 75 of a glass of 1401 x 1302, 0.3 µm a
pixel, with a copy three times smaller. Squares have 48 pixels a side; the dark ones, of which the
first begins at row 132, column 75 + 48 = 123, are annotated where the slide shows them. All
numbers below are worked out by hand from these.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_genselfdiff.annotation.exchange.geojson import write_geojson
from napari_genselfdiff.annotation.exchange.incoming import import_file
from napari_genselfdiff.annotation.exchange.label_tiff import write_label_tiff
from napari_genselfdiff.annotation.exchange.origin import Frame
from napari_genselfdiff.annotation.exchange.table import write_table
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.tasks import NUCLEI, REGIONS
from napari_genselfdiff.errors import ExchangeError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide
from tests.annotation.builders import whole
from tests.slides.scn import write_scn

pytest.importorskip("openslide")

CORNER, SCAN, GLASS, NM, SIDE = (132, 75), (480, 768), (1401, 1302), 300, 48
DARK_SQUARES = 80  # half of 10 x 16
FRAMES: tuple[Frame, Frame] = ("level0", "qupath")


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    rows, columns = np.indices(SCAN) // SIDE
    board = np.where((rows + columns) % 2 == 1, 60, 220).astype(np.uint8)
    scan = np.repeat(board[..., None], 3, axis=2)
    path = tmp_path_factory.mktemp("board") / "board.scn"
    with open_slide(write_scn(path, scan, corner=CORNER, glass=GLASS, nm=NM)) as opened:
        yield opened


def make(slide: Slide, path: Path) -> AnnotationStore:
    assert slide.mpp is not None
    store = AnnotationStore.open(
        path,
        slide_path=slide.path,
        slide_hash=slide.hash,
        shape=slide.shape,
        mpp=slide.mpp,
        mpp_assumed=slide.mpp_assumed,
    )
    store.add_task(NUCLEI)
    store.add_task(REGIONS)
    return store


@pytest.fixture(scope="module")
def drawn(slide: Slide, tmp_path_factory: pytest.TempPathFactory) -> AnnotationStore:
    """Annotations as the slide shows them: a nucleus a dark square, and one region."""
    store = make(slide, tmp_path_factory.mktemp("drawn") / "board.gsd.zarr")
    assert (store.downsample("Nuclei"), store.downsample("Regions")) == (1, 2)
    before = store.read("Nuclei", Region(0, 0, *GLASS))
    after = before.copy()
    dark = slide.read(Region(0, 0, *GLASS))[..., 0] < 140
    rows, columns = (np.indices(GLASS) - np.array(CORNER)[:, None, None]) // SIDE
    after.classes[dark] = 1
    after.ids[dark] = (rows * 16 + columns + 1)[dark]
    store.write_edit("Nuclei", before, after, what="Brush")
    # 24 x 24 pixels of the grid of 2: rows 132 to 180, columns 76 to 124 of level 0.
    empty = store.read("Regions", Region(66, 38, 24, 24))
    full = empty.copy()
    full.classes[...] = 2
    store.write_edit("Regions", empty, full, what="Fill")
    return store


def test_the_slide_says_what_was_written(slide: Slide) -> None:
    assert slide.reader == "openslide"
    assert slide.bounds == Region(132, 75, 480, 768)
    assert slide.shape == GLASS
    assert slide.mpp == pytest.approx(0.3)
    assert slide.downsamples[1] == 3


@pytest.mark.parametrize("downsample", [1, 3])
def test_squares_lie_where_they_should_at_every_level(slide: Slide, downsample: int) -> None:
    """132 / 3 = 44 and 75 / 3 = 25; a square has 16 pixels there. JPEG may change a grey by 2."""
    y, x, side = 132 // downsample, 75 // downsample, 48 // downsample
    found = slide.read(Region(y, x, 2 * side, 3 * side), downsample).astype(int)[..., 0]
    rows, columns = np.indices(found.shape) // side
    expected = np.where((rows + columns) % 2 == 1, 60, 220)
    assert np.abs(found - expected).max() <= 2


# First dark square: rows 132-180, columns 123-171; less the bounds' corner (75, 132): 48-96, 0-48.
GEOJSON = {
    "level0": ([123, 132, 171, 180], [76, 132, 124, 180]),
    "qupath": ([48, 0, 96, 48], [1, 0, 49, 48]),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_geojson(drawn: AnnotationStore, slide: Slide, tmp_path: Path, frame: Frame) -> None:
    for task, expected in zip(("Nuclei", "Regions"), GEOJSON[frame], strict=True):
        file = tmp_path / f"{task}.geojson.gz"
        write_geojson(drawn, task, file, frame=frame, bounds=slide.bounds)
        features = json.loads(gzip.decompress(file.read_bytes()))["features"]
        ring = features[0]["geometry"]["coordinates"][0]
        x, y, x1, y1 = expected
        assert sorted(map(tuple, ring[:-1])) == sorted([(x, y), (x1, y), (x1, y1), (x, y1)])
        assert ring[0] == ring[-1]
        check_back(drawn, slide, file, task, tmp_path)


@pytest.mark.parametrize("frame", FRAMES)
def test_label_tiff(drawn: AnnotationStore, slide: Slide, tmp_path: Path, frame: Frame) -> None:
    file = tmp_path / "nuclei.ome.tif"
    write_label_tiff(drawn, "Nuclei", file, frame=frame, bounds=slide.bounds)
    with tifffile.TiffFile(file) as tif:
        labels, series = tif.asarray(), tif.series[0]
        assert 'PhysicalSizeX="0.3"' in str(tif.ome_metadata)
        assert "checked_share" in str(tif.ome_metadata)
        assert [level.shape for level in series.levels][1:] == (
            [(701, 651), (351, 326)] if frame == "level0" else [(240, 384)]
        )
        assert tif.pages.first.is_tiled
        np.testing.assert_array_equal(series.levels[1].asarray(), labels[::2, ::2])
    y, x = (132, 123) if frame == "level0" else (0, 48)
    assert labels.shape == (GLASS if frame == "level0" else SCAN)
    number = labels[y, x]
    assert number > 0
    assert (labels[y : y + 48, x : x + 48] == number).all()
    assert (labels == number).sum() == 48 * 48
    assert len(np.unique(labels)) == DARK_SQUARES + 1
    check_back(drawn, slide, file, "Nuclei", tmp_path)


def test_label_tiff_of_a_coarse_grid_in_qupaths_frame(
    drawn: AnnotationStore, slide: Slide, tmp_path: Path
) -> None:
    """Column 75 lies inside pixel 37 of the grid of 2, so the file has level 0's own pixels."""
    file = tmp_path / "regions.ome.tif"
    assert write_label_tiff(drawn, "Regions", file, frame="qupath", bounds=slide.bounds) == SCAN
    with tifffile.TiffFile(file) as tif:
        labels = tif.asarray()
        assert 'PhysicalSizeX="0.3"' in str(tif.ome_metadata)
        smaller = tif.series[0].levels[1].asarray()
    expected = np.zeros(SCAN, np.uint8)
    expected[0:48, 1:49] = 2
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(smaller, expected[::2, ::2])
    check_back(drawn, slide, file, "Regions", tmp_path)
    file = tmp_path / "level0.ome.tif"
    assert write_label_tiff(drawn, "Regions", file) == (701, 651)
    check_back(drawn, slide, file, "Regions", tmp_path)


def test_ome_zarr_labels(drawn: AnnotationStore) -> None:
    """What OME-Zarr readers do: position = pixel * scale + translation, the first centre at 0.

    Nucleus: column 123 begins at (123 - 0.5) * 0.3 = 36.75 µm. Region: the first pixel of its grid
    covers level-0 columns 0 and 1, so its centre lies at 0.15 µm; column 38 begins where level-0
    column 76 does, at (76 - 0.5) * 0.3 = 22.65 µm.
    """
    for name, pixel, begins in (("Nuclei.objects", 123, 36.75), ("Regions.classes", 38, 22.65)):
        text = (drawn.path / "labels" / name / "zarr.json").read_text("utf-8")
        image = json.loads(text)["attributes"]["ome"]["multiscales"][0]
        assert {axis["unit"] for axis in image["axes"]} == {"micrometer"}
        first: Any = {t["type"]: t for t in image["datasets"][0]["coordinateTransformations"]}
        scale, origin = first["scale"]["scale"][1], first["translation"]["translation"][1]
        assert (pixel - 0.5) * scale + origin == pytest.approx(begins)


@pytest.mark.parametrize("name", ["n.csv", "n.parquet"])
def test_tables(drawn: AnnotationStore, slide: Slide, tmp_path: Path, name: str) -> None:
    """The square of rows 132-180, columns 123-171 has its middle at pixel (155.5, 146.5)."""
    for frame, middle in zip(FRAMES, ((155.5, 146.5), (23.5, 71.5)), strict=True):
        file = tmp_path / name
        rows = write_table(drawn, "Nuclei", file, frame=frame, bounds=slide.bounds, slide=slide)
        assert rows == DARK_SQUARES
        table = pd.read_parquet(file) if name.endswith("parquet") else pd.read_csv(file)
        first = table.iloc[0]
        assert (first["centroid_y"], first["centroid_x"]) == middle
        assert first["area_um2"] == pytest.approx(48 * 48 * 0.09)
        # 4 * 47 steps along the border pixels: corners count 1, as the sides do.
        assert first["perimeter_um"] == pytest.approx(4 * 47 * 0.3, abs=1e-3)
        assert first["eccentricity"] == 0


def dark_squares() -> list[tuple[int, int]]:
    """Corners (x, y) of the dark squares on the glass, in reading order."""
    return [
        (75 + 48 * column, 132 + 48 * row)
        for row in range(10)
        for column in range(16)
        if (row + column) % 2
    ]


def aperio(folder: Path) -> Path:
    """ImageScope's: corners of level-0 pixels, rectangles by two corners."""
    regions = "".join(
        f'<Region Type="1" Text="Nucleus"><Vertices><Vertex X="{x}" Y="{y}"/>'
        f'<Vertex X="{x + 48}" Y="{y + 48}"/></Vertices></Region>'
        for x, y in dark_squares()
    )
    file = folder / "board.xml"
    file.write_text(
        f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"
    )
    return file


def dsa(folder: Path) -> Path:
    """The archive's: rectangles by their middle."""
    elements = [
        {
            "type": "rectangle",
            "center": [x + 24, y + 24, 0],
            "width": 48,
            "height": 48,
            "group": "Nucleus",
        }
        for x, y in dark_squares()
    ]
    file = folder / "board.json"
    file.write_text(json.dumps({"annotation": {"elements": elements}}))
    return file


def picture(folder: Path) -> Path:
    """A PNG of 16 bits over the whole glass, a number for every square."""
    numbers = np.zeros(GLASS, np.uint16)
    for number, (x, y) in enumerate(dark_squares(), start=1):
        numbers[y : y + 48, x : x + 48] = number
    file = folder / "board.png"
    Image.fromarray(numbers).save(file)
    return file


@pytest.mark.parametrize("write", [aperio, dsa, picture])
def test_files_of_other_programs_lie_in_place(
    drawn: AnnotationStore, slide: Slide, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    assert len(dark_squares()) == DARK_SQUARES
    check_back(drawn, slide, write(tmp_path), "Nuclei", tmp_path)


@pytest.mark.parametrize("offset", [b"[75, 999]", b"[999, 13]"])
def test_a_label_tiff_that_lies_beside_the_slide_is_refused(
    drawn: AnnotationStore, slide: Slide, tmp_path: Path, offset: bytes
) -> None:
    file = tmp_path / "nuclei.ome.tif"
    write_label_tiff(drawn, "Nuclei", file, frame="qupath", bounds=slide.bounds)
    data = file.read_bytes()
    assert data.count(b"[75, 132]") == 1
    file.write_bytes(data.replace(b"[75, 132]", offset))
    other = make(slide, tmp_path / "other.gsd.zarr")
    with pytest.raises(ExchangeError, match="says that it begins at"):
        import_file(file, other, "Nuclei")
    other.close()


def check_back(drawn: AnnotationStore, slide: Slide, file: Path, task: str, folder: Path) -> None:
    """Import into empty annotations: the same classes, and the same pixels in each object."""
    other = make(slide, folder / f"{file.name}.gsd.zarr")
    import_file(file, other, task)
    one, back = whole(drawn, task), whole(other, task)
    np.testing.assert_array_equal(back["classes"], one["classes"])
    if task == "Nuclei":
        pairs = np.unique(np.stack([one["objects"], back["objects"]]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
        assert len(np.unique(pairs[0])) == DARK_SQUARES + 1
    other.close()
