"""Damaged, contradictory and unusual TIFF files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide
from napari_genselfdiff.slides.tiff_level import check_embedded_size

RGB = NDArray[np.uint8]
WIDTH_TAG, HEIGHT_TAG, COMPRESSION_TAG, OFFSETS_TAG, COUNTS_TAG = 256, 257, 259, 324, 325
TILE_WIDTH_TAG, ROWS_TAG = 322, 278


@pytest.fixture(scope="module")
def rgb() -> RGB:
    yy, xx = np.mgrid[0:256, 0:384]
    return np.stack([yy % 251, xx % 241, (yy + xx) % 239], axis=-1).astype(np.uint8)


@pytest.fixture
def jpeg(tmp_path: Path, rgb: RGB) -> Path:
    """Six JPEG tiles, and a smaller copy."""
    path = tmp_path / "slide.svs"
    with tifffile.TiffWriter(path) as tif:
        for image in (rgb, rgb[::2, ::2]):
            tif.write(image, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=None)
    return path


def tag(path: Path, code: int, page: int = 0) -> Any:
    """One tag of a page: where its value lies and what it is."""
    with tifffile.TiffFile(path) as tif:
        return tif.pages[page].tags[code]  # type: ignore[union-attr]


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def patch_tag(path: Path, code: int, value: int, index: int = 0) -> None:
    """Overwrite one number of a tag's value."""
    found = tag(path, code)
    size = {3: "<H", 4: "<I", 16: "<Q"}[int(found.dtype)]
    patch(path, found.valueoffset + index * struct.calcsize(size), struct.pack(size, value))


def read_all(slide: Slide) -> RGB:
    return slide.read(Region(0, 0, *slide.shape))


@pytest.mark.parametrize("how", ["zeroed", "garbled", "no bytes", "past the end", "huge count"])
def test_one_bad_tile_is_white_and_counted(jpeg: Path, rgb: RGB, how: str) -> None:
    with open_slide(jpeg) as slide:
        good = read_all(slide)
    offset, count = tag(jpeg, OFFSETS_TAG).value[1], tag(jpeg, COUNTS_TAG).value[1]
    if how == "zeroed":
        patch(jpeg, offset, bytes(count))
    elif how == "garbled":
        patch(jpeg, offset, np.random.default_rng(0).bytes(count))
    elif how == "no bytes":
        patch_tag(jpeg, COUNTS_TAG, 0, 1)
    elif how == "past the end":
        patch_tag(jpeg, OFFSETS_TAG, 10**9, 1)
    else:
        patch_tag(jpeg, COUNTS_TAG, 60_000, 1)
    with open_slide(jpeg) as slide:
        read = read_all(slide)
        again = slide.read(Region(0, 100, 50, 200))
        from_zarr = np.asarray(slide.levels[0][:])
        warnings = slide.warnings
    assert (read[:128, 128:256] == 255).all()
    np.testing.assert_array_equal(read[128:], good[128:])
    np.testing.assert_array_equal(read[:, 256:], good[:, 256:])
    np.testing.assert_array_equal(again, read[:50, 100:300])
    np.testing.assert_array_equal(from_zarr, read)
    assert "1 tile could not be decoded and is shown as background" in warnings


def test_embedded_image_larger_than_its_tile_is_not_decoded(jpeg: Path) -> None:
    offset, count = tag(jpeg, OFFSETS_TAG).value[0], tag(jpeg, COUNTS_TAG).value[0]
    data = jpeg.read_bytes()[offset : offset + count]
    size_at = data.index(b"\xff\xc0") + 5
    patch(jpeg, offset + size_at, struct.pack(">HH", 65_000, 65_000))
    with open_slide(jpeg) as slide:
        assert (slide.read(Region(0, 0, 128, 128)) == 255).all()
        assert len(slide.warnings) == 1


def test_embedded_sizes_are_found() -> None:
    picture = np.zeros((40, 50, 3), np.uint8)
    for data, compression in (
        (imagecodecs.jpeg8_encode(picture), 7),
        (imagecodecs.jpeg2k_encode(picture, codecformat="j2k"), 33005),
        (imagecodecs.jpeg2k_encode(picture, codecformat="jp2"), 34712),
    ):
        check_embedded_size(bytes(data), compression, (40, 50))
        for segment in ((39, 50), (40, 49)):
            with pytest.raises(SlideError, match="holds an image of"):
                check_embedded_size(bytes(data), compression, segment)
        with pytest.raises(SlideError, match="holds an image of"):
            check_embedded_size(bytes(data[:4]), compression, (40, 50))


@pytest.mark.parametrize("code", [WIDTH_TAG, HEIGHT_TAG])
@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 65_535, 0])
def test_impossible_size_is_refused(jpeg: Path, code: int, value: int) -> None:
    found = tag(jpeg, code)
    if int(found.dtype) == 3 and value > 65_535:
        patch(jpeg, found.offset + 2, struct.pack("<HI", 4, 1))  # make the tag a 32-bit one
        patch(jpeg, found.valueoffset, struct.pack("<I", value))
    else:
        patch_tag(jpeg, code, value)
    with pytest.raises(SlideError, match=r"slide\.svs") as caught:
        open_slide(jpeg)
    assert "\n" not in str(caught.value)


def test_impossible_tile_size_is_refused(jpeg: Path) -> None:
    patch_tag(jpeg, TILE_WIDTH_TAG, 65_520)
    with pytest.raises(SlideError, match=r"slide\.svs"):
        open_slide(jpeg)


def test_raw_size_is_checked_against_the_file(tmp_path: Path, rgb: RGB) -> None:
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, rgb, photometric="rgb", metadata=None)
    whole = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(whole - 5000)
    with pytest.raises(SlideError, match=r"uncompressed pixels .* but the file has"):
        open_slide(path)


def test_huge_strip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "strip.tif"
    image = np.zeros((200, 200, 3), np.uint8)
    tifffile.imwrite(path, image, photometric="rgb", rowsperstrip=200, compression="zlib")
    with path.open("r+b") as file:
        for code in (WIDTH_TAG, HEIGHT_TAG, ROWS_TAG):
            found = tag(path, code)
            file.seek(found.offset + 2)
            file.write(struct.pack("<HII", 4, 1, 60_000))
    with pytest.raises(SlideError, match="GiB; save it as a tiled TIFF"):
        open_slide(path)


def test_cut_file_still_shows_what_is_left(tmp_path: Path, rgb: RGB) -> None:
    path = tmp_path / "cut.svs"
    tifffile.imwrite(
        path, rgb, tile=(128, 128), photometric="rgb", compression="zlib", metadata=None
    )
    last = tag(path, OFFSETS_TAG).value[-2]
    with path.open("r+b") as file:
        file.truncate(last + 10)
    with open_slide(path) as slide:
        assert slide.warnings == [
            "2 of 6 pieces lie beyond the end of the file: it is cut short",
        ]
        read = read_all(slide)
        assert "2 tiles could not be decoded and are shown as background" in slide.warnings
    np.testing.assert_array_equal(read[:128], rgb[:128])


def test_file_cut_before_its_pixels_is_refused(tmp_path: Path, rgb: RGB) -> None:
    path = tmp_path / "cut.svs"
    tifffile.imwrite(
        path, rgb, tile=(128, 128), photometric="rgb", compression="zlib", metadata=None
    )
    with path.open("r+b") as file:
        file.truncate(tag(path, OFFSETS_TAG).value[0] + 4)
    with pytest.raises(SlideError, match=r"cut\.svs"):
        open_slide(path)


@pytest.mark.parametrize("length", [4, 8, 9, 40, 150])
def test_cut_header_is_refused(jpeg: Path, length: int) -> None:
    data = jpeg.read_bytes()[:length]
    jpeg.write_bytes(data)
    with pytest.raises(SlideError, match=r"slide\.svs"):
        open_slide(jpeg)


def test_loop_of_images_ends(jpeg: Path) -> None:
    with tifffile.TiffFile(jpeg) as tif:
        first, second = (page.offset for page in tif.pages)
    with jpeg.open("rb") as file:
        file.seek(second)
        (tags,) = struct.unpack("<H", file.read(2))
    patch(jpeg, second + 2 + tags * 12, struct.pack("<I", first))
    with open_slide(jpeg) as slide:
        assert slide.shape == (256, 384)
        assert slide.read(Region(0, 0, 5, 5)).shape == (5, 5, 3)


def test_lost_second_image_is_told(jpeg: Path) -> None:
    with tifffile.TiffFile(jpeg) as tif:
        first = tif.pages[0].offset
    with jpeg.open("rb") as file:
        file.seek(first)
        (tags,) = struct.unpack("<H", file.read(2))
    patch(jpeg, first + 2 + tags * 12, struct.pack("<I", 2**31))
    with open_slide(jpeg) as slide:
        assert slide.downsamples == (1.0,)


def test_damaged_smaller_copy_is_left_out(jpeg: Path) -> None:
    found = tag(jpeg, COMPRESSION_TAG, page=1)
    patch(jpeg, found.valueoffset, struct.pack("<H", 4))
    with open_slide(jpeg) as slide:
        assert slide.downsamples == (1.0,)
        assert slide.warnings == ["smaller copies of the image that are damaged and left out: 1"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"photometric": "separated", "extrasamples": ()}, "SEPARATED colours"),
        ({"photometric": "cielab"}, "CIELAB colours"),
        ({"photometric": "rgb", "compression": "webp"}, "WEBP compression"),
    ],
)
def test_unsupported_kinds_say_so(
    tmp_path: Path, rgb: RGB, options: dict[str, Any], said: str
) -> None:
    image = rgb if options["photometric"] != "separated" else np.dstack([rgb, rgb[..., :1]])
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, image, tile=(128, 128), metadata=None, **options)
    with pytest.raises(SlideError, match=f"{said} (are|is) not supported"):
        open_slide(path)


def test_complex_samples_say_so(tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.complex64), tile=(64, 64), metadata=None)
    with pytest.raises(SlideError, match="samples of this kind are not supported"):
        open_slide(path)


def test_palette_inverted_and_bilevel(tmp_path: Path, rgb: RGB) -> None:
    grey = rgb[..., 0]
    colormap = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 7)]) * 257
    tifffile.imwrite(
        tmp_path / "p.tif", grey, photometric="palette", colormap=colormap.astype(np.uint16)
    )
    tifffile.imwrite(tmp_path / "i.tif", grey, photometric="miniswhite", metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", grey > 99, photometric="minisblack", metadata=None)
    with open_slide(tmp_path / "p.tif") as slide:
        expected = np.stack([grey, 255 - grey, np.full_like(grey, 7)], axis=-1)
        np.testing.assert_array_equal(read_all(slide), expected)
    with open_slide(tmp_path / "i.tif") as slide:
        np.testing.assert_array_equal(read_all(slide)[..., 0], 255 - grey)
    with open_slide(tmp_path / "b.tif") as slide:
        np.testing.assert_array_equal(read_all(slide)[..., 2], (grey > 99) * 255)


def test_transparent_pixels_lie_on_white(tmp_path: Path, rgb: RGB) -> None:
    alpha = np.full((256, 384, 1), 255, np.uint8)
    alpha[:, 100:] = 0
    image = np.concatenate([rgb, alpha], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=["unassalpha"])
    with open_slide(tmp_path / "a.tif") as slide:
        read = read_all(slide)
    np.testing.assert_array_equal(read[:, :100], rgb[:, :100])
    assert (read[:, 100:] == 255).all()


def test_aperio_jpeg2000_in_ycbcr(tmp_path: Path) -> None:
    """Compression 33003 holds luminance and colour differences without saying so."""
    colour = np.array([[[150, 90, 170]]], np.float64)
    weights = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    ycc = np.rint(colour @ weights.T + [0, 128, 128]).astype(np.uint8)
    path = tmp_path / "old.svs"
    tile = np.broadcast_to(ycc, (128, 128, 3)).copy()
    encoded = imagecodecs.jpeg2k_encode(tile, codecformat="j2k", mct=False, level=0)
    tifffile.imwrite(
        path,
        iter([bytes(encoded)]),
        shape=(128, 128, 3),
        dtype=np.uint8,
        tile=(128, 128),
        photometric="rgb",
        compression=33005,
        metadata=None,
    )
    found = tag(path, COMPRESSION_TAG)
    patch(path, found.valueoffset, struct.pack("<H", 33003))
    with open_slide(path) as slide:
        read = read_all(slide)
    assert np.abs(read.astype(int) - [150, 90, 170]).max() <= 2


def test_planes_that_are_not_shown_are_told(tmp_path: Path, rgb: RGB) -> None:
    stack = np.stack([rgb[..., i % 3] for i in range(5)])
    path = tmp_path / "z.ome.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "ZYX"})
    with open_slide(path) as slide:
        assert slide.warnings == ["4 further planes (channels, focus or time) are not shown"]
        np.testing.assert_array_equal(read_all(slide)[..., 0], rgb[..., 0])


@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    tail=st.booleans(),
)
def test_random_damage_is_one_clear_error_or_pixels(
    tmp_path: Path, fuzzed: Callable[[], bytes], places: list[tuple[float, int]], tail: bool
) -> None:
    """Whatever bytes change, opening and reading ends in pixels or a `SlideError`."""
    data = bytearray(fuzzed())
    header = len(data) if tail else 600
    for share, value in places:
        data[min(int(share * header), len(data) - 1)] = value
    path = tmp_path / "fuzzed.svs"
    path.write_bytes(data)
    try:
        with open_slide(path) as slide:
            height, width = slide.shape
            assert height * width < 10**10
            read = slide.read(Region(0, 0, min(height, 300), min(width, 300)))
            assert read.dtype == np.uint8
    except SlideError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, rgb: RGB) -> Callable[[], bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "small.tif"
    with tifffile.TiffWriter(path) as tif:
        for image in (rgb[:128, :128], rgb[:64, :64]):
            tif.write(
                image,
                tile=(64, 64),
                photometric="rgb",
                compression="jpeg",
                metadata=None,
                description="Aperio x|MPP = 0.5",
            )
    return path.read_bytes
