"""Pictures nobody labelled, with what a model says of them in place of the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_genselfdiff.annotation.window import ACCEPTED, UNKNOWN
from napari_genselfdiff.learning.corrections import CorrectionTile, class_values
from napari_genselfdiff.learning.scoring import classify_surely

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.registry.card import TaskSpec


class Unlabelled(NamedTuple):
    """A picture ``(h, w, 3)`` uint8 at ``mpp`` µm/px; ``source`` tells where it is from."""

    image: NDArray[np.uint8]
    mpp: float
    source: str


def answered(
    pictures: Iterable[Unlabelled], segmenter: Segmenter, task: TaskSpec, *, sure: float = 0.0
) -> list[CorrectionTile]:
    """Tiles in which the model's answers count as accepted where its probability is ``sure``.

    Elsewhere in them nothing is known.
    """
    values, tiles = class_values(task), []
    for picture in pictures:
        channels, probability = classify_surely(segmenter, picture.image)
        classes = values[channels]
        objects = _numbered(classes) if task.kind == "objects" else None
        provenance = np.where(probability >= sure, ACCEPTED, UNKNOWN).astype(np.uint8)
        tiles.append(
            CorrectionTile(picture.image, classes, objects, provenance, picture.mpp, picture.source)
        )
    return tiles


def _numbered(classes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Connected patches of one class as objects."""
    from skimage.measure import label

    # type: scikit-image has no types
    found = label(classes, connectivity=1)  # type: ignore[no-untyped-call]
    return np.asarray(found, np.uint32)
