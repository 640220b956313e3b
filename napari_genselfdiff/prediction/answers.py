"""What the network says of single tiles, and how tiles become one label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy import ndimage

from napari_genselfdiff.prediction.confidence import drawn_confidence, nearby
from napari_genselfdiff.prediction.instances import (
    area_classes,
    foreground_mask,
    instances,
    speck_side,
    split_objects,
)
from napari_genselfdiff.prediction.tiles import tiles_for
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.prediction.network import Probabilities
    from napari_genselfdiff.prediction.tiles import ScaleChoice, Tile
    from napari_genselfdiff.registry.card import ModelCard

    Run = Callable[[NDArray[np.uint8]], Probabilities]
    Floats = NDArray[np.float32]

BLEND = 8
"""Pixels on either side of a core's border in which neighbouring tiles fade into each other."""


class Readable(Protocol):
    """What is asked of a slide: its size, its resolution, and pixels of any grid."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def mpp(self) -> float | None: ...
    def read(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True)
class TileAnswer:
    """One tile's probabilities, and a first decision made from them alone, to show meanwhile.

    Arrays cover ``tile.padded``: ``probabilities`` and ``mean`` are ``(1 + C, h, w)``, ``distance``
    ``(h, w)``, float32; ``classes`` holds class values of ``tile.core``. ``mean`` is averaged over
    flips and serves the confidence only; it is the same array where nothing was averaged.
    """

    tile: Tile
    probabilities: Floats
    distance: Floats
    mean: Floats
    classes: NDArray[np.uint8]


class Labels(NamedTuple):
    """Label maps of one region; ``objects`` is None for areas.

    ``confidence`` in [0, 1] is that of the class that is drawn, background included, see
    :func:`~napari_genselfdiff.prediction.confidence.drawn_confidence`.
    """

    classes: NDArray[np.uint8]
    objects: NDArray[np.uint32] | None
    confidence: Floats


class TileReader:
    """Pixels and answers for tiles of one slide at one model's resolution."""

    def __init__(self, slide: Readable, card: ModelCard, scale: ScaleChoice) -> None:
        self.card, self.scale = card, scale
        self._slide = slide
        self._inside = Region(0, 0, *grid_shape(slide.shape, scale.downsample))

    def read(self, tiles: Sequence[Tile]) -> NDArray[np.uint8]:
        """Pixels ``(B, tile, tile, 3)``."""
        return np.stack([self._slide.read(t.padded, self.scale.downsample) for t in tiles])

    def needed(self, region: Region) -> list[Tile]:
        """Tiles that decide what a region of the model's grid shows, its centre's first.

        Beside those it lies in, these are the ones that fade into it, and those that tell whether
        a speck at its border goes on outside.
        """
        mpp = self.scale.mpp
        around = region.padded(max(speck_side(self.card, mpp), nearby(mpp)) + BLEND)
        wanted = around.intersection(self._inside) or region
        return tiles_for(wanted, self.card.tile, self.card.halo)

    def decide(
        self, tiles: Sequence[Tile], found: Probabilities, *, preview: bool = True
    ) -> list[TileAnswer]:
        """Turn probabilities of a batch into answers; without a preview their classes are empty."""
        return [self._decide(tile, found, number, preview) for number, tile in enumerate(tiles)]

    def _decide(self, tile: Tile, found: Probabilities, number: int, preview: bool) -> TileAnswer:
        probabilities, distance = found.classes[number], found.distance[number]
        averaged = found.mean is not found.classes
        if not self._inside.contains(tile.padded):
            probabilities = self._glass_outside(tile, probabilities)
        mean = probabilities
        if averaged:
            mean = self._glass_outside(tile, found.mean[number])
        classes = np.zeros((0, 0), np.uint8)
        if preview:
            core = tile.core.shifted(-tile.padded.y, -tile.padded.x).slices
            classes = _classes(probabilities[1:, *core], self.card, self.scale.mpp)
        return TileAnswer(tile, probabilities, distance, mean, classes)

    def _glass_outside(self, tile: Tile, probabilities: Floats) -> Floats:
        """Probabilities with nothing but background beyond the slide's border."""
        outside = np.ones(tile.padded.shape, bool)
        slide = self._inside.intersection(tile.padded)
        if slide is not None:
            outside[slide.shifted(-tile.padded.y, -tile.padded.x).slices] = False
        probabilities = probabilities.copy()
        probabilities[0, outside] = 1
        probabilities[1:, outside] = 0
        return probabilities


def assemble(answers: Sequence[TileAnswer], card: ModelCard, mpp: float, area: Region) -> Labels:
    """Join tiles into the label maps of an area.

    Parameters
    ----------
    answers
        In any order; places without an answer are background.
    card, mpp
        The model's card, and micrometre per pixel of its grid.
    area
        In pixels of the model's grid.

    Notes
    -----
    Around the outermost cores their halos serve as context, so that an object at the border is
    judged with its surroundings.
    """
    reach = area.padded(card.halo)
    inner = area.shifted(-reach.y, -reach.x).slices
    joined = blended(answers, card, reach)
    classes_p, distance, mean = joined[:-2], joined[-2], joined[:-2]
    if any(answer.mean is not answer.probabilities for answer in answers):
        mean = blended(answers, card, reach, averaged=True)[:-2]
    objects = None
    if card.task.kind == "objects":
        classes, objects = instances(_foreground(classes_p), distance, classes_p, card, mpp)
    else:
        classes = _classes(classes_p, card, mpp)
    confidence = drawn_confidence(mean, classes, card, mpp)
    return Labels(classes[inner], None if objects is None else objects[inner], confidence[inner])


def objects_of(
    answers: Sequence[TileAnswer], card: ModelCard, mpp: float, area: Region, inner: Region
) -> Labels:
    """Label maps of an area, of which only what touches ``inner`` matters.

    As :func:`assemble`, but what lies apart from ``inner`` is left out, which no object inside can
    tell: objects are divided in each connected part of the foreground for itself.
    """
    reach = area.padded(card.halo)
    cut = area.shifted(-reach.y, -reach.x).slices
    joined = blended(answers, card, reach)
    classes = _classes(joined[:-2], card, mpp)
    if card.task.kind != "objects":
        return Labels(classes[cut], None, np.empty((0, 0), np.float32))  # nobody asks for it
    parts, count = ndimage.label(classes > 0, structure=np.ones((3, 3), np.int8))
    touching = np.zeros(count + 1, bool)
    touching[parts[inner.shifted(-reach.y, -reach.x).slices]] = True
    touching[0] = False
    classes, objects = split_objects(touching[parts], joined[-2], joined[:-2], card, mpp)
    confidence = drawn_confidence(joined[:-2, *cut], classes[cut], card, mpp)
    return Labels(classes[cut], objects[cut], confidence)


def blended(
    answers: Sequence[TileAnswer], card: ModelCard, reach: Region, *, averaged: bool = False
) -> Floats:
    """Probability of every class and, after them, distance and weight: ``(C + 2, H, W)``.

    Tiles fade into each other across the borders of their cores. They are added in the order of
    the grid, so that not even rounding depends on the order they came in.
    """
    ordered = sorted(answers, key=lambda answer: (answer.tile.row, answer.tile.column))
    places = {(answer.tile.row, answer.tile.column) for answer in ordered}
    found = np.zeros((card.task.n_classes + 2, *reach.shape), np.float32)
    for answer in ordered:
        tile = answer.tile
        common = tile.padded.intersection(reach)
        if common is None:
            continue
        row, column = tile.row, tile.column
        beside = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
        above, below, left, right = (place in places for place in beside)
        weight = np.outer(_fade(card, above, below), _fade(card, left, right))
        part = common.shifted(-tile.padded.y, -tile.padded.x).slices
        into = found[:, *common.shifted(-reach.y, -reach.x).slices]
        weight = weight[part]
        values = answer.mean if averaged else answer.probabilities
        for channel, value in enumerate((*values[1:, *part], answer.distance[part])):
            into[channel] += weight * value
        into[-1] += weight
    known = found[-1]
    if len(places) < _grid_size(places):  # a gap, where the neighbours' weights miss one
        np.divide(found[:-1], known, out=found[:-1], where=known > 0)
    return found


def _fade(card: ModelCard, before: bool, after: bool) -> Floats:
    """Weight of a tile along one axis of its padded region; it fades where it has a neighbour."""
    halo = card.halo
    width = min(BLEND, halo, (card.tile - 2 * halo) // 2)
    weight = np.ones(card.tile, np.float32)
    ramp = (np.arange(2 * width, dtype=np.float32) + 0.5) / max(2 * width, 1)
    if before:
        weight[: halo - width] = 0
        weight[halo - width : halo + width] = ramp
    if after:
        weight[card.tile - halo + width :] = 0
        weight[card.tile - halo - width : card.tile - halo + width] = ramp[::-1]
    return weight


def _grid_size(places: set[tuple[int, int]]) -> int:
    """Number of places of the smallest rectangle that holds these."""
    rows, columns = [row for row, _ in places], [column for _, column in places]
    if not places:
        return 0
    return (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1)


def _classes(probabilities: Floats, card: ModelCard, mpp: float) -> NDArray[np.uint8]:
    """Class value of every pixel from the probabilities ``(C, H, W)`` without background."""
    foreground = _foreground(probabilities)
    if card.task.kind == "areas":
        return area_classes(np.concatenate([1 - foreground[None], probabilities]), card)
    mask = foreground_mask(foreground, card, mpp)
    values = np.array([spec.value for spec in card.task.classes], np.uint8)
    if len(values) == 1:
        return np.asarray(mask * values[0])
    return np.asarray(np.where(mask, values[np.argmax(probabilities, axis=0)], np.uint8(0)))


def _foreground(probabilities: Floats) -> Floats:
    """Probability ``(H, W)`` of any class, from those of every class ``(C, H, W)``."""
    one = len(probabilities) == 1
    return np.asarray(probabilities[0] if one else probabilities.sum(axis=0))
