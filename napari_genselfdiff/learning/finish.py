"""Turn a finished run's folder into one that the rest of the program takes: with a card."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.backbone.heads import Denoiser, build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.backbone.weights import read_weights
from napari_genselfdiff.learning.snapshot import PICTURE_FILE
from napari_genselfdiff.learning.start import SCRATCH, start_file
from napari_genselfdiff.registry.card import DataSource
from napari_genselfdiff.registry.folder import (
    CARD_FILE,
    WEIGHTS_FILE,
    read_backbone,
    read_model,
    write_backbone,
    write_model,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_genselfdiff.learning.recipe import FinetuneRecipe, PretrainRecipe
    from napari_genselfdiff.registry.folder import Backbone, Model

NOT_STATED = "not stated"


def finish_backbone(recipe: PretrainRecipe, out: Path) -> Backbone:
    """Give the folder of a pre-training run its card, unless it has one."""
    if (out / CARD_FILE).exists():
        return read_backbone(out)
    denoiser = Denoiser(PRESETS[recipe.preset])
    read_weights(out / WEIGHTS_FILE, denoiser)
    fields = {
        "name": recipe.name,
        **recipe.card_fields(),
        "mpp_range": recipe.patch.mpp_range,
        "images_seen": images_seen(out),
        "colors": recipe.data.colors,
        "data": _learned_from(recipe),
        "recipe": recipe.model_dump(mode="json"),
    }
    extras = {p.name: p.read_bytes() for p in [out / PICTURE_FILE] if p.exists()}
    return write_backbone(out, fields, denoiser, extras=extras)


def finish_model(recipe: FinetuneRecipe, out: Path) -> Model:
    """Give the folder of a fine-tuning run its card, unless it has one."""
    if (out / CARD_FILE).exists():
        return read_model(out)
    segmenter = build_segmenter(PRESETS[recipe.preset], recipe.task.n_classes, recipe.timestep)
    read_weights(out / WEIGHTS_FILE, segmenter)
    settings: dict[str, Any] = recipe.model_dump(mode="json")
    fields = {
        "name": recipe.name,
        "task": recipe.task,
        "mpp_range": recipe.patch.mpp_range,
        "min_object_um2": recipe.min_object_um2,
        "colors": recipe.data.colors,
        "data": _sources(part.folder for part in recipe.data.sets),
        "recipe": {**settings, "images_seen": images_seen(out)},
        "notes": "Not scored yet; `genselfdiff evaluate` does that.",
    }
    return write_model(out, fields, segmenter)


def images_seen(out: Path) -> int:
    """Images a run has learned from, by its log."""
    log = out / "log.csv"
    if not log.exists():
        return 0
    with log.open(newline="", encoding="utf-8") as file:
        return int(max((float(row["images_seen"]) for row in csv.DictReader(file)), default=0))


def _learned_from(recipe: PretrainRecipe) -> list[DataSource]:
    """The recipe's data, and what the backbone it started from had learned from."""
    folders = [part.folder for part in recipe.data.sets]
    own = _sources(folders or (Path(folder).name or folder for folder in recipe.data.folders))
    if recipe.start == SCRATCH:
        return own
    before = start_file(recipe.start).parent
    inherited = read_backbone(before).card.data if (before / CARD_FILE).exists() else []
    return [*inherited, *(source for source in own if source not in inherited)]


def _sources(folders: Iterable[str]) -> list[DataSource]:
    return [DataSource(name=folder, licence=NOT_STATED) for folder in folders]
