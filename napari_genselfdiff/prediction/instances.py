"""From probabilities to labels: which pixels are foreground, and which of them are one object.

Objects are grown as a marker-controlled watershed on the distance the network predicts. Most parts
of the foreground hold one object and are only labelled; see
:mod:`~napari_genselfdiff.prediction.divide` for the others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.prediction.divide import divide
from napari_genselfdiff.prediction.runs import Runs, runs_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import ModelCard

    Mask = NDArray[np.bool_]


def min_object_pixels(card: ModelCard, mpp: float) -> int:
    """Smallest object the model reports, in pixels of ``mpp`` micrometre, at least 1."""
    return max(1, round(card.min_object_um2 / mpp**2))


def speck_side(card: ModelCard, mpp: float) -> int:
    """Side of the square a speck fits into, twice that of a square object of the smallest size."""
    return math.ceil(2 * math.sqrt(min_object_pixels(card, mpp)))


def foreground_runs(foreground: NDArray[np.floating], card: ModelCard, mpp: float) -> Runs:
    """Pixels the model takes for an object, specks below the smallest object left out.

    ``foreground`` is the probability ``(H, W)`` of any class but background. A speck has fewer
    pixels than the smallest object and fits into a square of :func:`speck_side` pixels, so that it
    can be told from the end of something larger by looking that far.
    """
    runs = runs_of(np.asarray(foreground >= card.foreground_threshold))
    small = runs.sizes() < min_object_pixels(card, mpp)
    if not small.any():
        return runs
    rows, columns = runs.only(small).extent()
    speck = small
    speck[small] = np.maximum(rows, columns) <= speck_side(card, mpp)
    return runs.only(~speck)


def foreground_mask(foreground: NDArray[np.floating], card: ModelCard, mpp: float) -> Mask:
    """See :func:`foreground_runs`, as a mask ``(H, W)``."""
    runs = foreground_runs(foreground, card, mpp)
    return runs.painted(np.ones(len(runs.start), bool))


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
        See :func:`split_runs`, which also states what is returned.
    """
    runs = foreground_runs(foreground, card, mpp)
    return split_runs(runs, distance, class_prob, card, mpp)


def split_objects(
    mask: Mask,
    distance: NDArray[np.floating],
    class_prob: NDArray[np.floating],
    card: ModelCard,
    mpp: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """See :func:`split_runs`; ``mask`` is the foreground ``(H, W)``."""
    return split_runs(runs_of(mask), distance, class_prob, card, mpp)


def split_runs(
    runs: Runs,
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
    runs
        The foreground.
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
    height = np.asarray(distance, np.float32)
    mask = runs.painted(np.ones(len(runs.start), bool))
    markers = runs_of(mask & (height > card.marker_threshold))
    # Most parts hold one marker or none and are one object; only the others have to be divided.
    run = np.searchsorted(runs.start, markers.start, "right") - 1
    part_of = np.empty(markers.count, np.int64)
    part_of[markers.part] = runs.part[run]
    crowded = np.bincount(part_of, minlength=runs.count) > 1
    number = np.cumsum(~crowded)
    ids = runs.painted(number[runs.part].astype(np.uint32))
    if crowded.any():
        clumps, marked = runs.only(crowded), markers.only(crowded[part_of])
        divided = divide(clumps, marked, height, min_object_pixels(card, mpp))
        ids.ravel()[clumps.pixels()] = (number[-1] + 1 + divided).astype(np.uint32)
    return _classes(mask, ids, class_prob, card), ids


def _classes(
    mask: Mask, ids: NDArray[np.uint32], class_prob: NDArray[np.floating], card: ModelCard
) -> NDArray[np.uint8]:
    """Class value of every pixel: the one with the largest summed probability in its object."""
    values = np.array([spec.value for spec in card.task.classes], np.uint8)
    if len(values) == 1:
        return np.asarray(mask * values[0])
    inside = np.flatnonzero(mask)
    numbers = ids.ravel()[inside].astype(np.int64)
    votes = [np.bincount(numbers, p.ravel()[inside].astype(np.float64)) for p in class_prob]
    classes = np.zeros(mask.shape, np.uint8)
    classes.ravel()[inside] = values[np.argmax(votes, axis=0)][numbers]
    return classes


def area_classes(class_prob: NDArray[np.floating], card: ModelCard) -> NDArray[np.uint8]:
    """Most probable class of every pixel for a task of areas.

    ``class_prob`` is ``(1 + C, H, W)`` with background first; gives class values ``(H, W)``.
    """
    values = np.array([0, *(spec.value for spec in card.task.classes)], np.uint8)
    return np.asarray(values[np.argmax(class_prob, axis=0)])
