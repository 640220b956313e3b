"""What is known of the whole slide, in small: the coarsest level, with nothing small left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.arrays import CHUNK
from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.looks import Look
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region


@dataclass(frozen=True, slots=True)
class Seen:
    """A place a person looked at, in level-0 pixels; ``look`` says who, when and how."""

    region0: Region
    look: Look


def known_overview(store: AnnotationStore, task: str) -> NDArray[np.uint8]:
    """Who stands behind what, on a map of at most 512 pixels a side.

    Returns
    -------
    ndarray
        (h, w) uint8 provenance. The coarsest level shows what prevails; where a person checked
        less than that, the middle of its chunk is marked all the same.
    """
    levels = store.drawn_levels(task, "provenance")
    known: NDArray[np.uint8] = levels[-1][:, :]
    coverage, step = store.coverage(task), 2 ** (len(levels) - 1)
    for value in (ACCEPTED, HUMAN):
        rows, columns = np.nonzero(coverage[..., value - 1])
        missing = _highest(known, coverage.shape[:2], step)[rows, columns] < value
        rows = np.minimum((rows[missing] * CHUNK + CHUNK // 2) // step, known.shape[0] - 1)
        columns = np.minimum((columns[missing] * CHUNK + CHUNK // 2) // step, known.shape[1] - 1)
        known[rows, columns] = np.maximum(known[rows, columns], value)
    return known


def seen_places(store: AnnotationStore, task: str) -> list[Seen]:
    """Where people looked, the newest first; a later place counts more than an earlier one."""
    downsample = store.downsample(task)
    return [Seen(look.region.from_grid(downsample), look) for look in reversed(store.looks(task))]


def _highest(known: NDArray[np.uint8], chunks: tuple[int, ...], step: int) -> NDArray[np.uint8]:
    """Highest value within each chunk of the grid."""
    side = CHUNK // step
    if side <= 1:  # a pixel of the map covers chunks whole
        rows, columns = (
            np.minimum(np.arange(n) * CHUNK // step, known.shape[i] - 1)
            for i, n in enumerate(chunks)
        )
        return known[np.ix_(rows, columns)]
    padded = np.zeros((chunks[0] * side, chunks[1] * side), np.uint8)
    padded[: known.shape[0], : known.shape[1]] = known[: padded.shape[0], : padded.shape[1]]
    highest: NDArray[np.uint8] = padded.reshape(chunks[0], side, chunks[1], side).max(axis=(1, 3))
    return highest
