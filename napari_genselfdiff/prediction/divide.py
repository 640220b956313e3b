"""Divide touching objects: a marker-controlled watershed that depends on nearby pixels alone.

It is computed as what it is mathematically, the minimum spanning forest rooted in the markers
(Cousty et al. 2009, "Watershed cuts"), instead of with the flooding queue of scikit-image: a queue
breaks ties by what happened elsewhere in the image, a forest only by the pixels around, so that a
part of a slide gets the same borders whatever is computed together with it. It is also faster: most
pixels reach a marker by climbing, and only where they do not is there a forest to grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.prediction.runs import Runs

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float32]


class _Links(NamedTuple):
    """Pairs of touching basins, each once, those that touch at the highest pass first."""

    low: Ints
    high: Ints


def divide(clumps: Runs, markers: Runs, height: Floats, smallest: int) -> Ints:
    """Number, from 0 without gaps, of the object of every pixel of some clumps.

    Parameters
    ----------
    clumps
        Parts of the foreground, in each of which there is a marker.
    markers
        Parts of the clumps in which every pixel is higher than all pixels of the clumps that
        belong to no marker.
    height
        ``(H, W)``; objects meet in its valleys.
    smallest
        Objects with fewer pixels join the neighbour they touch at the highest pass.

    Returns
    -------
    numbers
        In the order of ``clumps.places()``.
    """
    places = clumps.places()
    framed = np.full((clumps.shape[0] + 2) * clumps.pitch + 1, -np.inf, np.float32)
    framed[places] = height.ravel()[clumps.pixels()]
    basin_at, count = _basins(framed, places, markers)
    basins = basin_at[places]
    sizes = np.bincount(basins, minlength=count)
    # Passes matter to basins that no marker is in, and to those too small to stay apart.
    open_ = sizes < smallest
    open_[markers.count :] = True
    links = _links(framed, basin_at, places[open_[basins]], clumps.pitch)
    number = _join_small(_forest(count, markers.count, links), sizes, links, smallest)
    return np.unique(number, return_inverse=True)[1][basins]


def _basins(framed: Floats, places: Ints, markers: Runs) -> tuple[NDArray[np.int32], int]:
    """Basin of every place of the frame: the marker, or else the peak, that a climb ends at.

    Basins below ``markers.count`` are those of the markers; -1 is outside of the clumps.
    """
    basin_at = np.full(framed.size, -1, np.int32)
    marked = markers.places()
    basin_at[places] = -2
    basin_at[marked] = markers.spread(markers.part)
    slopes = places[basin_at[places] == -2]
    goal = slopes + _uphill(framed, slopes, markers.pitch)
    # Nodes are the markers and, after them, the slopes; every climb is shortened to its end.
    basin_at[slopes] = markers.count + np.arange(len(slopes))
    up = np.concatenate([np.arange(markers.count), basin_at[goal]])
    while True:
        further = up[up]
        if np.array_equal(further, up):
            break
        up = further
    is_end = up == np.arange(len(up))
    number = np.cumsum(is_end) - 1
    basin_at[slopes] = number[up[markers.count :]]
    return basin_at, int(is_end.sum())


def _uphill(framed: Floats, places: Ints, pitch: int) -> Ints:
    """Step from every place to the highest of itself and its neighbours."""
    # In raster order with >=, the winner is the largest (height, place): ties never make a cycle.
    steps = np.array([-pitch - 1, -pitch, -pitch + 1, -1, 0, 1, pitch - 1, pitch, pitch + 1])
    best, way = np.full(len(places), -np.inf, np.float32), np.zeros(len(places), np.int8)
    for number, step in enumerate(steps):
        value = framed.take(places + step)
        higher = value >= best
        np.copyto(way, number, where=higher)
        np.maximum(best, value, out=best)
    return np.asarray(steps[way])


def _links(framed: Floats, basin_at: NDArray[np.int32], places: Ints, pitch: int) -> _Links:
    """Links of the basins some places lie in, by falling pass, then by the basins' numbers."""
    here = basin_at[places]
    lows, highs, passes = [], [], []
    for step in (-pitch - 1, -pitch, -pitch + 1, -1, 1, pitch - 1, pitch, pitch + 1):
        there = basin_at[places + step]
        edge = np.flatnonzero((there != here) & (there >= 0))
        a, b, spot = here[edge].astype(np.int64), there[edge].astype(np.int64), places[edge]
        lows.append(np.minimum(a, b))
        highs.append(np.maximum(a, b))
        passes.append(np.minimum(framed[spot], framed[spot + step]))
    low, high, top = np.concatenate(lows), np.concatenate(highs), np.concatenate(passes)
    if low.size == 0:
        return _Links(low, high)
    pair = low * (int(high.max()) + 1) + high
    order = np.argsort(pair)
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    # Pairs are in the order of their numbers now, which the stable sort keeps for equal passes.
    best = np.argsort(-np.maximum.reduceat(top[order], starts), kind="stable")
    once = order[starts[best]]
    return _Links(low[once], high[once])


def _forest(basins: int, marked: int, links: _Links) -> Ints:
    """Number of the tree every basin belongs to; trees are rooted in the first ``marked`` basins.

    A basin without a marker joins over the highest pass.
    """
    root = basins  # one more node, tied to every marked basin before any pass is considered
    rank = np.arange(2, len(links.low) + 2, dtype=np.float64)
    weights = np.concatenate([np.ones(marked), rank])
    rows = np.concatenate([np.full(marked, root), links.low])
    columns = np.concatenate([np.arange(marked), links.high])
    graph = coo_matrix((weights, (rows, columns)), shape=(basins + 1, basins + 1)).tocsr()
    tree = minimum_spanning_tree(graph).tocoo()
    kept = tree.data > 1.5  # cuts the ties to the root
    forest = coo_matrix(
        (np.ones(int(kept.sum())), (tree.row[kept], tree.col[kept])), shape=graph.shape
    )
    _, number = connected_components(forest, directed=False)
    return np.asarray(number[:basins].astype(np.int64))


def _join_small(number: Ints, sizes: Ints, links: _Links, smallest: int) -> Ints:
    """Merge objects below ``smallest`` pixels into the neighbour behind the highest pass."""
    area = np.bincount(number, sizes).astype(np.int64)
    a, b = number[links.low], number[links.high]
    short = ((area[a] < smallest) | (area[b] < smallest)) & (a != b)
    joined = np.arange(len(area))

    def find(item: int) -> int:
        while joined[item] != item:
            joined[item] = joined[joined[item]]
            item = int(joined[item])
        return item

    for one, two in zip(a[short].tolist(), b[short].tolist(), strict=True):
        first, second = find(one), find(two)
        if first != second and min(area[first], area[second]) < smallest:
            joined[second] = first
            area[first] += area[second]
    while True:
        further = joined[joined]
        if np.array_equal(further, joined):
            return np.asarray(joined[number])
        joined = further
