from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_genselfdiff.prediction.divide import divide
from napari_genselfdiff.prediction.runs import runs_of

Spot = tuple[int, int]
AROUND = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]


def relief(seed: int, levels: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """One clump with several tops; few ``levels`` make ties."""
    rng = np.random.default_rng(seed)
    height = ndimage.gaussian_filter(rng.random((26, 30)), 1.4)
    height = (height - height.min()) / np.ptp(height)
    parts, count = ndimage.label(height > 0.35, structure=np.ones((3, 3)))
    largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:]))
    return parts == largest, (np.round(height * levels) / levels).astype(np.float32)


def plain_division(
    mask: NDArray[np.bool_], height: NDArray[np.float32], cores: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The definition, pixel by pixel: climb, then join basins over the highest passes (Kruskal)."""
    spots = [(int(y), int(x)) for y, x in np.argwhere(mask)]
    marker = ndimage.label(cores, structure=np.ones((3, 3)))[0]

    def near(spot: Spot) -> list[Spot]:
        found = [(spot[0] + dy, spot[1] + dx) for dy, dx in AROUND]
        return [s for s in found if s in inside]

    inside = set(spots)
    uphill = {s: max([s, *near(s)], key=lambda q: (height[q], q)) for s in spots}
    peaks: dict[Spot, Spot] = {}
    for spot in spots:
        end = spot
        while not cores[end] and uphill[end] != end:
            end = uphill[end]
        peaks[spot] = end
    loose = sorted({end for end in peaks.values() if not cores[end]})
    rank = {end: int(marker.max()) + 1 + number for number, end in enumerate(loose)}
    basin = {s: int(marker[e]) if cores[e] else rank[e] for s, e in peaks.items()}
    edges = {
        (-min(height[s], height[q]), min(basin[s], basin[q]), max(basin[s], basin[q]))
        for s in spots
        for q in near(s)
        if basin[s] != basin[q]
    }
    tree = {number: number for number in basin.values()}
    has_marker = {number: number <= marker.max() for number in tree}
    for _, low, high in sorted(edges):
        one, two = tree[low], tree[high]
        if one != two and not (has_marker[one] and has_marker[two]):
            has_marker[one] |= has_marker[two]
            tree = {number: one if root == two else root for number, root in tree.items()}
    return np.array([tree[basin[s]] for s in spots])


def partition(numbers: NDArray[np.int64]) -> list[int]:
    """Numbers by first appearance, so that equal partitions are equal lists."""
    order: dict[int, int] = {}
    return [order.setdefault(int(number), len(order)) for number in numbers]


@given(seed=st.integers(0, 10_000), levels=st.sampled_from([8, 40, 10**6]))
@settings(max_examples=40)
def test_a_clump_is_divided_as_defined(seed: int, levels: int) -> None:
    mask, height = relief(seed, levels)
    cores = mask & (height > 0.6)
    if not cores.any():
        return
    found = divide(runs_of(mask), runs_of(cores), height, 1)
    assert partition(found) == partition(plain_division(mask, height, cores))
    assert sorted(set(found.tolist())) == list(range(found.max() + 1))


@given(seed=st.integers(0, 10_000), smallest=st.integers(2, 60))
@settings(max_examples=40)
def test_small_objects_join_whole_neighbours(seed: int, smallest: int) -> None:
    mask, height = relief(seed, 10**6)
    cores = mask & (height > 0.6)
    if not cores.any():
        return
    fine = divide(runs_of(mask), runs_of(cores), height, 1)
    coarse = divide(runs_of(mask), runs_of(cores), height, smallest)
    for number in range(fine.max() + 1):
        assert len(set(coarse[fine == number].tolist())) == 1, "an object was cut"
    sizes = np.bincount(coarse)
    assert len(sizes) == 1 or sizes.min() >= smallest
    large = np.flatnonzero(np.bincount(fine) >= smallest)
    joined = [int(coarse[fine == number][0]) for number in large]
    assert len(set(joined)) == len(joined), "two objects that are large enough were joined"
