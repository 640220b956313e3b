"""Finding pictures in folders of everything, zarr among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from napari_genselfdiff.learning.recipe import UnlabelledData
from napari_genselfdiff.learning.scan import find_pictures
from napari_genselfdiff.learning.sources import unlabelled_sources
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from tests.learning import pictures, tiny


def fill(folder: Path) -> None:
    """Two good images in a heap of other things."""
    pictures.write_image(folder / "a.png", tiny.tissue(1)[0])
    pictures.write_image(folder / "deep" / "er" / "b.JPG", tiny.tissue(2)[0])
    pictures.write_image(folder / "masks" / "a.png", tiny.tissue(1)[0])
    pictures.write_image(folder / "s.svs.gsd.zarr" / "x.png", tiny.tissue(1)[0])
    pictures.write_image(folder / "._c.png", tiny.tissue(1)[0])
    (folder / "notes.docx").write_bytes(b"PK\x03\x04")
    (folder / "Thumbs.db").write_bytes(b"\x00")
    (folder / "README").write_text("hello")


def test_only_pictures_are_taken(tmp_path: Path) -> None:
    fill(tmp_path)
    found = find_pictures([tmp_path])
    assert found.pictures == [tmp_path / "a.png", tmp_path / "deep" / "er" / "b.JPG"]
    assert found.others == {
        ".docx": 1, ".db": 1, "no suffix": 1, "folder masks": 1, ".gsd.zarr": 1
    }  # fmt: skip
    assert found.summary().startswith("2 pictures (1 .png, 1 .jpg), and 5 other files (1 ")


def test_junk_alone_is_an_error_that_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK")
    (tmp_path / "b.docx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"no picture, and 2 other files \(2 \.docx\); readable"):
        unlabelled_sources(UnlabelledData(folders=(str(tmp_path),)))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist; check data\.folders"):
        unlabelled_sources(UnlabelledData(folders=(str(tmp_path / "no"),)))


def test_pictures_that_are_none_are_reported_and_passed_over(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "deep" / "er" / "b.JPG").read_bytes()[:300])
    cuts = PatchSampler(
        unlabelled_sources(UnlabelledData(folders=(str(tmp_path),))), PatchConfig(size=32), 0
    )
    assert torch.isfinite(cuts.batch(range(24)).images).all()
    assert set(cuts.skipped) == {str(tmp_path / "text.png"), str(tmp_path / "cut.jpg")}


def test_links_back_are_followed_once(tmp_path: Path) -> None:
    pictures.write_image(tmp_path / "in" / "a.png", tiny.tissue(1)[0])
    (tmp_path / "in" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_pictures([tmp_path]).pictures) == 1


def test_a_folder_of_dicom_files_is_one_slide(tmp_path: Path) -> None:
    for name in ("1.dcm", "2.dcm"):
        (tmp_path / "study").mkdir(exist_ok=True)
        (tmp_path / "study" / name).write_bytes(b"")
    assert find_pictures([tmp_path]).pictures == [tmp_path / "study"]


def test_a_single_slide_is_a_folder_of_one(tmp_path: Path) -> None:
    path = pictures.write_image(tmp_path / "a.png", tiny.tissue(1)[0])
    assert find_pictures([path]).pictures == [path]


def save(path: Path, data: Any, version: Any = 3) -> None:
    contiguous: Any = np.ascontiguousarray(data)
    zarr.save_array(str(path), contiguous, zarr_format=version)


@pytest.mark.parametrize("order", ["HWC", "CHW"])
@pytest.mark.parametrize("version", [2, 3])
def test_plain_zarr_arrays(tmp_path: Path, order: str, version: Any) -> None:
    pixels = tiny.tissue(1, 600)[0]
    data = pixels if order == "HWC" else pixels.transpose(2, 0, 1)
    path = tmp_path / "a.zarr"
    save(path, data, version)
    assert find_pictures([tmp_path]).pictures == [path]
    with open_slide(path) as slide:
        assert slide.shape == (600, 600)
        np.testing.assert_array_equal(slide.read(Region(500, 40, 90, 80)), pixels[500:590, 40:120])


def write_ome(path: Path, pixels: pictures.RGB, mpp: float) -> None:
    """OME-Zarr 0.5 with two levels, axes t, c, y, x."""
    group = zarr.open_group(str(path), mode="w")
    datasets: list[Any] = []
    for number in range(2):
        level = pictures.halved(pixels, number).transpose(2, 0, 1)[None]
        group.create_array(str(number), data=np.ascontiguousarray(level), chunks=(1, 1, 64, 64))
        scale = [1.0, 1.0, mpp * 2**number, mpp * 2**number]
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    axes: list[Any] = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}] + [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "yx"
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def test_ome_zarr_is_a_pyramid_with_its_pixel_size(tmp_path: Path) -> None:
    pixels = tiny.tissue(1, 512)[0]
    write_ome(tmp_path / "a.ome.zarr", pixels, 0.25)
    (source,) = unlabelled_sources(UnlabelledData(folders=(str(tmp_path),), need_mpp=True))
    assert source.mpp == pytest.approx(0.25)
    assert source.downsample_for(2.0) == 2.0
    np.testing.assert_array_equal(
        source.window(Region(10, 20, 30, 40), 2.0), pictures.halved(pixels, 1)[10:40, 20:60]
    )


@pytest.mark.parametrize("kind", ["one channel", "float", "empty group", "damaged"])
def test_zarr_that_is_no_picture_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    if kind == "one channel":
        save(path, np.zeros((50, 50), np.uint8))
    elif kind == "float":
        save(path, np.zeros((50, 50, 3), np.float32))
    elif kind == "empty group":
        zarr.open_group(str(path), mode="w")
    else:
        path.mkdir()
        (path / "zarr.json").write_text("{")
    with pytest.raises(SlideError, match=r"a\.zarr"):
        open_slide(path)
