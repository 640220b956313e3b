"""Fine-tuning: the pre-trained backbone learns one task from labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_genselfdiff.backbone.heads import Segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.backbone.weights import read_state, write_weights
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.learning.data import PatchSampler
from napari_genselfdiff.learning.loop import Report, TrainState
from napari_genselfdiff.learning.run import RunFolder, run
from napari_genselfdiff.learning.sources import labelled_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    model = start_segmenter(recipe)
    sampler = PatchSampler(labelled_sources(recipe.data), recipe.patch, recipe.loop.seed)
    state = TrainState.create(model, recipe.loop, device)
    yield from run(
        folder,
        state,
        sampler.batch,
        recipe.loss,
        recipe.loop,
        every_images=recipe.snapshots.every_images,
        snapshot=lambda: write_weights(out / "weights.safetensors", state.ema.model),
        should_stop=should_stop,
    )


def start_segmenter(recipe: FinetuneRecipe) -> Segmenter:
    """A segmenter whose U-Net comes from the recipe's start; its head is new."""
    if recipe.preset not in PRESETS:
        raise ConfigError(f"the preset must be one of {', '.join(PRESETS)}, got {recipe.preset!r}")
    model = Segmenter(PRESETS[recipe.preset], recipe.task.n_classes, recipe.timestep)
    if recipe.start != "scratch":
        load_unet(model, _start_file(recipe.start))
    return model


def load_unet(model: Segmenter, path: Path) -> None:
    """Take the U-Net of a backbone's weights file; ModelFileError when it does not fit."""
    state = read_state(path)
    ours = model.unet.state_dict()
    unet = {k.removeprefix("unet."): v for k, v in state.items() if k.startswith("unet.")}
    if unet.keys() != ours.keys() or any(unet[k].shape != ours[k].shape for k in ours):
        raise ModelFileError(
            f"{path} is the backbone of another network than {model.config.preset}"
        )
    model.unet.load_state_dict(unet)


def _start_file(start: str) -> Path:
    if start == "bundled":
        from napari_genselfdiff.registry.registry import bundled_backbone

        return bundled_backbone() / "weights.safetensors"
    path = Path(start)
    return path / "weights.safetensors" if path.is_dir() else path
