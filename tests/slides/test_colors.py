"""Colour profiles written by hand, and what they make of colours, worked out by hand."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.slides.colors import NO_PROFILE
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide
from tests.slides.dicom import write_dicom

# Red, green and blue of sRGB as ICC profiles state them: XYZ under D50 (IEC 61966-2-1, adapted).
RED = (0.43607, 0.22249, 0.01392)
GREEN = (0.38515, 0.71687, 0.09708)
BLUE = (0.14307, 0.06061, 0.7141)


def profile(red: Any = RED, green: Any = GREEN, blue: Any = BLUE) -> bytes:
    """A profile whose samples are proportional to light, of a display with these primaries."""

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))

    text = b"desc" + struct.pack(">III", 0, 5, 0)[:8] + b"test\0" + bytes(78)
    straight = b"curv" + struct.pack(">II", 0, 0)
    tags = {
        b"desc": text,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz(red),
        b"gXYZ": xyz(green),
        b"bXYZ": xyz(blue),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), straight),
    }
    body, table, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


# sRGB of light v is 1.055 v^(1/2.4) - 0.055: 128/255 gives 0.7366 (188), 64/255 gives 0.5381 (137).
STORED = np.array([[0] * 3, [255] * 3, [128] * 3, [64] * 3, [255, 0, 0]], np.uint8)
SHOWN = np.array([[0] * 3, [255] * 3, [188] * 3, [137] * 3, [255, 0, 0]])


@pytest.fixture
def stripes() -> np.ndarray[Any, Any]:
    return np.repeat(np.repeat(STORED, 60, axis=0)[:, None], 200, axis=1)


def write(path: Path, kind: str, pixels: np.ndarray[Any, Any], icc: bytes) -> Path:
    if kind == "tiff":
        tifffile.imwrite(
            path / "a.tif", pixels, photometric="rgb", tile=(64, 64), iccprofile=icc, metadata=None
        )
        return path / "a.tif"
    if kind == "png":
        Image.fromarray(pixels).save(path / "a.png", icc_profile=icc)
        return path / "a.png"
    pytest.importorskip("wsidicom")
    return write_dicom(path, [pixels], syntax="raw" if kind == "openslide" else "jpegls", icc=icc)


@pytest.mark.parametrize("kind", ["tiff", "png", "openslide", "wsidicom"])
def test_light_becomes_srgb(tmp_path: Path, stripes: np.ndarray[Any, Any], kind: str) -> None:
    whole = Region(0, 0, 300, 200)
    with open_slide(write(tmp_path, kind, stripes, profile())) as slide:
        assert slide.colors == "stored"
        np.testing.assert_array_equal(slide.read(whole), stripes)
        turned = slide.in_colors("srgb")
        read = turned.read(whole)[30::60, 100]
        assert np.abs(read.astype(int) - SHOWN).max() <= 1
        assert np.abs(turned.levels[0][30:300:60, 100].astype(int) - SHOWN).max() <= 1
        assert (turned.read(Region(-5, -5, 5, 5)) == 255).all()
        np.testing.assert_array_equal(slide.read(whole), stripes)
        assert (turned.hash, turned.mpp, turned.warnings) == (slide.hash, slide.mpp, [])
        assert turned.in_colors("stored") is slide
    if kind != "png":  # which is read whole
        with pytest.raises(SlideError, match="closed"):
            turned.read(whole)


def test_red_and_green_change_places(tmp_path: Path) -> None:
    """Where the profile says that the first colour is green and the second red."""
    red = np.full((40, 50, 3), (255, 0, 0), np.uint8)
    path = write(tmp_path, "tiff", red, profile(red=GREEN, green=RED))
    with open_slide(path, colors="srgb") as slide:
        read = slide.read(Region(0, 0, 40, 50)).astype(int)
        assert np.abs(read - (0, 255, 0)).max() <= 1


def test_without_a_profile_nothing_changes_and_one_is_told(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9, 3), 70, np.uint8)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", colors="srgb") as slide:
        assert (slide.read(Region(0, 0, 9, 9)) == 70).all()
        assert slide.warnings == [NO_PROFILE]
        assert slide.in_colors("stored").warnings == []


@pytest.mark.parametrize("how", ["none", "cut short", "of another kind"])
def test_a_damaged_profile_is_one_error_if_it_is_asked_for(tmp_path: Path, how: str) -> None:
    sound = profile()
    damaged = {
        "none": b"no profile",
        "cut short": sound[:200],
        "of another kind": sound[:16] + b"CMYK" + sound[20:],
    }
    path = write(tmp_path, "tiff", np.full((64, 64, 3), 9, np.uint8), damaged[how])
    with open_slide(path) as slide:
        assert (slide.read(Region(0, 0, 64, 64)) == 9).all()
    with pytest.raises(SlideError, match=r"a\.tif: its colour profile cannot be used") as caught:
        open_slide(path, colors="srgb")
    assert "\n" not in str(caught.value)


def test_other_colours_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="'lab'; choose one of stored, srgb"):
        open_slide(tmp_path / "a.png", colors="lab")  # type: ignore[arg-type]


def test_damaged_tiles_stay_white_and_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((64, 128, 3), 9, np.uint8)
    tifffile.imwrite(
        path,
        pixels,
        tile=(64, 64),
        photometric="rgb",
        compression="jpeg",
        iccprofile=profile(),
        metadata=None,
    )
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages.first.dataoffsets[0], tif.pages.first.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + count] = bytes(count)
    path.write_bytes(data)
    with open_slide(path) as slide:
        views: tuple[Slide, Slide] = slide, slide.in_colors("srgb")
        assert all((view.read(Region(0, 0, 64, 64)) == 255).all() for view in views)
        assert slide.damaged_tiles == 1
