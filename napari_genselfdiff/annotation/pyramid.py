"""Coarser levels of label arrays: majority or nearest neighbour, whole or for a changed box."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.chunks import ChunkArray

    Labels = NDArray[np.unsignedinteger[Any]]

BLOCK = 2048  # pixels of a coarser level worked on at once, so that memory stays bounded
COARSEST = 512  # the pyramid ends where both sides are at most this


def level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of all levels of a pyramid that halves ``shape`` down to one chunk."""
    shapes = [shape]
    while max(shapes[-1]) > COARSEST:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def majority(fine: Labels) -> Labels:
    """Halve labels: the value most frequent in each 2x2 block, among equals the largest.

    A last odd row or column stands for its missing neighbour. ``fine`` is (h, w); the result
    (ceil(h/2), ceil(w/2)).
    """
    even = np.pad(fine, ((0, fine.shape[0] % 2), (0, fine.shape[1] % 2)), mode="edge")
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    a, b, c, d = np.minimum(a, b), np.maximum(a, b), np.minimum(c, d), np.maximum(c, d)
    first, b, c, last = np.minimum(a, c), np.maximum(a, c), np.minimum(b, d), np.maximum(b, d)
    second, third = np.minimum(b, c), np.maximum(b, c)
    # Ascending now. A pair at the upper end wins over one below; without a pair the largest does.
    pair_below = np.where(second == third, third, np.where(first == second, first, last))
    return np.asarray(np.where(third == last, last, pair_below), dtype=fine.dtype)


def nearest(fine: Labels) -> Labels:
    """Halve labels by taking the upper left pixel of each 2x2 block."""
    return fine[::2, ::2]


def rebuild(
    levels: Sequence[ChunkArray],
    box: Region,
    reduce: Callable[[Labels], Labels],
    *,
    align: int = 1,
) -> None:
    """Make all coarser levels agree with level 0 again where ``box`` (its pixels) changed.

    Parameters
    ----------
    levels
        Arrays of one pyramid, the finest first; each of the others is half the one before.
    box
        Changed rectangle in pixels of ``levels[0]``, inside it.
    reduce
        :func:`majority` or :func:`nearest`.
    align
        Widen the rectangles written to multiples of this; with the chunk's side no chunk of a
        coarser level is read, so damaged ones are simply replaced.
    """
    for fine, coarse in itertools.pairwise(levels):
        clipped = aligned(box.to_grid(2), align).clipped(_size(coarse))
        if clipped is None:
            raise ConfigError(f"{box} is not inside a level of {fine.shape} pixels")
        box = clipped
        for block in split(box, BLOCK):
            source = block.from_grid(2).clipped(_size(fine))
            if source is not None:
                coarse.write(block.slices, reduce(fine.read(source.slices)))


def split(box: Region, side: int) -> list[Region]:
    """Blocks of at most ``side`` pixels, on multiples of ``side``, that make up the box."""
    rows = range(box.y - box.y % side, box.y1, side)
    columns = range(box.x - box.x % side, box.x1, side)
    blocks = (Region(y, x, side, side).intersection(box) for y in rows for x in columns)
    return [block for block in blocks if block is not None]


def aligned(box: Region, side: int) -> Region:
    """Smallest region with edges on multiples of ``side`` that covers the box."""
    return Region.from_bounds(
        box.y // side * side,
        box.x // side * side,
        -(-box.y1 // side) * side,
        -(-box.x1 // side) * side,
    )


def _size(array: ChunkArray) -> tuple[int, int]:
    height, width = array.shape
    return height, width
