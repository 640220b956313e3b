"""What the network says of single tiles, and how tiles become one label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from napari_genselfdiff.prediction.instances import area_classes, foreground_mask, split_objects
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.prediction.network import Probabilities
    from napari_genselfdiff.prediction.tiles import ScaleChoice, Tile
    from napari_genselfdiff.registry.card import ModelCard

    Run = Callable[[NDArray[np.uint8]], Probabilities]


class Readable(Protocol):
    """What is asked of a slide: its size, its resolution, and pixels of any grid."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def mpp(self) -> float | None: ...
    def read(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True)
class TileAnswer:
    """One tile's probabilities and the decision made from them; arrays cover ``tile.padded``.

    ``probabilities`` is ``(1 + C, h, w)`` and ``distance`` ``(h, w)``, float16; ``classes`` holds
    class values. The decision uses nothing but this tile, so that a pixel is foreground or not
    whatever part of the slide is computed.
    """

    tile: Tile
    probabilities: NDArray[np.float16]
    distance: NDArray[np.float16]
    classes: NDArray[np.uint8]


class Labels(NamedTuple):
    """Label maps of one region; ``objects`` is None for areas, ``confidence`` in [0, 1]."""

    classes: NDArray[np.uint8]
    objects: NDArray[np.uint32] | None
    confidence: NDArray[np.float16]


class TileReader:
    """Pixels and answers for tiles of one slide at one model's resolution."""

    def __init__(self, slide: Readable, card: ModelCard, scale: ScaleChoice) -> None:
        self.card, self.scale = card, scale
        self._slide = slide
        self._inside = Region(0, 0, *grid_shape(slide.shape, scale.downsample))

    def read(self, tiles: Sequence[Tile]) -> NDArray[np.uint8]:
        """Pixels ``(B, tile, tile, 3)``."""
        return np.stack([self._slide.read(t.padded, self.scale.downsample) for t in tiles])

    def decide(self, tiles: Sequence[Tile], found: Probabilities) -> list[TileAnswer]:
        """Turn probabilities of a batch into answers."""
        return [
            self._decide(tile, probabilities, distance)
            for tile, probabilities, distance in zip(tiles, *found, strict=True)
        ]

    def _decide(
        self, tile: Tile, probabilities: NDArray[np.float16], distance: NDArray[np.float16]
    ) -> TileAnswer:
        if not self._inside.contains(tile.padded):
            probabilities = probabilities.copy()
            outside = np.ones(tile.padded.shape, bool)
            slide = self._inside.intersection(tile.padded)
            if slide is not None:
                outside[slide.shifted(-tile.padded.y, -tile.padded.x).slices] = False
            probabilities[0, outside] = 1
            probabilities[1:, outside] = 0
        classes = _tile_classes(probabilities, self.card, self.scale.mpp)
        return TileAnswer(tile, probabilities, distance, classes)


def _tile_classes(
    probabilities: NDArray[np.float16], card: ModelCard, mpp: float
) -> NDArray[np.uint8]:
    if card.task.kind == "areas":
        return area_classes(probabilities, card)
    mask = foreground_mask(1 - probabilities[0], card, mpp)
    values = np.array([spec.value for spec in card.task.classes], np.uint8)
    likely = np.argmax(probabilities[1:], axis=0) if len(values) > 1 else np.zeros((1, 1), np.intp)
    return np.asarray(np.where(mask, values[likely], np.uint8(0)))


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
    Every pixel comes from the tile whose core holds it. Around the outermost cores their halos
    serve as context, so that an object at the border is judged with its surroundings.
    """
    ordered = sorted(answers, key=lambda answer: (answer.tile.row, answer.tile.column))
    reach = area.padded(card.halo)
    channels = 1 + card.task.n_classes
    probabilities = np.zeros((channels, *reach.shape), np.float16)
    probabilities[0] = 1
    distance = np.zeros(reach.shape, np.float16)
    classes = np.zeros(reach.shape, np.uint8)
    for core_only in (False, True):
        for answer in ordered:
            box = answer.tile.core if core_only else answer.tile.padded
            common = box.intersection(reach)
            if common is None:
                continue
            into = common.shifted(-reach.y, -reach.x).slices
            padded = answer.tile.padded
            part = common.shifted(-padded.y, -padded.x).slices
            probabilities[:, *into] = answer.probabilities[:, *part]
            distance[into] = answer.distance[part]
            classes[into] = answer.classes[part]
    objects = None
    if card.task.kind == "objects":
        classes, objects = split_objects(classes > 0, distance, probabilities[1:], card, mpp)
    inner = area.shifted(-reach.y, -reach.x).slices
    confidence = probabilities[:, *inner].max(axis=0)
    return Labels(classes[inner], None if objects is None else objects[inner], confidence)
