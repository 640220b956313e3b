"""Connected parts of a mask, held as runs of pixels along its rows.

Tissue has a few thousand runs where it has a few hundred thousand pixels of foreground, so what is
asked of whole parts (which pixels touch, how large, how long) is answered on the runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of foreground in reading order, and the 8-connected part each belongs to.

    Places are flat indices into the image in a frame: one row above and below, one column to the
    left, one pixel at the end. So all eight neighbours of a pixel exist, at fixed steps.

    Parameters
    ----------
    shape
        Height and width of the image.
    start, stop
        First place of every run, and the one after its last, ``(R,)``.
    part
        Number of every run's part from 0, in the order of their first pixels, ``(R,)``.
    count
        Number of parts.
    """

    shape: tuple[int, int]
    start: Ints
    stop: Ints
    part: Ints
    count: int

    @property
    def pitch(self) -> int:
        """Places from one row to the next."""
        return self.shape[1] + 1

    @property
    def length(self) -> Ints:
        """Pixels of every run."""
        return self.stop - self.start

    def sizes(self) -> Ints:
        """Pixels of every part."""
        return np.bincount(self.part, self.length, self.count).astype(np.int64)

    def extent(self) -> tuple[Ints, Ints]:
        """Height and width of the box around every part."""
        row, first = np.divmod(self.start, self.pitch)
        sides = []
        for low, high in ((row, row), (first, first + self.length - 1)):
            least = np.full(self.count, np.iinfo(np.int64).max)
            most = np.full(self.count, -1)
            np.minimum.at(least, self.part, low)
            np.maximum.at(most, self.part, high)
            sides.append(most - least + 1)
        return sides[0], sides[1]

    def only(self, parts: Mask) -> Runs:
        """The runs of some parts, ``(count,)``, which are numbered anew."""
        keep = parts[self.part]
        number = np.cumsum(parts) - 1
        part = number[self.part[keep]]
        return Runs(self.shape, self.start[keep], self.stop[keep], part, int(parts.sum()))

    def places(self) -> Ints:
        """Place of every pixel, in reading order."""
        return _counted(self.start, self.length)

    def pixels(self) -> Ints:
        """Index of every pixel into the image without its frame, in the order of `places`."""
        row = self.start // self.pitch
        return _counted(self.start - row - self.pitch, self.length)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value for every run ``(R,)`` to one for every pixel, in the order of `places`."""
        return np.repeat(values, self.length)

    def painted(self, values: NDArray[Any]) -> NDArray[Any]:
        """An image ``(H, W)`` with a value for every run ``(R,)``, and 0 elsewhere."""
        height = self.shape[0]
        alternating = np.zeros(2 * len(values) + 1, values.dtype)
        alternating[1::2] = values
        ends = np.empty(2 * len(values) + 2, np.int64)
        ends[0], ends[1:-1:2], ends[2:-1:2] = 0, self.start, self.stop
        ends[-1] = (height + 2) * self.pitch
        framed = np.repeat(alternating, np.diff(ends)).reshape(height + 2, self.pitch)
        return np.ascontiguousarray(framed[1:-1, 1:])


def runs_of(mask: Mask) -> Runs:
    """Find the runs and the 8-connected parts of a mask ``(H, W)``."""
    height, width = mask.shape
    pitch = width + 1
    framed = np.zeros((height + 2) * pitch + 1, bool)
    framed[:-1].reshape(height + 2, pitch)[1:-1, 1:] = mask
    edges = np.flatnonzero(framed[1:] != framed[:-1]) + 1
    start, stop = edges[::2], edges[1::2]
    # Of the row above, a run touches those that end at its start or later and start by its end.
    first = np.searchsorted(stop, start - pitch)
    touching = np.searchsorted(start, stop - pitch, "right") - first
    pointers = np.concatenate([[0], np.cumsum(touching)])
    above = _counted(first, touching)
    graph = csr_array(
        (np.ones(len(above), np.int8), above, pointers), shape=(len(start), len(start))
    )
    count, part = connected_components(graph, directed=False)
    return Runs((height, width), start, stop, _in_order(part, count), int(count))


def _in_order(part: NDArray[np.int32], count: int) -> Ints:
    """Numbers by first appearance, which is not promised by scipy."""
    first = np.full(count, -1, np.int64)
    first[part[::-1]] = np.arange(len(part))[::-1]  # of a repeated index the last assignment stays
    number = np.empty(count, np.int64)
    number[np.argsort(first)] = np.arange(count)
    return np.asarray(number[part])


def _counted(first: Ints, length: Ints) -> Ints:
    """``first[i], first[i] + 1, …`` with ``length[i]`` numbers for every i, one after another."""
    before = np.cumsum(length) - length
    return np.asarray(np.arange(int(length.sum())) + np.repeat(first - before, length))
