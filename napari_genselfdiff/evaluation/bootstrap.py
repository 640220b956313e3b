"""How sure a mean over images is: percentile bootstrap over images, paired where it can be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

ROUNDS = 10_000
_CHUNK = 2**22  # draws held in memory at once


class PairedDifference(NamedTuple):
    """Mean of ``a - b`` over ``n`` pairs, its 95 % interval and a two-sided sign-flip p-value."""

    value: float
    low: float
    high: float
    p: float
    n: int


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean of the defined values; NaN when there is none."""
    defined = _defined(values)
    return float(defined.mean()) if len(defined) else math.nan


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    seed: int = 0,
    *,
    rounds: int = ROUNDS,
    share: float = 0.95,
) -> tuple[float, float]:
    """Interval of the mean: images are drawn anew with replacement, ``rounds`` times.

    Undefined (NaN) values are left out. Fewer than two values say nothing about the spread:
    (NaN, NaN). Equal input and seed give equal output.
    """
    if not 0 < share < 1 or rounds < 1:
        raise ConfigError(
            f"share must lie in (0, 1) and rounds be 1 or more, got {share}, {rounds}"
        )
    defined = _defined(values)
    if len(defined) < 2:
        return math.nan, math.nan
    means = np.concatenate(
        [
            defined[rng.integers(0, len(defined), (n, len(defined)))].mean(axis=1)
            for rng, n in _chunks(len(defined), rounds, seed)
        ]
    )
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def crossed_interval(
    table: NDArray[np.float64], seed: int = 0, *, rounds: int = ROUNDS, share: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of ``(groups, images)`` where both might have been others.

    Groups (such as the subsets of labels a model learned from) and images are drawn anew with
    replacement, each by itself, ``rounds`` times: a row or column comes or stays away as a whole
    (the "pigeonhole" bootstrap, Owen 2007). An axis of length 1 adds nothing, so that with one
    image and one group there is no spread: (NaN, NaN). Undefined values are left out.
    """
    if table.ndim != 2 or not table.size:
        raise ConfigError(f"scores of groups x images are needed, got shape {table.shape}")
    if table.size == 1 or np.isnan(table).all():
        return math.nan, math.nan
    groups, images = table.shape
    known = ~np.isnan(table)
    values = np.where(known, table, 0.0)
    means = []
    for rng, n in _chunks(table.size, rounds, seed):
        g = rng.multinomial(groups, np.full(groups, 1 / groups), n).astype(np.float64)
        i = rng.multinomial(images, np.full(images, 1 / images), n).astype(np.float64)
        total = np.einsum("ng,gi,ni->n", g, values, i, optimize=True)
        count = np.einsum("ng,gi,ni->n", g, known.astype(np.float64), i, optimize=True)
        means.append(total[count > 0] / count[count > 0])
    low, high = np.quantile(np.concatenate(means), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def paired_difference(
    a: Sequence[float], b: Sequence[float], seed: int = 0, *, rounds: int = ROUNDS
) -> PairedDifference:
    """Compare two models on the same images (or blocks): ``a - b`` image by image.

    Pairs with an undefined side are left out. ``p`` is the share of random sign flips of the
    differences whose mean is at least as far from 0 (with the observed one counted in).
    """
    if len(a) != len(b):
        raise ConfigError(f"a paired comparison needs equally many values, got {len(a)}, {len(b)}")
    difference = _defined(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    low, high = bootstrap_interval(difference, seed, rounds=rounds)
    n = len(difference)
    if n == 0:
        return PairedDifference(math.nan, low, high, math.nan, 0)
    limit = abs(float(difference.mean())) - 1e-12 * float(np.abs(difference).max())
    hits = 0
    for rng, k in _chunks(n, rounds, seed + 1):
        flipped = rng.choice([-1.0, 1.0], (k, n)) * difference
        hits += int((np.abs(flipped.mean(axis=1)) >= limit).sum())
    return PairedDifference(float(difference.mean()), low, high, (hits + 1) / (rounds + 1), n)


def _defined(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    flat = np.asarray(values, np.float64).ravel()
    return flat[~np.isnan(flat)]


def _chunks(width: int, rounds: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    """One generator and how many rounds to draw from it, so that memory stays bounded."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // width)
    for start in range(0, rounds, step):
        yield rng, min(step, rounds - start)
