"""Fine-tuning: the pre-trained backbone learns one task from labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_genselfdiff.backbone.heads import Segmenter
from napari_genselfdiff.backbone.init import initialise
from napari_genselfdiff.backbone.weights import write_weights
from napari_genselfdiff.learning.companion import (
    Accompanied,
    AccompaniedSegmenter,
    without_companion,
)
from napari_genselfdiff.learning.data import PatchSampler
from napari_genselfdiff.learning.loop import Report, TrainState
from napari_genselfdiff.learning.prefetch import Prefetch
from napari_genselfdiff.learning.run import RunFolder, run
from napari_genselfdiff.learning.sources import labelled_sources
from napari_genselfdiff.learning.start import load_part, preset, start_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from napari_genselfdiff.learning.objectives import Objective
    from napari_genselfdiff.learning.recipe import FinetuneRecipe


def finetune(
    recipe: FinetuneRecipe,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Report]:
    """Fine-tune after ``recipe`` into ``out``, yielding one report per step.

    Writes ``weights.safetensors`` (the moving average, for use), ``checkpoint.pt`` (full state,
    for ``resume``), ``log.csv`` and ``recipe.json``.
    """
    folder = RunFolder(out, recipe, resume=resume)
    torch.manual_seed(recipe.loop.seed)
    model, objective = start(recipe)
    sampler = PatchSampler(labelled_sources(recipe.data), recipe.patch, recipe.loop.seed)
    state = TrainState.create(model, recipe.loop, device)
    with Prefetch.of(sampler, recipe.loop.total_images, device) as make_batch:
        yield from run(
            folder,
            state,
            make_batch,
            objective,
            recipe.loop,
            every_images=recipe.snapshots.every_images,
            snapshot=lambda: write_weights(
                out / "weights.safetensors", without_companion(state.ema.model)
            ),
            should_stop=should_stop,
        )


def start(recipe: FinetuneRecipe) -> tuple[nn.Module, Objective]:
    """The model to train and what it is trained on, with a companion if the recipe has one."""
    segmenter = start_segmenter(recipe)
    if recipe.companion is None:
        return segmenter, recipe.loss
    model = AccompaniedSegmenter(segmenter)
    initialise(model.noise_head, recipe.init)
    if recipe.start != "scratch":
        load_part(model.noise_head, "head.", start_file(recipe.start), recipe.preset)
    pretext = recipe.companion.build(recipe.loop.seed)
    return model, Accompanied(recipe.loss, pretext, recipe.companion.weight)


def start_segmenter(recipe: FinetuneRecipe) -> Segmenter:
    """A segmenter whose U-Net comes from the recipe's start; its head is new."""
    model = Segmenter(preset(recipe.preset), recipe.task.n_classes, recipe.timestep)
    initialise(model, recipe.init)
    if recipe.start != "scratch":
        load_unet(model, start_file(recipe.start))
    return model


def load_unet(model: Segmenter, path: Path) -> None:
    """Take the U-Net of a backbone's weights file; ModelFileError when it does not fit."""
    load_part(model.unet, "unet.", path, model.config.preset)
