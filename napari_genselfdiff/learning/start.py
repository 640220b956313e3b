"""Weights to begin with: those of a backbone, or new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.init import initialise
from napari_genselfdiff.backbone.unet import PRESETS, UNetConfig
from napari_genselfdiff.backbone.weights import read_state
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry.folder import CARD_FILE, WEIGHTS_FILE, read_backbone

if TYPE_CHECKING:
    from torch import nn

    from napari_genselfdiff.learning.pretext import PretextConfig
    from napari_genselfdiff.learning.recipe import PretrainRecipe

SCRATCH, BUNDLED = "scratch", "bundled"
BUNDLED_NUCLEI = "bundled_nuclei"  # the shipped model's U-Net, which has seen open nuclei labels


def start_denoiser(recipe: PretrainRecipe) -> Denoiser:
    """The network a pre-training run begins with.

    Raises
    ------
    ConfigError
        If the start learned another pretext than the recipe's and its head is to be kept: says
        which settings to pass.
    ModelFileError
        If the start's file is missing, damaged or of another network.
    """
    model = Denoiser(preset(recipe.preset))
    initialise(model, recipe.init)
    if recipe.start != SCRATCH:
        path = start_file(recipe.start)
        load_part(model.unet, "unet.", path, recipe.preset)
        if recipe.start_head == "keep":
            check_pretext(path, recipe)
        if recipe.start_head != "new":
            load_part(model.head, "head.", path, recipe.preset)
    return model


def preset(name: str) -> UNetConfig:
    """The network of this name; ConfigError when there is none."""
    if name not in PRESETS:
        raise ConfigError(f"the preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def start_file(start: str) -> Path:
    """Weights file of a recipe's start: ``bundled``, ``bundled_nuclei``, a folder or a file."""
    if start == BUNDLED_NUCLEI:
        from napari_genselfdiff.registry.registry import BUNDLED as SHIPPED

        return SHIPPED / "nuclei" / WEIGHTS_FILE
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


def check_pretext(weights: Path, wanted: PretextConfig, prefix: str = "") -> None:
    """Refuse a noise head that learned something else; ``prefix`` is where ``wanted`` stands."""
    folder = weights.parent
    if not (folder / CARD_FILE).exists():  # a run that was not finished, or a bare weights file
        return
    card = json.loads(read_backbone(folder).card.model_dump_json())
    learned, asked = (_settings(fields) for fields in (card, wanted.card_fields()))
    other = [f"{prefix}{key}={value}" for key, value in learned.items() if asked.get(key) != value]
    if other:
        without = "" if prefix else " learn another from it with start_head=reuse or new,"
        raise ConfigError(
            f"{folder.name} was pre-trained with another pretext than the recipe's; "
            f"go on with the same: {' '.join(other)},{without} or begin with start=scratch"
        )


def _settings(card: dict[str, Any]) -> dict[str, Any]:
    """Recipe settings that decide what a noise head answers, from a card's fields."""
    if card["schedule"] == "masked":
        return {"pretext": "masked", "masking.timesteps": card["timesteps"]}
    return {
        "pretext": "noise",
        "noise.schedule": card["schedule"],
        "noise.timesteps": card["timesteps"],
        "prediction": card["prediction"],
    }
