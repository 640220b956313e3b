"""A very large slide out of a small one: many sections of it on glass, every tile stored once.

The file is a pyramidal BigTIFF whose tile tables name the same few JPEG tiles again and again, so
that a slide of billions of pixels takes some megabytes and a second to write.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.samples import sample_path

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

CELL: Final = (6144, 3072)
"""Height and width in level-0 pixels of a place on the glass, which may hold a section."""
DOWNSAMPLES: Final = (1, 4, 16, 64)
MPP: Final = 0.499
_FILLED: Final = 0.4  # share of the places with a section
_TILE: Final = 256
_GLASS: Final = (244, 244, 244)
_QUALITY: Final = 85
_ASCII, _SHORT, _LONG, _RATIONAL, _LONG8 = 2, 3, 4, 5, 16
_SIZES: Final = {_ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _LONG8: 8}


@dataclass(frozen=True)
class _Level:
    """Tiles of one level: which of the stored ones is where, and their places in the file."""

    shape: tuple[int, int]
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]


def make_synthetic_slide(folder: Path) -> Path:
    """The large sample slide in ``folder``, written there unless it is there already."""
    path = folder / "synthetic-slide.tif"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_synthetic_slide(path)
    return path


def write_synthetic_slide(path: Path, places: tuple[int, int] = (8, 16), *, seed: int = 0) -> None:
    """Write a slide with ``places`` (rows, columns) for sections, some of them filled.

    A place takes 6144 x 3072 pixels; the default is a slide of 49,152 x 49,152. A section is the
    shipped H&E sample (CC0, 0.499 µm/px) and its mirror image. ``path`` is afterwards the whole
    file or what it was.

    Raises
    ------
    ConfigError
        If there is no place.
    OSError
        If the disk refuses.
    """
    if min(places) < 1:
        raise ConfigError(f"a slide with {places[0]} x {places[1]} places; 1 x 1 or more is needed")
    is_filled = np.random.default_rng(seed).random(places) < _FILLED
    is_filled[places[0] // 2, places[1] // 2] = True  # never empty
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
            levels = _write_tiles(file, is_filled)
            _write_directories(file, levels)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _section() -> Pixels:
    """A place with a section: the sample, and below it its mirror image, where tissue goes on."""
    import tifffile

    with tifffile.TiffFile(sample_path("cmu_small_region")) as file:
        half = file.pages[0].asarray()
    whole = np.concatenate([half, half[::-1]], axis=0)
    cell = np.full((*CELL, 3), _GLASS, np.uint8)
    y, x = ((cell.shape[i] - whole.shape[i]) // 2 for i in (0, 1))
    cell[y : y + whole.shape[0], x : x + whole.shape[1]] = whole
    return cell


def _smaller(image: Pixels, by: int) -> Pixels:
    """Means of squares of ``by`` pixels."""
    height, width = image.shape[0] // by, image.shape[1] // by
    means = image.reshape(height, by, width, by, 3).mean(axis=(1, 3))
    return np.asarray(means.round(), np.uint8)


def _write_tiles(file: BinaryIO, is_filled: NDArray[np.bool_]) -> list[_Level]:
    """Write every different tile once; give which of them lies where."""
    small, levels = _section(), []
    for number in range(len(DOWNSAMPLES)):
        small = small if number == 0 else _smaller(small, DOWNSAMPLES[1])
        sides = small.shape[:2]
        if all(side % _TILE == 0 for side in sides):  # no tile lies in two places
            per_cell = (sides[0] // _TILE, sides[1] // _TILE)
            known, picture = np.kron(is_filled, np.ones(per_cell, bool)), small
        else:
            picture = _composed(small, is_filled)
            known = np.ones([-(-length // _TILE) for length in picture.shape[:2]], bool)
        stored = _store(file, picture)
        empty = _store(file, np.full((_TILE, _TILE, 3), _GLASS, np.uint8))[0, 0]
        ys, xs = np.indices(known.shape)
        found = stored[ys % stored.shape[0], xs % stored.shape[1]]
        found = np.where(known[..., None], found, empty)
        shape = (is_filled.shape[0] * sides[0], is_filled.shape[1] * sides[1])
        levels.append(_Level(shape, found[..., 0].ravel(), found[..., 1].ravel()))
    return levels


def _composed(section: Pixels, is_filled: NDArray[np.bool_]) -> Pixels:
    """The whole slide at a low resolution."""
    glass = np.full_like(section, _GLASS)
    rows = [np.concatenate([section if here else glass for here in row], 1) for row in is_filled]
    return np.concatenate(rows, axis=0)


def _store(file: BinaryIO, picture: Pixels) -> NDArray[np.uint64]:
    """Write the tiles of a picture; offset and number of bytes of each, (rows, columns, 2)."""
    from imagecodecs import jpeg8_encode

    rows, columns = (-(-length // _TILE) for length in picture.shape[:2])
    full = np.full((rows * _TILE, columns * _TILE, 3), _GLASS, np.uint8)
    full[: picture.shape[0], : picture.shape[1]] = picture
    places = np.zeros((rows, columns, 2), np.uint64)
    for row in range(rows):
        for column in range(columns):
            part = full[row * _TILE : (row + 1) * _TILE, column * _TILE : (column + 1) * _TILE]
            data = jpeg8_encode(np.ascontiguousarray(part), _QUALITY, subsampling="444")
            places[row, column] = file.tell(), len(data)
            file.write(data)
    return places


def _write_directories(file: BinaryIO, levels: list[_Level]) -> None:
    """Write one image file directory a level, largest first, and link them (TIFF 6.0, BigTIFF)."""
    link = 8  # where the place of the next directory is written
    for number, level in enumerate(levels):
        per_cm = round(1e4 / MPP / DOWNSAMPLES[number])
        about = b"Synthetic slide: tissue of CMU-1-Small-Region.svs (CC0), repeated\0"
        tags: list[tuple[int, int, bytes]] = [
            (254, _LONG, _packed(_LONG, [int(number > 0)])),
            (256, _LONG, _packed(_LONG, [level.shape[1]])),
            (257, _LONG, _packed(_LONG, [level.shape[0]])),
            (258, _SHORT, _packed(_SHORT, [8, 8, 8])),
            (259, _SHORT, _packed(_SHORT, [7])),  # JPEG
            (262, _SHORT, _packed(_SHORT, [6])),  # YCbCr
            (270, _ASCII, about),
            (277, _SHORT, _packed(_SHORT, [3])),
            (282, _RATIONAL, _packed(_LONG, [per_cm, 1])),
            (283, _RATIONAL, _packed(_LONG, [per_cm, 1])),
            (284, _SHORT, _packed(_SHORT, [1])),
            (296, _SHORT, _packed(_SHORT, [3])),  # per cm
            (322, _LONG, _packed(_LONG, [_TILE])),
            (323, _LONG, _packed(_LONG, [_TILE])),
            (324, _LONG8, level.offsets.astype("<u8").tobytes()),
            (325, _LONG8, level.counts.astype("<u8").tobytes()),
            (530, _SHORT, _packed(_SHORT, [1, 1])),
        ]
        start = _write_directory(file, tags)
        end = file.tell()
        file.seek(link)
        file.write(struct.pack("<Q", start))
        file.seek(end)
        link = end - 8


def _write_directory(file: BinaryIO, tags: list[tuple[int, int, bytes]]) -> int:
    """Write one directory, values that do not fit into it first; where it begins."""
    entries = []
    for tag, kind, data in tags:
        value = data.ljust(8, b"\0")
        if len(data) > 8:
            value = struct.pack("<Q", file.tell())
            file.write(data)
        entries.append(struct.pack("<HHQ", tag, kind, len(data) // _SIZES[kind]) + value)
    start = file.tell()
    file.write(struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", 0))
    return start


def _packed(kind: int, values: list[int]) -> bytes:
    return struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
