"""Plain images of every mode; damaged and huge ones."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide

GREY = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)


def opened(path: Path) -> NDArray[np.uint8]:
    with open_slide(path) as slide:
        return slide.read(Region(0, 0, *slide.shape))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "1", "I;16"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(GREY).convert(mode, dither=Image.Dither.NONE).save(path)
    expected = (GREY > 127) * 255 if mode == "1" else GREY
    read = opened(path)
    assert read.shape == (60, 80, 3)
    assert np.abs(read.astype(int) - expected[..., None]).max() <= 1


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((10, 10, 4), np.uint8)
    rgba[5:, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = opened(tmp_path / "a.png")
    assert (read[:5] == 255).all()
    assert (read[5:] == 0).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_cut_image_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    for length in (12, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(SlideError, match=r"is not a usable (PNG|JPEG|BMP) image") as caught:
            open_slide(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [12_500, 2**31 - 1])
def test_huge_image_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    body = b"IDAT" + zlib.compress(bytes(1000))
    data += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "big.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(SlideError, match=r"too many for a PNG file|decompression bomb"):
        open_slide(tmp_path / "big.png")
