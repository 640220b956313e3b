"""From probabilities to labels: which pixels are foreground, and which of them are one object.

Objects are grown as a marker-controlled watershed on the distance the network predicts. It is
computed as what it is mathematically, the minimum spanning forest rooted in the markers (Cousty et
al. 2009, "Watershed cuts"), instead of with the flooding queue of scikit-image: a queue breaks ties
by what happened elsewhere in the image, a forest only by the pixels around, so that a part of a
slide gets the same borders whatever is computed together with it. It is also faster.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import ModelCard

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]

_EIGHT = np.ones((3, 3), np.int8)


def min_object_pixels(card: ModelCard, mpp: float) -> int:
    """Smallest object the model reports, in pixels of ``mpp`` micrometre, at least 1."""
    return max(1, round(card.min_object_um2 / mpp**2))


def speck_side(card: ModelCard, mpp: float) -> int:
    """Side of the square a speck fits into, twice that of a square object of the smallest size."""
    return math.ceil(2 * math.sqrt(min_object_pixels(card, mpp)))


def foreground_mask(foreground: NDArray[np.floating], card: ModelCard, mpp: float) -> Mask:
    """Pixels the model takes for an object, specks below the smallest object left out.

    ``foreground`` is the probability ``(H, W)`` of any class but background. A speck has fewer
    pixels than the smallest object and fits into a square of :func:`speck_side` pixels, so that it
    can be told from the end of something larger by looking that far.
    """
    mask: Mask = np.asarray(foreground >= card.foreground_threshold)
    smallest = min_object_pixels(card, mpp)
    if smallest == 1:
        return mask
    inside = np.flatnonzero(mask)
    number = ndimage.label(mask, structure=_EIGHT)[0].ravel()[inside]
    sizes = np.bincount(number)
    speck = sizes < smallest
    few = speck[number]
    spots, number = inside[few], number[few]
    for place in np.divmod(spots, mask.shape[1]):
        first = np.full(len(sizes), np.iinfo(np.int64).max)
        last = np.full(len(sizes), -1)
        np.minimum.at(first, number, place)
        np.maximum.at(last, number, place)
        speck &= last - first < speck_side(card, mpp)
    mask.ravel()[spots[speck[number]]] = False
    return mask


def instances(
    foreground: NDArray[np.floating],
    distance: NDArray[np.floating],
    class_prob: NDArray[np.floating],
    card: ModelCard,
    mpp: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Decide what is foreground and give every pixel of it a class and an object.

    Parameters
    ----------
    foreground
        Probability ``(H, W)`` of any class but background.
    distance, class_prob, card, mpp
        See :func:`split_objects`, which also states what is returned.
    """
    mask = foreground_mask(foreground, card, mpp)
    return split_objects(mask, distance, class_prob, card, mpp)


def split_objects(
    mask: Mask,
    distance: NDArray[np.floating],
    class_prob: NDArray[np.floating],
    card: ModelCard,
    mpp: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Give every foreground pixel a class and an object.

    Markers are the parts of the foreground where the distance is above the card's threshold; an
    object is what is nearest to its marker, uphill. Foreground without any marker is one object.
    Parts below the card's smallest object join the neighbour they touch most firmly.

    Parameters
    ----------
    mask
        Foreground ``(H, W)``.
    distance
        ``(H, W)`` in [0, 1]: 1 at the core of an object, 0 at its border.
    class_prob
        ``(C, H, W)``, one for each class of the task, in the card's order.
    card, mpp
        The model's card, and micrometre per pixel of these arrays.

    Returns
    -------
    classes, objects
        Class values of the task and object ids from 1, both ``(H, W)``, 0 = background. All pixels
        of an object have the class with the largest summed probability.
    """
    inside = np.flatnonzero(mask)
    ids = np.zeros(mask.shape, np.uint32)
    classes = np.zeros(mask.shape, np.uint8)
    if inside.size == 0:
        return classes, ids
    height = np.asarray(distance, np.float32)
    labels = _split(mask, height, inside, card.marker_threshold, min_object_pixels(card, mpp))
    ids.ravel()[inside] = labels
    values = np.array([spec.value for spec in card.task.classes], np.uint8)
    if len(values) == 1:
        classes[mask] = values[0]
        return classes, ids
    votes = [np.bincount(labels, p.ravel()[inside].astype(np.float64)) for p in class_prob]
    classes.ravel()[inside] = values[np.argmax(votes, axis=0)][labels]
    return classes, ids


def area_classes(class_prob: NDArray[np.floating], card: ModelCard) -> NDArray[np.uint8]:
    """Most probable class of every pixel for a task of areas.

    ``class_prob`` is ``(1 + C, H, W)`` with background first; gives class values ``(H, W)``.
    """
    values = np.array([0, *(spec.value for spec in card.task.classes)], np.uint8)
    return np.asarray(values[np.argmax(class_prob, axis=0)])


def _split(mask: Mask, height: Floats, inside: Ints, threshold: float, smallest: int) -> Ints:
    """Object number from 1 of every pixel of ``inside``."""
    parts, count = ndimage.label(mask, structure=_EIGHT)
    cores = mask & (height > threshold)
    markers, marked = ndimage.label(cores, structure=_EIGHT)
    # Most parts hold one marker or none and are one object; only the others have to be divided.
    peaks = np.flatnonzero(cores)
    part_of = np.zeros(marked + 1, np.int64)
    part_of[markers.ravel()[peaks]] = parts.ravel()[peaks]
    crowded = np.bincount(part_of[1:], minlength=count + 1) > 1
    labels = parts.ravel()[inside].astype(np.int64)
    divide = crowded[labels]
    if divide.any():
        clumps = inside[divide]
        labels[divide] = count + 1 + _divide(mask, height, clumps, markers, smallest)
    number = np.cumsum(np.bincount(labels) > 0)
    return np.asarray(number[labels])


def _divide(mask: Mask, height: Floats, inside: Ints, markers: Ints, smallest: int) -> Ints:
    """Object number from 0 of every pixel of ``inside``, which are whole parts of the mask."""
    basins, peaks, links = _basins(mask.shape, height, inside)
    number = _forest(markers.ravel()[peaks], links)
    number = _join_small(number, np.bincount(basins, minlength=len(peaks)), links, smallest)
    return np.asarray(number[basins])


def _basins(
    shape: tuple[int, ...], height: Floats, inside: Ints
) -> tuple[Ints, Ints, tuple[Ints, Ints]]:
    """Follow every pixel uphill to its peak.

    Returns the basin of every pixel of ``inside``, the flat index of every basin's peak, and the
    links ``(lower basin, other basin)`` between neighbouring basins, highest pass first.
    """
    width = shape[1] + 2
    flat = np.full((shape[0] + 2) * width, -np.inf, np.float32)
    row, column = np.divmod(inside, shape[1])
    spots = (row + 1) * width + column + 1
    flat[spots] = height.ravel()[inside]
    # In raster order with >=, the winner is the largest (height, index): ties never make a cycle.
    steps = np.array([-width - 1, -width, -width + 1, -1, 0, 1, width - 1, width, width + 1])
    best, way = np.full(len(spots), -np.inf, np.float32), np.zeros(len(spots), np.int8)
    for number, step in enumerate(steps):
        value = flat.take(spots + step)
        higher = value >= best
        np.copyto(way, number, where=higher)
        np.maximum(best, value, out=best)
    goal = spots + steps[way]
    order = np.zeros(flat.size, np.int64)
    order[spots] = np.arange(len(spots))
    up = order[goal]
    while True:
        further = up[up]
        if np.array_equal(further, up):
            break
        up = further
    is_peak = up == np.arange(len(up))
    basins = (np.cumsum(is_peak) - 1)[up]
    links = _links(flat, spots, basins, (1, width - 1, width, width + 1))
    return basins, inside[is_peak], links


def _links(flat: Floats, spots: Ints, basins: Ints, steps: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Pairs of touching basins, one each, sorted by their highest pass, then by place."""
    basin_at = np.full(flat.size, -1, np.int32)
    basin_at[spots] = basins
    here = basins.astype(np.int32)
    lows, highs, passes = [], [], []
    for step in steps:
        there = basin_at.take(spots + step)
        edge = np.flatnonzero((there != here) & (there >= 0))
        a, b, spot = basins[edge], there[edge].astype(np.int64), spots[edge]
        lows.append(np.minimum(a, b))
        highs.append(np.maximum(a, b))
        passes.append(np.minimum(flat[spot], flat[spot + step]))
    low, high, top = np.concatenate(lows), np.concatenate(highs), np.concatenate(passes)
    if low.size == 0:
        return low, high
    pair = low * (basins.max() + 1) + high
    order = np.argsort(pair)
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    # Pairs are in the order of their numbers now, which the stable sort keeps for equal passes.
    best = np.argsort(-np.maximum.reduceat(top[order], starts), kind="stable")
    once = order[starts[best]]
    return low[once], high[once]


def _forest(marker_of: Ints, links: tuple[Ints, Ints]) -> Ints:
    """Number of the tree every basin belongs to, trees rooted in the markers.

    A basin without a marker joins over the highest pass; one that no marker reaches stays apart.
    """
    basins, (low, high) = len(marker_of), links
    root = basins  # one more node, tied to every marked basin before any pass is considered
    marked = np.flatnonzero(marker_of)
    rank = np.arange(2, len(low) + 2, dtype=np.float64)
    weights = np.concatenate([np.ones(len(marked)), rank])
    rows = np.concatenate([np.full(len(marked), root), low])
    columns = np.concatenate([marked, high])
    graph = coo_matrix((weights, (rows, columns)), shape=(basins + 1, basins + 1)).tocsr()
    tree = minimum_spanning_tree(graph).tocoo()
    kept = tree.data > 1.5  # cuts the ties to the root
    forest = coo_matrix(
        (np.ones(int(kept.sum())), (tree.row[kept], tree.col[kept])), shape=graph.shape
    )
    _, number = connected_components(forest, directed=False)
    number = number[:basins].astype(np.int64)
    # Basins of one marker are one object, even where they do not touch each other directly.
    whole = np.zeros(int(marker_of.max(initial=0)) + 1, np.int64)
    whole[marker_of[marked]] = number[marked]
    renamed = np.arange(int(number.max()) + 1)
    renamed[number[marked]] = whole[marker_of[marked]]
    return np.asarray(renamed[number])


def _join_small(number: Ints, sizes: Ints, links: tuple[Ints, Ints], smallest: int) -> Ints:
    """Merge objects below ``smallest`` pixels into the neighbour behind the highest pass."""
    area = np.bincount(number, sizes).astype(np.int64)
    a, b = number[links[0]], number[links[1]]
    short = (area[a] < smallest) | (area[b] < smallest)
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
