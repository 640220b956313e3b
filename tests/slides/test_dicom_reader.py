"""DICOM slides through wsidicom: the contract of every reader, and folders that are odd."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.dicom_reader import open_with_wsidicom
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide
from tests.slides.dicom import write_dicom
from tests.slides.test_slide import RGB, SlideContract, tissue

__all__ = ["tissue"]  # the fixture the contract asks for

pytest.importorskip("wsidicom")


def thirds(image: RGB) -> RGB:
    """A copy three times smaller, its last row and column cut."""
    height, width = (n // 3 * 3 for n in image.shape[:2])
    return np.ascontiguousarray(image[1:height:3, 1:width:3])


class DicomContract(SlideContract):
    reader = "wsidicom"

    def test_identity_survives_a_move(self, slide: Slide, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(slide.path, tmp_path / "another"))
        for path in (copy, copy / "1.dcm"):
            with open_slide(path) as other:
                assert other.hash == slide.hash

    def test_metadata(self, slide: Slide) -> None:
        assert slide.downsamples == (1.0, 3.0)
        assert slide.mpp == pytest.approx(0.3)
        assert (slide.warnings, slide.bounds) == ([], None)
        assert not any("Nobody" in text for text in slide.properties.values())


class TestJPEGLS(DicomContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_dicom(path, [rgb, thirds(rgb)], syntax="jpegls")


class TestRLE(DicomContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_dicom(path, [rgb, thirds(rgb)], syntax="rle", tile=(64, 96))


class TestGrey16(SlideContract):
    """Sixteen bits of which twelve are used."""

    reader = "wsidicom"

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_dicom(path, [rgb[..., 0].astype(np.uint16) * 16 + 15], syntax="jpegls")

    def expected(self, rgb: RGB) -> RGB:
        return np.repeat(rgb[..., :1], 3, axis=2)

    tolerance = 1

    def test_user_is_told(self, slide: Slide) -> None:
        assert slide.warnings == ["uint16 samples are shown as 8-bit; 4095 is white"]


class TestWithoutOpenSlide(DicomContract):
    """Raw and JPEG 2000 pixels: OpenSlide's, read by wsidicom where it is missing."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def no_openslide(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "openslide", None)
            yield

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_dicom(path, [rgb, thirds(rgb)], syntax="jpeg2000")


WHOLE = Region(0, 0, 300, 400)


@pytest.fixture(scope="module")
def pixels() -> RGB:
    """Smooth enough for lossy codecs; its last quarter is white."""
    rows, columns = np.indices(WHOLE.shape)
    rgb = np.stack([rows * 255 // 300, columns * 255 // 400, rows * 0 + 90], axis=2)
    rgb[:, 300:] = 255
    return rgb.astype(np.uint8)


def with_wsidicom(path: Path) -> Slide:
    return Slide(path, open_with_wsidicom(path))


@pytest.mark.parametrize("syntax", ["raw", "jpeg", "jpeg2000"])
def test_same_pixels_as_openslide(tmp_path: Path, pixels: RGB, syntax: str) -> None:
    pytest.importorskip("openslide")
    write_dicom(tmp_path, [pixels, thirds(pixels)], syntax=syntax, tile=(100, 100), label=pixels)
    with open_slide(tmp_path) as one, with_wsidicom(tmp_path / "0.dcm") as other:
        assert (one.reader, other.reader) == ("openslide", "wsidicom")
        assert (one.downsamples, one.shape) == (other.downsamples, other.shape)
        assert one.mpp == pytest.approx(other.mpp)
        np.testing.assert_array_equal(one.read(WHOLE), other.read(WHOLE))
        np.testing.assert_array_equal(one.levels[1][:], other.levels[1][:])
        assert one.associated_names == other.associated_names == ("label",)
        np.testing.assert_array_equal(one.associated("label"), other.associated("label"))


@pytest.mark.parametrize("suffix", [".DCM", ""])
def test_a_sparse_slide_whatever_its_files_are_called(
    tmp_path: Path, pixels: RGB, suffix: str
) -> None:
    write_dicom(tmp_path, [pixels], tile=(100, 100), sparse=True, suffix=suffix)
    (tmp_path / "notes.txt").write_text("of the laboratory")
    with open_slide(tmp_path) as slide:
        assert slide.reader == "wsidicom"
        np.testing.assert_array_equal(slide.read(WHOLE), pixels)


def test_of_several_slides_in_a_folder_the_one_asked_for(tmp_path: Path, pixels: RGB) -> None:
    write_dicom(tmp_path, [pixels], suffix="a.dcm", series=1)
    write_dicom(tmp_path, [np.tile(pixels, (2, 2, 1))], suffix="b.dcm", series=2)
    shutil.copy(tmp_path / "0a.dcm", tmp_path / "copy.dcm")
    for name, shape in (("0a.dcm", (300, 400)), ("0b.dcm", (600, 800)), ("copy.dcm", (300, 400))):
        with open_slide(tmp_path / name) as slide:
            assert slide.shape == shape


def test_damaged_tiles_are_white_and_counted(tmp_path: Path, pixels: RGB) -> None:
    file = write_dicom(tmp_path, [pixels], tile=(100, 100)) / "0.dcm"
    data = bytearray(file.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"\xff\xd8\xff\xf7"]
    assert len(at) == 12
    data[at[5] : at[5] + 40] = bytes(40)
    file.write_bytes(data)
    with open_slide(tmp_path) as slide:
        read = slide.read(WHOLE)
        assert (read[100:200, 100:200] == 255).all()
        read[100:200, 100:200] = pixels[100:200, 100:200]
        np.testing.assert_array_equal(read, pixels)
        assert slide.warnings == ["1 tile could not be decoded and is shown as background"]


def change(folder: Path, **values: Any) -> Path:
    import pydicom

    file = folder / "0.dcm"
    data = pydicom.dcmread(file)
    for name, value in values.items():
        setattr(data, name, value)
    data.save_as(file)
    return file


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"TotalPixelMatrixRows": 2**31 - 1, "TotalPixelMatrixColumns": 2**31 - 1}, "2147483647"),
        ({"Rows": 0}, None),
        ({"NumberOfFrames": 2**31 - 1}, None),
        ({"TotalPixelMatrixRows": 0}, "zero"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "no image of a slide|DICOM"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "no image of a slide|DICOM"),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_impossible_files_are_one_error(
    tmp_path: Path, pixels: RGB, values: dict[str, Any], said: str | None, sparse: bool
) -> None:
    write_dicom(tmp_path, [pixels], tile=(100, 100), sparse=sparse)
    file = change(tmp_path, **values)
    with pytest.raises(SlideError, match=said) as caught:
        open_slide(tmp_path)
    assert file.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(
    tmp_path: Path, pixels: RGB, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom(tmp_path, [pixels])
    monkeypatch.setitem(sys.modules, "wsidicom", None)
    monkeypatch.setitem(sys.modules, "wsidicom.file", None)
    with pytest.raises(SlideError, match="pip install wsidicom"):
        open_slide(tmp_path)
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(SlideError, match="is a DICOM slide, which needs wsidicom: pip install"):
        open_slide(tmp_path)


def test_a_closed_slide_says_so(tmp_path: Path, pixels: RGB) -> None:
    slide = open_slide(write_dicom(tmp_path, [pixels]))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(WHOLE)
