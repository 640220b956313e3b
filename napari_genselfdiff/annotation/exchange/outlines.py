"""Outlines along pixel edges, and back: filling an outline gives exactly the pixels it came from.

Coordinates are (x, y) pairs of pixel corners: pixel (row, column) is the square from
(column, row) to (column + 1, row + 1), as in QuPath.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Ring = NDArray[np.float64]

_CROSSINGS = 2**22  # edges times rows worked on at once

# Sides of a pixel, walked clockwise as seen on screen, the pixel on the right hand:
# top, right, bottom, left. _AHEAD is the step to the next pixel along a side, _START the corner
# at which a side begins, relative to the pixel, both (row, column).
_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))
_START = ((0, 0), (0, 1), (1, 1), (1, 0))


@dataclass(frozen=True, slots=True)
class Outline:
    """A closed ring of one label, without its repeated last point; holes run the other way round.

    ``points`` are (n, 2) corner coordinates (x, y), only where the direction changes; ``pixel`` is
    a pixel (row, column) of the label at the ring, ``area`` signed, negative for holes.
    """

    label: int
    points: NDArray[np.int64]
    pixel: tuple[int, int]
    area: float


class Boundary:
    """Sides of pixels at which labels end, collected piece by piece.

    ``add`` takes an image with one pixel of its surroundings on each side (0 beyond the slide);
    pieces must not overlap but for these. Memory grows with the boundary, not with the image.
    """

    def __init__(self) -> None:
        self._keys: list[NDArray[np.int64]] = []
        self._next: list[NDArray[np.int64]] = []
        self._labels: list[NDArray[np.int64]] = []

    def add(self, framed: NDArray[Any], y: int, x: int) -> None:
        """Add an image whose first inner pixel is at row ``y``, column ``x``."""
        inner = framed[1:-1, 1:-1]
        for side, (dy, dx) in enumerate(_AHEAD):
            out = _AHEAD[side - 1]  # the neighbour across the side
            across = _shifted(framed, out)
            rows, columns = np.nonzero((inner > 0) & (inner != across))
            if not len(rows):
                continue
            label = inner[rows, columns]
            ahead = framed[1 + rows + dy, 1 + columns + dx] == label
            corner = framed[1 + rows + dy + out[0], 1 + columns + dx + out[1]] == label
            turn = np.where(~ahead, 1, np.where(corner, -1, 0))  # right, left or straight on
            to_row = rows + np.where(ahead, dy, 0) + np.where(ahead & corner, out[0], 0)
            to_column = columns + np.where(ahead, dx, 0) + np.where(ahead & corner, out[1], 0)
            self._keys.append(_key(rows + y, columns + x, side))
            self._next.append(_key(to_row + y, to_column + x, (side + turn) % 4))
            self._labels.append(label.astype(np.int64))

    def outlines(self) -> Iterator[Outline]:
        """Rings of everything added, none of which touches itself."""
        if not self._keys:
            return
        keys = np.concatenate(self._keys)
        order = np.argsort(keys)
        keys = keys[order]
        following = np.searchsorted(keys, np.concatenate(self._next)[order])
        labels = np.concatenate(self._labels)[order]
        walked, first = _walked(following)
        sides = keys % 4
        bends = (sides[following] != sides)[walked]
        corners = _corners(keys[following[walked[bends]]])
        ends = np.append(np.cumsum(bends), 0)[np.append(first[1:], len(walked)) - 1]
        starts = walked[first]  # the lowest key of each ring
        pixels = zip(*(part.tolist() for part in _unkey(keys[starts])), strict=True)
        yield from _simple(labels[starts].tolist(), corners, ends, list(pixels))


def outlines(labels: NDArray[Any], y: int = 0, x: int = 0) -> list[Outline]:
    """Rings of every label above 0 of an image whose first pixel is at row ``y``, column ``x``."""
    boundary = Boundary()
    boundary.add(np.pad(labels, 1), y, x)
    return list(boundary.outlines())


def rasterize(rings: Sequence[Ring], y: int, x: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centres lie inside an odd number of rings.

    Parameters
    ----------
    rings
        (n, 2) corner coordinates (x, y), finite; whether the last point repeats the first does not
        matter.
    y, x, shape
        Rectangle to fill: its first pixel's row and column, its height and width.
    """
    return fill(ring_edges(rings), y, x, shape)


def ring_edges(rings: Sequence[NDArray[Any]]) -> Ring:
    """Edges (x, y, x, y) of closed rings, (n, 4), for :func:`fill`."""
    rings = [ring for ring in rings if len(ring)]
    if not rings:
        return np.empty((0, 4))
    points = np.concatenate(rings).astype(np.float64)
    ends = np.cumsum([len(ring) for ring in rings])
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = np.append(0, ends[:-1])
    return np.concatenate([points, points[following]], axis=1)


def fill(edges: Ring, y: int, x: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels inside an odd number of the rings these edges make up; as :func:`rasterize`."""
    height, width = shape
    flips = np.zeros((height, width + 1), bool)
    per_piece = max(_CROSSINGS // max(height, 1), 1)
    low, high = np.minimum(edges[:, 1], edges[:, 3]), np.maximum(edges[:, 1], edges[:, 3])
    edges = edges[(low < y + height) & (high > y)] - (x, y, x, y)  # the others flip nothing here
    for start in range(0, len(edges), per_piece):
        _flip(flips, edges[start : start + per_piece])
    return np.logical_xor.accumulate(flips, axis=1)[:, :-1]


def _flip(flips: NDArray[np.bool_], edges: Ring) -> None:
    """Turn over the pixel right of each place where an edge (x, y, x, y) passes a row's centre."""
    height, width = flips.shape[0], flips.shape[1] - 1
    edges = edges[edges[:, 1] != edges[:, 3]]
    x, y, x1, y1 = edges.T
    first = _within(np.minimum(y, y1), height)
    last = _within(np.maximum(y, y1), height)
    n = last - first
    edge = np.repeat(np.arange(len(edges)), n)
    rows = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(n) - n, n)
    share = (rows + 0.5 - y[edge]) / (y1 - y)[edge]
    crossing = x[edge] + share * (x1 - x)[edge]
    np.logical_xor.at(flips, (rows, _within(crossing, width)), True)


def _within(places: Ring, limit: int) -> NDArray[np.int64]:
    """First pixel whose centre is not before each place, 0 to ``limit``."""
    return np.minimum(np.maximum(np.ceil(places - 0.5), 0), limit).astype(np.int64)


def _shifted(framed: NDArray[Any], step: tuple[int, int]) -> NDArray[Any]:
    """Neighbours of the inner pixels of a framed image in one direction."""
    dy, dx = step
    return framed[1 + dy : framed.shape[0] - 1 + dy, 1 + dx : framed.shape[1] - 1 + dx]


def _key(
    rows: NDArray[np.int64], columns: NDArray[np.int64], side: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of a pixel side; both coordinates stay far below 2^30."""
    return ((rows << 30) + columns) * 4 + side


def _unkey(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return (keys // 4) >> 30, (keys // 4) & (2**30 - 1)


def _walked(following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sides in the order they are walked, ring after ring, and where each ring begins among them.

    A ring begins at its first side; rings come in the order of these. Every pass looks twice as
    far ahead, so a ring of a million sides takes 20 passes.
    """
    here = np.arange(len(following))
    head, ahead = here.copy(), following
    while True:
        lower = np.minimum(head, head[ahead])
        if np.array_equal(lower, head):
            break
        head, ahead = lower, ahead[ahead]
    is_head = head == here
    steps, ahead = (~is_head).astype(np.int64), np.where(is_head, here, following)
    while not is_head[ahead].all():
        steps, ahead = steps + steps[ahead], ahead[ahead]
    # Steps count down to the head, which itself has none left but comes first.
    order = np.lexsort((np.where(is_head, -len(here), -steps), head))
    return order, np.flatnonzero(is_head[order])


def _corners(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Corner (x, y) at which each side begins."""
    start = np.array(_START)[keys % 4]
    rows, columns = _unkey(keys)
    return np.stack([columns + start[:, 1], rows + start[:, 0]], axis=1)


def _simple(
    labels: list[int],
    corners: NDArray[np.int64],
    ends: NDArray[np.int64],
    pixels: list[tuple[int, int]],
) -> Iterator[Outline]:
    """Rings, cut where they meet themselves in a corner; the standards want rings that do not.

    ``corners`` are those of all rings; each ends before its place in ``ends``.
    """
    starts = np.append(0, ends[:-1])
    areas = _areas(corners, starts, ends).tolist()
    owner = np.repeat(np.arange(len(ends)), ends - starts)
    order = np.lexsort((corners[:, 0], corners[:, 1], owner))
    same = (np.diff(corners[order], axis=0) == 0).all(axis=1) & (np.diff(owner[order]) == 0)
    touching = set(owner[order[1:][same]].tolist())
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        ring, label, pixel = corners[start:end], labels[number], pixels[number]
        if number in touching:
            yield from (Outline(label, loop, pixel, _area(loop)) for loop in _loops(ring))
        else:
            yield Outline(label, ring, pixel, areas[number])


def _loops(ring: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Parts of a ring between two visits of one corner."""
    path: list[tuple[int, int]] = []
    index: dict[tuple[int, int], int] = {}
    for point in map(tuple, ring.tolist()):
        if point in index:
            cut = index[point]
            yield np.array(path[cut:], np.int64)
            for gone in path[cut:]:
                del index[gone]
            del path[cut:]
        index[point] = len(path)
        path.append(point)
    yield np.array(path, np.int64)


def _area(ring: NDArray[np.int64]) -> float:
    """Signed area; rings walked clockwise on screen (y downwards) are positive."""
    return float(_areas(ring, np.array([0]), np.array([len(ring)]))[0])


def _areas(
    corners: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Signed areas of rings that lie one after the other in ``corners``."""
    origin = np.repeat(corners[starts], ends - starts, axis=0)
    x, y = (corners - origin).T
    after = np.arange(1, len(corners) + 1)
    after[ends - 1] = starts
    areas: NDArray[np.float64] = np.add.reduceat(x * y[after] - x[after] * y, starts) / 2
    return areas
