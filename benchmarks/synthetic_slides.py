"""Large slides for benchmarks, made of the fields of the bundled sample: real tissue, any size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide

TILE, MPP = 256, 0.25


def encoded_tiles() -> list[bytes]:
    """Every tile of the sample's fields as JPEG, quality 85."""
    with open_slide(sample_path("tnbc_pyramid")) as slide:
        height, width = slide.shape
        places = itertools.product(range(0, height, TILE), range(0, width, TILE))
        pictures = [slide.read(Region(y, x, TILE, TILE)) for y, x in places]
    return [_encoded(np.ascontiguousarray(p)) for p in pictures if p.mean() < 235]


def write_dense(path: Path, side: int) -> None:
    """Write a slide of ``side`` pixels that is tissue everywhere, like an SVS of 0.25 µm/px."""
    rng, tiles = np.random.default_rng(0), encoded_tiles()

    def level(_number: int, columns: int) -> Iterator[bytes]:
        picks = rng.integers(0, len(tiles), columns * columns)
        return (tiles[int(i)] for i in picks)

    _write(path, side, level)


def write_sparse(path: Path, side: int, islands: int) -> None:
    """Write a slide of glass with islands of 1024 pixels; glass takes no bytes in the file."""
    rng, tiles = np.random.default_rng(3), encoded_tiles()
    corners = rng.integers(0, side // TILE - 4, (islands, 2)) * TILE
    tissue = imagecodecs.jpeg8_decode(tiles[0])

    def level(number: int, columns: int) -> Iterator[bytes]:
        shown: dict[tuple[int, int], np.ndarray] = {}
        size = max(1, 1024 >> number)
        for y, x in (corners >> number).tolist():
            for row, column in np.ndindex(
                -(-(y % TILE + size) // TILE), -(-(x % TILE + size) // TILE)
            ):
                tile = shown.setdefault(
                    (y // TILE + row, x // TILE + column), np.full((TILE, TILE, 3), 255, np.uint8)
                )
                top, left = y - (y // TILE + row) * TILE, x - (x // TILE + column) * TILE
                part = tuple(slice(max(0, v), min(TILE, v + size)) for v in (top, left))
                tile[part] = tissue[part]
        for place in np.ndindex(columns, columns):
            picture = shown.get((int(place[0]), int(place[1])))
            yield b"" if picture is None else _encoded(picture)

    _write(path, side, level)


def _encoded(picture: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(picture, level=85, subsampling="420"))


def _write(path: Path, side: int, level: Callable[[int, int], Iterator[bytes]]) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for number in itertools.count():
            here = side >> number
            tif.write(
                level(number, -(-here // TILE)),
                shape=(here, here, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=1 if number else 0,
                description=f"Aperio benchmark|MPP = {MPP}" if number == 0 else None,
                metadata=None,
            )
            if here <= 1024:
                return
