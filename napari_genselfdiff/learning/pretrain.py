"""Pre-training: the backbone learns to mend damaged tissue, without labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_genselfdiff.backbone.weights import write_weights
from napari_genselfdiff.learning.data import PatchSampler
from napari_genselfdiff.learning.loop import Report, TrainState
from napari_genselfdiff.learning.place import usable_precision
from napari_genselfdiff.learning.prefetch import Prefetch
from napari_genselfdiff.learning.run import RunFolder, RunOptions, run, write_text
from napari_genselfdiff.learning.snapshot import (
    FIRST_INDEX,
    PICTURE_FILE,
    mending_rows,
    write_progress,
)
from napari_genselfdiff.learning.sources import unlabelled_sources
from napari_genselfdiff.learning.start import start_denoiser
from napari_genselfdiff.registry.folder import WEIGHTS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_genselfdiff.learning.pretext import PretextName
    from napari_genselfdiff.learning.recipe import PretrainRecipe

# What the picture calls a damaged and a mended patch.
WORDS: dict[PretextName, tuple[str, str]] = {
    "noise": ("noised", "denoised"),
    "masked": ("hidden in part", "filled in"),
}


def pretrain(
    recipe: PretrainRecipe, out: Path, options: RunOptions | None = None
) -> Iterator[Report]:
    """Pre-train after ``recipe`` into ``out``, yielding one report per step.

    Writes ``weights.safetensors`` (the moving average, for use), ``checkpoint.pt`` and the one
    before it (full state, to resume), ``log.csv``, ``recipe.json`` and ``progress.png``, and where
    pictures had to be passed over ``skipped.txt``.
    """
    options = options or RunOptions()
    place = options.place
    folder = RunFolder(out, recipe, resume=options.resume, writes=place.shares.is_first)
    loop = replace(recipe.loop, precision=usable_precision(recipe.loop.precision, place.device))
    torch.manual_seed(loop.seed)
    model = start_denoiser(recipe)
    sampler = PatchSampler(unlabelled_sources(recipe.data), recipe.patch, loop.seed)
    pretext = recipe.build(loop.seed)
    state = TrainState.create(model, loop, place.device, place.shares)
    indices = range(FIRST_INDEX, FIRST_INDEX + recipe.snapshots.tiles)

    def snapshot() -> None:
        learnt = state.ema.model
        write_weights(out / WEIGHTS_FILE, learnt)
        if sampler.skipped:
            write_text(out / "skipped.txt", "\n".join(sampler.skipped.values()) + "\n")
        if indices:
            clean = sampler.batch(indices).images.to(place.device)
            rows = mending_rows(
                learnt,
                pretext,
                clean,
                indices,
                timesteps=recipe.card_fields()["timesteps"],
                words=WORDS[recipe.pretext],
            )
            title = f"{recipe.name}: pre-training, {state.images_seen:,} images seen"
            write_progress(out / PICTURE_FILE, title, out / "log.csv", rows)

    with Prefetch.of(sampler, loop.total_images, str(place.device)) as make_batch:
        yield from run(
            folder,
            state,
            make_batch,
            pretext,
            loop,
            every_images=recipe.snapshots.every_images,
            snapshot=snapshot,
            options=options,
        )
