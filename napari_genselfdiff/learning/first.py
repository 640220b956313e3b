"""The first model of a task nobody has a model for: the diffusion backbone and a new head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from napari_genselfdiff.backbone.heads import Segmenter
from napari_genselfdiff.learning.jitter import DEFAULT_JITTER
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.registry.folder import read_backbone, write_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.registry.card import ModelCard, TaskSpec
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.color_names import Colors

TIMESTEP: Final = 50
# Everything has to be learnt, and there is nothing to go part of the way back to. Other slides
# will look otherwise, so patches do; and what was learnt without labels changes more slowly.
FIRST: Final = RefineConfig(
    budget_s=60.0,
    patch=256,
    lr=6e-4,
    most_steps=1000,
    replay_share=0.0,
    blends=(1.0,),
    stain=DEFAULT_JITTER,
    zoom=1.4,
    layer_decay=0.75,
)
_SMALLEST_SHARE = 0.25  # of the median object a person drew; smaller ones are dropped
_UNTRAINED, _BACKBONE = "untrained", "backbone"


def write_untrained(
    path: Path, task: TaskSpec, backbone: Path, *, seed: int = 0, colors: Colors = "stored"
) -> Model:
    """Write a model of ``task`` whose head has learned nothing, for Refine to begin with.

    It reads slides at the task's µm/px, or coarser where the slide is, and with these colours; it
    must not be put to use.
    """
    start = read_backbone(backbone)
    torch.manual_seed(seed)
    denoiser = start.load()
    segmenter = Segmenter(denoiser.config, task.n_classes, TIMESTEP)
    segmenter.unet.load_state_dict(denoiser.unet.state_dict())
    coarse = task.mpp > 0.4  # what is asked at low magnification needs more around it
    fields = {
        "task": task,
        "mpp_range": (task.mpp, 1.6 * task.mpp),
        "tile": 512 if coarse else 288,
        "halo": 64 if coarse else 16,
        "colors": colors,
        "data": start.card.data,
        "recipe": {_UNTRAINED: True, _BACKBONE: start.hash},
        "notes": "Not trained yet.",
    }
    return write_model(path, fields, segmenter.eval())


def is_untrained(card: ModelCard) -> bool:
    """Whether a card is that of :func:`write_untrained`."""
    return card.recipe.get(_UNTRAINED) is True


def origin(untrained: ModelCard) -> str:
    """Hash of the backbone an untrained model was made from."""
    return str(untrained.recipe[_BACKBONE])


def first_fields(untrained: ModelCard, tiles: Sequence[CorrectionTile]) -> dict[str, object]:
    """What the card of the first model says otherwise than those of later ones."""
    return {
        "parent": None,
        "min_object_um2": smallest_object_um2(tiles),
        "notes": f"First model for {untrained.task.name}, from {len(tiles)} checked tiles.",
    }


def smallest_object_um2(tiles: Sequence[CorrectionTile]) -> float:
    """Area below which an answer is no object: a quarter of the median one; 0 for areas."""
    areas: list[float] = []
    for tile in tiles:
        if tile.objects is not None:
            _, counts = np.unique(tile.objects[tile.objects > 0], return_counts=True)
            areas += [float(count) * tile.mpp**2 for count in counts]
    return _SMALLEST_SHARE * float(np.median(areas)) if areas else 0.0
