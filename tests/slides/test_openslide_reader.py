"""Scanner formats: the library missing, errors and the handle after them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.openslide_reader import open_with_openslide
from napari_genselfdiff.slides.slide import Slide, open_slide
from tests.slides.vendors import write_vms


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    """A pyramid that OpenSlide reads too, with some noise to encode."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (600, 900, 3), dtype=np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for small, image in enumerate((rgb, rgb[::2, ::2])):
            tif.write(
                image,
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                subfiletype=small,
                metadata=None,
            )
    return path


@pytest.fixture
def slide(pyramid: Path) -> Iterator[Slide]:
    pytest.importorskip("openslide")
    with Slide(pyramid, open_with_openslide(pyramid, "generic")) as slide:
        yield slide


def test_same_pixels_as_the_tiff_reader(pyramid: Path, slide: Slide) -> None:
    with open_slide(pyramid) as other:
        assert (slide.reader, other.reader) == ("openslide", "tiff")
        assert slide.downsamples == other.downsamples
        for region, downsample in ((Region(-9, 300, 700, 650), 1.0), (Region(3, 4, 200, 99), 2.5)):
            np.testing.assert_array_equal(
                slide.read(region, downsample), other.read(region, downsample)
            )
        np.testing.assert_array_equal(slide.levels[1][:], other.levels[1][:])


def test_handle_is_replaced_after_an_error(
    pyramid: Path, slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openslide

    handle: Any = slide._source.levels[0]._handle  # type: ignore[attr-defined]
    dead = handle.slide
    real = openslide.OpenSlide.read_region

    def read_region(self: Any, *args: Any) -> Any:
        if self is dead:
            raise openslide.OpenSlideError("latched")
        return real(self, *args)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", read_region)
    read = slide.read(Region(0, 0, 600, 400))
    assert handle.slide is not dead
    assert (read[:512, :400] == 255).all()
    assert slide.warnings == ["1 tile could not be decoded and is shown as background"]
    with open_slide(pyramid) as other:
        np.testing.assert_array_equal(read[512:], other.read(Region(512, 0, 88, 400)))


def test_closed_slide_says_so(slide: Slide) -> None:
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(Region(0, 0, 10, 10))


@pytest.fixture
def ndpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TIFF that passes for a Hamamatsu slide."""
    path = tmp_path / "a.ndpi"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    monkeypatch.setattr(tifffile.TiffFile, "is_ndpi", True, raising=False)
    return path


def test_missing_library_is_named(
    ndpi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(SlideError, match="Hamamatsu NDPI slide, which needs OpenSlide: pip"):
        open_slide(ndpi)
    (tmp_path / "b.mrxs").write_bytes(b"\0\1\2\3" * 100)
    with pytest.raises(SlideError, match="OpenSlide is not installed"):
        open_slide(tmp_path / "b.mrxs")


def test_scanner_file_that_is_none(ndpi: Path) -> None:
    pytest.importorskip("openslide")
    with pytest.raises(SlideError, match="OpenSlide cannot open it") as caught:
        open_slide(ndpi)
    assert "\n" not in str(caught.value)


def test_a_property_with_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    rgb = np.full((128, 128, 3), 200, np.uint8)
    path = write_vms(tmp_path, rgb, rgb)
    path.write_bytes(path.read_bytes() + "Größe=7\r\n".encode("latin-1"))
    with open_slide(path) as slide:
        assert slide.properties["hamamatsu.SourceLens"] == "20"
        assert "7" not in slide.properties.values()
