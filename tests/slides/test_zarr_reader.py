"""OME-Zarr as slides: the contract of every reader, and folders that mean harm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide
from tests.slides.test_slide import RGB, SlideContract, halved, tissue

__all__ = ["tissue"]  # the fixture the contract asks for


def write_ome(
    path: Path, levels: list[NDArray[Any]], axes: str, *, version: str = "0.5", mpp: float = 0.3
) -> Path:
    """Write an image whose arrays have these axes, each level half of the one before."""
    group: Any = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets: list[Any] = []
    for number, level in enumerate(levels):
        chunks = tuple(
            min(n, 200) if a in "yx" else 1 for n, a in zip(level.shape, axes, strict=True)
        )
        group.create_array(str(number), data=np.ascontiguousarray(level), chunks=chunks)
        scale = [mpp * 2**number if axis in "yx" else 1.0 for axis in axes]
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    kinds = {"t": "time", "c": "channel"}
    described: list[Any] = [
        {"name": a, "type": kinds[a]}
        if a in kinds
        else {"name": a, "type": "space", "unit": "micrometer"}
        for a in axes
    ]
    image = {"version": version, "axes": described, "datasets": datasets}
    if version == "0.4":
        group.attrs["multiscales"] = [image]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    return path


class ZarrContract(SlideContract):
    reader = "zarr"

    def test_identity_survives_a_move(self, slide: Slide, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(slide.path, tmp_path / "another.zarr"))
        with open_slide(copy) as other:
            assert other.hash == slide.hash

    def test_pixel_size(self, slide: Slide) -> None:
        assert slide.mpp == pytest.approx(0.3)
        assert not slide.mpp_assumed


class TestOMEZarr05(ZarrContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        levels: list[NDArray[Any]] = [image.transpose(2, 0, 1) for image in (rgb, halved(rgb))]
        return write_ome(path / "a.ome.zarr", levels, "cyx")


class TestOMEZarr04(ZarrContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        levels: list[NDArray[Any]] = [
            i.transpose(2, 0, 1)[None, :, None] for i in (rgb, halved(rgb))
        ]
        return write_ome(path / "a.zarr", levels, "tczyx", version="0.4")


class TestOMEZarrGrey16(ZarrContract):
    """Twelve bits of a camera: 16 times as much as eight."""

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_ome(path / "a.zarr", [rgb[..., 0].astype(np.uint16) * 16 + 15], "yx")

    def expected(self, rgb: RGB) -> RGB:
        return np.repeat(rgb[..., :1], 3, axis=2)

    tolerance = 1

    def test_user_is_told(self, slide: Slide) -> None:
        assert slide.warnings == ["uint16 samples are shown as 8-bit; 4095 is white"]


PIXELS = np.full((3, 64, 64), 90, np.uint8)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_ome(tmp_path / "a.zarr", [PIXELS], "cyx")


def change(path: Path, **values: Any) -> None:
    """Change the description of the only level."""
    file = path / "0" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def image_of(path: Path) -> tuple[Any, Any]:
    record = json.loads((path / "zarr.json").read_text())
    return record, record["attributes"]["ome"]["multiscales"][0]


@pytest.mark.parametrize("where", ["../secret", "link", "/etc", "0/../../secret"])
def test_nothing_outside_the_folder_is_read(small: Path, tmp_path: Path, where: str) -> None:
    secret = write_ome(tmp_path / "other.zarr", [PIXELS], "cyx")
    (secret / "0").rename(tmp_path / "secret")
    (small / "link").symlink_to(tmp_path / "secret")
    record, image = image_of(small)
    image["datasets"][0]["path"] = where
    (small / "zarr.json").write_text(json.dumps(record))
    with pytest.raises(SlideError, match=r"a\.zarr"):
        open_slide(small)


def test_a_chunk_that_is_a_link_is_not_followed(small: Path, tmp_path: Path) -> None:
    chunk = next(path for path in (small / "0" / "c").rglob("*") if path.is_file())
    chunk.rename(tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    with open_slide(small) as slide:
        assert (slide.read(Region(0, 0, 64, 64)) != 90).any()


def test_a_damaged_chunk_is_white_and_counted(small: Path) -> None:
    chunk = next(path for path in (small / "0" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(b"no such codec")
    with open_slide(small) as slide:
        assert (slide.read(Region(0, 0, 64, 64)) == 255).all()
        assert slide.damaged_tiles == 1


def test_a_chunk_that_would_fill_the_memory_is_refused(small: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [3, 2**20, 2**20]}}
    change(small, shape=[3, 2**20, 2**20], chunk_grid=grid)
    with pytest.raises(SlideError, match="too large to show a part"):
        open_slide(small)


@pytest.mark.parametrize("value", [None, [], [{}], [{"axes": []}], "x", 3])
def test_damaged_descriptions_are_one_error(small: Path, value: Any) -> None:
    record, _ = image_of(small)
    record["attributes"]["ome"]["multiscales"] = value
    (small / "zarr.json").write_text(json.dumps(record))
    with pytest.raises(SlideError, match=r"a\.zarr") as caught:
        open_slide(small)
    assert "\n" not in str(caught.value)


def test_labels_are_no_slide(small: Path) -> None:
    record, _ = image_of(small)
    record["attributes"]["ome"]["image-label"] = {}
    (small / "zarr.json").write_text(json.dumps(record))
    with pytest.raises(SlideError, match="holds labels"):
        open_slide(small)


def test_other_pixels_are_another_slide(small: Path, tmp_path: Path) -> None:
    other = write_ome(tmp_path / "b.zarr", [PIXELS + 1], "cyx")
    with open_slide(small) as one, open_slide(other) as two:
        assert one.hash != two.hash
        assert len(one.hash) == len(two.hash) == 64


def test_more_tiles_than_threads_are_read_at_once(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "wide.zarr", [np.full((40, 20_000, 3), 7, np.uint8)], "yxc")
    read = (
        "import sys; from pathlib import Path\n"
        "from napari_genselfdiff.slides.slide import open_slide\n"
        "print(int(open_slide(Path(sys.argv[1])).levels[0][:].max()))"
    )
    # A process of its own: reads that wait for each other would never end here.
    done = subprocess.run(
        [sys.executable, "-c", read, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "7", done.stderr
