"""Small exact tools on label arrays: which ids, how many pixels, which class, which overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = NDArray[np.uint32]
    Codes = NDArray[np.intp]

_TABLE_LIMIT = 2**25  # ids spread over more than this are sorted instead of looked up


def compact(labels: NDArray[Any]) -> tuple[Ids, Codes]:
    """Ids in ascending order, 0 first even if absent, and each pixel's position among them.

    ``labels`` may have any shape; ``ids[codes]`` has it and equals ``labels``.
    """
    flat = labels.ravel()
    high = int(flat.max(initial=0))
    if high <= _TABLE_LIMIT:
        return _by_table(flat, 0, high, labels.shape)
    used = flat[flat > 0]
    low = int(used.min())
    if high - low < _TABLE_LIMIT:
        return _by_table(flat, low - 1, high, labels.shape)
    ids, codes = np.unique(np.append(flat, np.uint32(0)), return_inverse=True)
    return ids.astype(np.uint32), codes[:-1].reshape(labels.shape)


def _by_table(
    flat: NDArray[Any], zero: int, high: int, shape: tuple[int, ...]
) -> tuple[Ids, Codes]:
    """Count into a table that begins at id ``zero``, which stands for no object."""
    shifted = flat.astype(np.intp)
    if zero:
        shifted = np.maximum(shifted - zero, 0)
    present = np.zeros(high - zero + 1, bool)
    present[shifted] = True
    present[0] = True
    codes = (np.cumsum(present) - 1).astype(np.intp)[shifted]
    found = np.flatnonzero(present)
    ids = np.where(found > 0, found + zero, 0).astype(np.uint32)
    return ids, codes.reshape(shape)


def counts(codes: Codes, n: int, where: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Pixels of each of ``n`` codes, counted where the mask says so."""
    chosen = codes.ravel() if where is None else codes[where]
    return np.bincount(chosen, minlength=n).astype(np.int64)


def majority_class(codes: Codes, classes: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Most frequent class above 0 of each code's pixels (the lowest among equals), 0 if none."""
    marked = (codes > 0) & (classes > 0)
    values, at = compact(classes[marked])
    votes = np.bincount(codes[marked] * len(values) + at, minlength=n * len(values))
    winner: Codes = votes.reshape(n, len(values)).argmax(axis=1)
    return values.astype(np.uint8)[winner]


def overlaps(a: Codes, b: Codes, n: tuple[int, int]) -> tuple[Codes, Codes, NDArray[np.int64]]:
    """Pairs of codes above 0 that share pixels, and how many; as three arrays of one length.

    ``n`` is the number of codes in ``a`` and in ``b``.
    """
    both = (a > 0) & (b > 0)
    ones = np.ones(np.count_nonzero(both), np.int64)
    table = coo_array((ones, (a[both], b[both])), shape=n).tocsr().tocoo()  # adds up equal pairs
    return table.row, table.col, table.data


def among(labels: NDArray[Any], ids: Ids) -> NDArray[np.bool_]:
    """Pixels whose id is one of the few ``ids``; like ``np.isin``, without sorting an image."""
    found, codes = compact(labels)
    return np.isin(found, ids)[codes]
