"""Hausdorff distances between the objects of two label maps, in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from napari_genselfdiff.evaluation.overlaps import Ints, Labels, ordered

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Side:
    """The objects of one map: their pixels, bounding boxes and, once asked, search trees."""

    def __init__(self, labels: Labels) -> None:
        self.map, n = ordered(labels)
        flat = self.map.ravel()
        pixels = np.flatnonzero(flat)
        grouped = pixels[np.argsort(flat[pixels], kind="stable")]
        ends = np.cumsum(np.bincount(flat, minlength=n + 1)[1:])
        coordinates = np.column_stack(np.unravel_index(grouped, self.map.shape))
        self.points: list[Ints] = np.split(coordinates, ends[:-1])
        boxes = ndimage.find_objects(self.map)
        self.boxes: NDArray[np.int64] = np.array(
            [[e for s in box for e in (s.start, s.stop)] for box in boxes], np.int64
        )
        self._trees: dict[int, KDTree] = {}

    def tree(self, index: int) -> KDTree:
        if index not in self._trees:
            self._trees[index] = KDTree(self.points[index])
        return self._trees[index]


class ObjectDistances:
    """Hausdorff distances between objects of ``first`` and ``second``, numbered as in Overlaps.

    Each distinct pair is computed once. Distances are between pixel centres, over all pixels of
    an object: the farthest pixel may lie inside it.
    """

    def __init__(self, first: Labels, second: Labels) -> None:
        self._first, self._second = _Side(first), _Side(second)
        self._known: dict[tuple[int, int], float] = {}

    def swapped(self) -> ObjectDistances:
        """The same distances seen from the other map."""
        other = object.__new__(ObjectDistances)
        other._first, other._second = self._second, self._first
        other._known = {(j, i): d for (i, j), d in self._known.items()}
        return other

    def between(self, i: int, j: int) -> float:
        """Hausdorff distance of object ``i`` of the first and ``j`` of the second map."""
        if (i, j) not in self._known:
            there = _directed(self._first, i, self._second, j)
            self._known[i, j] = max(there, _directed(self._second, j, self._first, i))
        return self._known[i, j]

    def to_nearest(self, i: int) -> float:
        """Smallest Hausdorff distance of object ``i`` to any object of the second map.

        No two sets are closer than the sides of their bounding boxes differ, so the search
        follows that bound and stops as soon as nothing can be closer.
        """
        bounds = np.abs(self._second.boxes - self._first.boxes[i]).max(axis=1)
        nearest = np.inf
        for j in np.argsort(bounds, kind="stable"):
            if bounds[j] >= nearest:
                break
            nearest = min(nearest, self.between(i, int(j)))
        return float(nearest)


def _directed(a: _Side, i: int, b: _Side, j: int) -> float:
    """Largest distance of a pixel of object ``i`` to object ``j``; pixels in both are at 0."""
    points = a.points[i]
    outside = points[b.map[tuple(points.T)] != j + 1]
    if len(outside) == 0:
        return 0.0
    return float(b.tree(j).query(outside)[0].max())
