"""Weights to begin with: those of a backbone, or new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.init import initialise
from napari_genselfdiff.backbone.unet import PRESETS, UNetConfig
from napari_genselfdiff.backbone.weights import read_state
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry.folder import CARD_FILE, WEIGHTS_FILE, read_backbone

if TYPE_CHECKING:
    from torch import nn

    from napari_genselfdiff.learning.recipe import PretrainRecipe

SCRATCH, BUNDLED = "scratch", "bundled"


def start_denoiser(recipe: PretrainRecipe) -> Denoiser:
    """The network a pre-training run begins with.

    Raises
    ------
    ConfigError
        If the start learned another pretext than the recipe's: says which settings to pass.
    ModelFileError
        If the start's file is missing, damaged or of another network.
    """
    model = Denoiser(preset(recipe.preset))
    initialise(model, recipe.init)
    if recipe.start != SCRATCH:
        path = start_file(recipe.start)
        _check_pretext(path.with_name(CARD_FILE), recipe)
        load_part(model.unet, "unet.", path, recipe.preset)
        load_part(model.head, "head.", path, recipe.preset)
    return model


def preset(name: str) -> UNetConfig:
    """The network of this name; ConfigError when there is none."""
    if name not in PRESETS:
        raise ConfigError(f"the preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def start_file(start: str) -> Path:
    """Weights file of a recipe's start: ``bundled``, a folder or a file."""
    if start == BUNDLED:
        from napari_genselfdiff.registry.registry import bundled_backbone

        return bundled_backbone() / WEIGHTS_FILE
    path = Path(start).expanduser()
    return path / WEIGHTS_FILE if path.is_dir() else path


def load_part(module: nn.Module, prefix: str, path: Path, network: str) -> None:
    """Weights of a backbone's file whose names begin with ``prefix``, into ``module``."""
    ours = module.state_dict()
    state = {k.removeprefix(prefix): v for k, v in read_state(path).items() if k.startswith(prefix)}
    if state.keys() != ours.keys() or any(state[k].shape != ours[k].shape for k in ours):
        raise ModelFileError(f"{path} is the backbone of another network than {network}")
    module.load_state_dict(state)


def _check_pretext(card_file: Path, recipe: PretrainRecipe) -> None:
    """A noise head goes on only where it predicts the same of the same noise."""
    if not card_file.exists():  # a run that was not finished, or a bare weights file
        return
    card = json.loads(read_backbone(card_file.parent).card.model_dump_json())
    wanted = recipe.card_fields()
    other = {k: card[k] for k in ("schedule", "timesteps", "prediction") if card[k] != wanted[k]}
    if other:
        settings = " ".join(f"{_SETTING[k]}={v}" for k, v in other.items())
        raise ConfigError(
            f"{card_file.parent.name} was pre-trained with another pretext than the recipe's; "
            f"go on with the same: {settings}, or begin with start=scratch"
        )


_SETTING = {
    "schedule": "noise.schedule",
    "timesteps": "noise.timesteps",
    "prediction": "prediction",
}
