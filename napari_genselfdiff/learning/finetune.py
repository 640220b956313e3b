"""Fine-tuning: the pre-trained backbone learns one task from labelled images."""

from __future__ import annotations

from dataclasses import replace
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
from napari_genselfdiff.learning.place import usable_precision
from napari_genselfdiff.learning.prefetch import Prefetch
from napari_genselfdiff.learning.run import RunFolder, RunOptions, run
from napari_genselfdiff.learning.snapshot import (
    FIRST_INDEX,
    PICTURE_FILE,
    segmentation_rows,
    write_progress,
)
from napari_genselfdiff.learning.sources import labelled_sources
from napari_genselfdiff.learning.start import check_pretext, load_part, preset, start_file
from napari_genselfdiff.registry.folder import WEIGHTS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from napari_genselfdiff.learning.objectives import Objective
    from napari_genselfdiff.learning.recipe import FinetuneRecipe


def finetune(
    recipe: FinetuneRecipe, out: Path, options: RunOptions | None = None
) -> Iterator[Report]:
    """Fine-tune after ``recipe`` into ``out``, yielding one report per step.

    Writes ``weights.safetensors`` (the moving average, for use), ``checkpoint.pt`` and the one
    before it (full state, to resume), ``log.csv``, ``recipe.json`` and ``progress.png``.
    """
    options = options or RunOptions()
    place = options.place
    folder = RunFolder(out, recipe, resume=options.resume, writes=place.shares.is_first)
    loop = replace(recipe.loop, precision=usable_precision(recipe.loop.precision, place.device))
    torch.manual_seed(loop.seed)
    model, objective = start(recipe)
    sampler = PatchSampler(labelled_sources(recipe.data), recipe.patch, loop.seed)
    state = TrainState.create(model, loop, place.device, place.shares)
    indices = range(FIRST_INDEX, FIRST_INDEX + recipe.snapshots.tiles)

    def snapshot() -> None:
        learnt = without_companion(state.ema.model)
        write_weights(out / WEIGHTS_FILE, learnt)
        if indices:
            rows = segmentation_rows(learnt, sampler.batch(indices).to(place.device))
            title = f"{recipe.name}: fine-tuning, {state.images_seen:,} images seen"
            write_progress(out / PICTURE_FILE, title, out / "log.csv", rows)

    with Prefetch.of(sampler, loop.total_images, str(place.device)) as make_batch:
        yield from run(
            folder,
            state,
            make_batch,
            objective,
            loop,
            every_images=recipe.snapshots.every_images,
            snapshot=snapshot,
            options=options,
        )


def start(recipe: FinetuneRecipe) -> tuple[nn.Module, Objective]:
    """The model to train and what it is trained on, with a companion if the recipe has one."""
    segmenter = start_segmenter(recipe)
    if recipe.companion is None:
        return segmenter, recipe.loss
    model = AccompaniedSegmenter(segmenter)
    initialise(model.noise_head, recipe.init)
    if recipe.start != "scratch":
        path = start_file(recipe.start)
        check_pretext(path, recipe.companion, "companion.")
        load_part(model.noise_head, "head.", path, recipe.preset)
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
