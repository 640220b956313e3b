"""Tissue of the corrected slides that nobody looked at, with the sure answers of the model in use.

A model that came with the program has tiles of its own to practise on, so that it does not forget
them; one that Refine began has only what was corrected, and that is seldom what tissue is like. It
practises on, and is compared on, its own sure answers in other places of the same slides instead
(Li and Hoiem 2016, "Learning without forgetting"). Nothing of them is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.learning.answered import Unlabelled
from napari_genselfdiff.prediction.plan import find_tissue
from napari_genselfdiff.prediction.tiles import model_downsample
from napari_genselfdiff.slides.geometry import Region, grid_shape
from napari_genselfdiff.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.prediction.plan import Tissue
    from napari_genselfdiff.registry.card import ModelCard
    from napari_genselfdiff.slides.slide import Slide

SIDE: Final = 256  # pixels of the model
PLACES: Final = 24  # of all slides together
_LEAST_TISSUE: Final = 0.25  # of a place


@dataclass(frozen=True)
class CorrectedSlide:
    """A slide that corrections come from, and where on it somebody looked.

    ``mpp`` is the user's, None the file's own; ``checked`` are regions in level-0 pixels.
    """

    path: Path
    mpp: float | None
    checked: Sequence[Region]


def corrected_slide(
    slide: Slide, store: AnnotationStore, task: str, *, tile: int = 256
) -> CorrectedSlide:
    """An open slide and where its annotations of a task are known, in whole tiles."""
    step = float(store.downsample(task))
    checked = [region.from_grid(step) for region in store.known_regions(task, tile)]
    return CorrectedSlide(slide.path, slide.mpp if slide.mpp_assumed else None, checked)


def read_elsewhere(
    slides: Sequence[CorrectedSlide], card: ModelCard, *, seed: int = 0
) -> list[Unlabelled]:
    """Pictures of up to :data:`PLACES` random places with tissue, none of them checked by anyone.

    They are read as the model of ``card`` reads them; nothing is known of them. SlideError if a
    slide cannot be read.
    """
    pictures: list[Unlabelled] = []
    for number, corrected in enumerate(slides):
        wanted = (PLACES - len(pictures)) // (len(slides) - number)
        rng = np.random.default_rng([seed, 41, number])
        with open_slide(corrected.path, mpp=corrected.mpp) as slide:
            pictures += _read(slide, corrected.checked, card, wanted, rng)
    return pictures


def _read(
    slide: Slide,
    checked: Sequence[Region],
    card: ModelCard,
    wanted: int,
    rng: np.random.Generator,
) -> Iterator[Unlabelled]:
    scale = model_downsample(slide.mpp, card.mpp_range)
    shown, tissue = slide.in_colors(card.colors), find_tissue(slide)
    seen = [region.to_grid(scale.downsample) for region in checked]
    shape = grid_shape(slide.shape, scale.downsample)
    cells = [min(SIDE, length) for length in shape]
    rows, columns = (length // cell for length, cell in zip(shape, cells, strict=True))
    for place in rng.permutation(rows * columns):
        if not wanted:
            return
        y, x = divmod(int(place), columns)
        region = Region(y * cells[0], x * cells[1], cells[0], cells[1])
        if any(region.intersection(other) for other in seen):
            continue
        if _tissue_share(tissue, region.from_grid(scale.downsample)) < _LEAST_TISSUE:
            continue
        wanted -= 1
        source = f"elsewhere:{slide.hash[:16]}:{region.y},{region.x}"
        yield Unlabelled(shown.read(region, scale.downsample), scale.mpp, source)


def _tissue_share(tissue: Tissue, region0: Region) -> float:
    """Share of a level-0 region that is tissue."""
    inside = region0.to_grid(tissue.downsample).clipped(tissue.mask.shape)
    return float(tissue.mask[inside.slices].mean()) if inside is not None else 0.0
