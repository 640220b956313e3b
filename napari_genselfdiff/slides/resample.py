"""Area averaging and bilinear interpolation whose result does not depend on where a read starts.

A grid pixel is computed from absolute coordinates with whole-number weights, and every sum is exact
in its floating type. So a sub-region equals the crop of a larger read bit for bit, whatever the
downsample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNITS = 1024  # weights are whole multiples of 1/1024 of a source pixel
_EXACT_FLOAT32 = 2**24
_NEARLY_ONE = 0.999


@dataclass(frozen=True, slots=True)
class Taps:
    """How ``count`` output pixels of one axis are made of source pixels.

    Attributes
    ----------
    first, source
        First source pixel and number of source pixels needed; may reach outside the source.
    weights
        ``(count, source)`` sparse, whole numbers.
    sums
        ``(count,)`` sum of every row of ``weights``.
    """

    first: int
    source: int
    weights: Any
    sums: NDArray[np.float64]


def source_span(start: int, count: int, factor: float, limit: int) -> tuple[int, int]:
    """First source pixel and number of source pixels behind output pixels ``start ... + count``.

    ``factor`` is the size of an output pixel in source pixels. Interpolation (``factor < 1``)
    repeats the border of a source with ``limit`` pixels.
    """
    if factor >= _NEARLY_ONE:
        first = _edges(start, 1, factor)[0] // _UNITS
        last = -(-_edges(start + count, 1, factor)[0] // _UNITS)
        return int(first), int(max(last, first + 1) - first)
    low, _ = _neighbours(np.array([start, start + count - 1]), factor)
    first, last = np.clip([low[0], low[1] + 1], 0, limit - 1)
    return int(first), int(last - first + 1)


def axis_taps(start: int, count: int, factor: float, limit: int) -> Taps:
    """Weights for output pixels ``start ... start + count`` of one axis; see `source_span`."""
    first, source = source_span(start, count, factor, limit)
    if factor >= _NEARLY_ONE:
        rows, columns, weights = _area(start, count, factor)
    else:
        rows, columns, weights = _bilinear(start, count, factor, limit)
    matrix = sparse.csr_matrix(
        (weights.astype(np.float64), (rows, columns - first)), shape=(count, source)
    )
    sums = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    return Taps(first, source, matrix, sums)


def resample(pixels: NDArray[np.uint8], rows: Taps, columns: Taps) -> NDArray[np.uint8]:
    """Weighted means of ``pixels`` ``(rows.source, columns.source, C)``, rounded half up.

    Returns
    -------
    ndarray
        ``(rows.count, columns.count, C)`` uint8.
    """
    height, width, channels = pixels.shape
    exact = 255 * rows.sums.max() < _EXACT_FLOAT32
    dtype = np.float32 if exact else np.float64
    flat = pixels.reshape(height, width * channels).astype(dtype)
    tall = rows.weights.astype(dtype) @ flat
    count = tall.shape[0]
    across = np.ascontiguousarray(tall.reshape(count, width, channels).transpose(1, 0, 2))
    both = columns.weights @ across.reshape(width, count * channels).astype(np.float64)
    result = both.reshape(-1, count, channels)
    result /= (columns.sums[:, None] * rows.sums[None, :])[:, :, None]
    result += 0.5
    return np.ascontiguousarray(result.astype(np.uint8).transpose(1, 0, 2))


def _edges(start: int, count: int, factor: float) -> NDArray[np.int64]:
    """Left edges of output pixels, in units of 1/1024 source pixel."""
    indices = np.arange(start, start + count, dtype=np.float64)
    return np.rint(indices * (factor * _UNITS)).astype(np.int64)


def _area(
    start: int, count: int, factor: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    edges = _edges(start, count + 1, factor)
    low, high = edges[:-1], edges[1:]
    first = low // _UNITS
    taps = np.arange(math.ceil(factor) + 2)
    columns = first[:, None] + taps
    left = np.maximum(columns * _UNITS, low[:, None])
    right = np.minimum((columns + 1) * _UNITS, high[:, None])
    weights = right - left
    used = weights > 0
    rows = np.broadcast_to(np.arange(count)[:, None], columns.shape)
    return rows[used], columns[used], weights[used]


def _bilinear(
    start: int, count: int, factor: float, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    low, share = _neighbours(np.arange(start, start + count), factor)
    columns = np.clip(np.stack([low, low + 1], axis=1), 0, limit - 1)
    weights = np.stack([_UNITS - share, share], axis=1)
    rows = np.broadcast_to(np.arange(count)[:, None], columns.shape)
    return rows.ravel(), columns.ravel(), weights.ravel()


def _neighbours(
    indices: NDArray[np.int64], factor: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source pixel left of the centre of every output pixel, and the weight of the one after it."""
    centres = np.rint(((indices + 0.5) * factor - 0.5) * _UNITS).astype(np.int64)
    return centres // _UNITS, centres % _UNITS
