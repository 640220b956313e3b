"""Which objects of two label maps share how many pixels, as a sparse table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_genselfdiff.errors import ConfigError

Labels = NDArray[Any]  # any integer or bool dtype; 0 is background
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Objects of a prediction and of the truth, and every pair that shares pixels.

    Objects are numbered from 0 in raster order of their first pixel, so nothing computed from
    here depends on the ids a label map happens to use. ``true``, ``pred`` and ``shared`` are
    parallel: ``shared[k]`` pixels belong to objects ``true[k]`` and ``pred[k]``.
    """

    true_areas: Ints
    pred_areas: Ints
    true: Ints
    pred: Ints
    shared: Ints

    @property
    def union(self) -> Ints:
        """Pixels in either object of each pair."""
        return self.true_areas[self.true] + self.pred_areas[self.pred] - self.shared

    @property
    def iou(self) -> Floats:
        """Intersection over union of each pair, in (0, 1]."""
        return np.asarray(self.shared / np.maximum(self.union, 1), dtype=np.float64)

    @property
    def both_empty(self) -> bool:
        """True where neither side has an object."""
        return len(self.true_areas) == 0 and len(self.pred_areas) == 0

    def swapped(self) -> Overlaps:
        """The same table with the roles of prediction and truth exchanged."""
        return Overlaps(self.pred_areas, self.true_areas, self.pred, self.true, self.shared)

    def best_pairs(self, score: Floats | Ints) -> Ints:
        """For every true object that is met at all, the index of its pair with the highest score.

        Ties go to the larger overlap, then to the prediction that comes first in raster order.
        """
        order = np.lexsort((self.pred, -self.shared, -score, self.true))
        _, first = np.unique(self.true[order], return_index=True)
        return np.asarray(order[first], dtype=np.int64)


def ordered(labels: Labels) -> tuple[Ints, int]:
    """Renumber objects 1..n in raster order of their first pixel; give the map and n.

    Time grows linearly with the pixels; the ids may be of any size.
    """
    if labels.dtype.kind not in "iub":
        raise ConfigError(
            f"a label map holds whole numbers, got {labels.dtype}; convert it to integers first"
        )
    flat = np.ascontiguousarray(labels).ravel()
    if flat.size == 0:
        return np.zeros(labels.shape, np.int64), 0
    if flat.min() < 0:
        raise ConfigError(f"a label map holds 0 and positive ids, got {flat.min()}")
    if int(flat.max()) > 4 * flat.size + 2**16:  # ids too sparse for a lookup table
        with_background = np.concatenate([np.zeros(1, flat.dtype), flat])  # keeps 0 at 0
        _, inverse = np.unique(with_background, return_inverse=True)
        flat = inverse.ravel()[1:]
    else:
        flat = flat.astype(np.int64)
    first = np.full(int(flat.max()) + 1, flat.size)
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)  # the last assignment wins
    first[0] = flat.size
    ids = np.flatnonzero(first < flat.size)
    table = np.zeros(len(first), np.int64)
    table[ids[np.argsort(first[ids])]] = np.arange(1, len(ids) + 1)
    return table[flat].reshape(labels.shape), len(ids)


def overlaps(pred: Labels, true: Labels) -> Overlaps:
    """Count the shared pixels of all pairs of objects; ConfigError when the shapes differ."""
    check_shapes(pred, true)
    (pred_map, n_pred), (true_map, n_true) = ordered(pred), ordered(true)
    p, t = pred_map.ravel(), true_map.ravel()
    both = (p > 0) & (t > 0)
    ones = np.ones(int(both.sum()), np.int64)
    table = sparse.coo_array((ones, (t[both] - 1, p[both] - 1)), shape=(n_true, n_pred)).tocsr()
    table.sum_duplicates()
    rows = np.repeat(np.arange(n_true), np.diff(table.indptr))
    return Overlaps(
        true_areas=np.bincount(t, minlength=n_true + 1)[1:].astype(np.int64),
        pred_areas=np.bincount(p, minlength=n_pred + 1)[1:].astype(np.int64),
        true=rows.astype(np.int64),
        pred=table.indices.astype(np.int64),
        shared=table.data.astype(np.int64),
    )


def check_shapes(pred: Labels, true: Labels) -> None:
    """ConfigError unless both maps are of one shape."""
    if pred.shape != true.shape:
        raise ConfigError(
            f"prediction and truth must have one shape, got {pred.shape} and {true.shape}"
        )
