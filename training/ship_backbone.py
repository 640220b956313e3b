"""Turn a pre-training run into the shipped backbone: python -m training.ship_backbone RUN HOURS."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.backbone.weights import read_weights
from napari_genselfdiff.learning.recipe import PretrainRecipe
from napari_genselfdiff.registry.folder import write_backbone
from napari_genselfdiff.registry.registry import bundled_backbone
from training.licences import sources_of

NOTES = (
    "A short run on two CPU cores; its denoised tiles keep some noise. Meant as the start of new "
    "tasks until a longer run replaces it. Research use only."
)


def main(run: Path, hours: float) -> None:
    """Write ``registry/bundled/backbone`` from a run folder."""
    recipe = PretrainRecipe(**json.loads((run / "recipe.json").read_text()))
    denoiser = Denoiser(PRESETS[recipe.preset])
    read_weights(run / "weights.safetensors", denoiser)
    seen = (run / "log.csv").read_text().splitlines()[-1].split(",")[0]
    fields = {
        "name": "backbone",
        **recipe.card_fields(),
        "mpp_range": recipe.patch.mpp_range,
        "images_seen": int(float(seen)),
        "hours": hours,
        "data": sources_of([recipe.data.list or ""]),
        "recipe": recipe.model_dump(mode="json"),
        "notes": NOTES,
    }
    shutil.rmtree(bundled_backbone(), ignore_errors=True)
    picture = {"progress.png": (run / "progress.png").read_bytes()}
    backbone = write_backbone(bundled_backbone(), fields, denoiser, half=True, extras=picture)
    print(backbone.path, backbone.hash)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
