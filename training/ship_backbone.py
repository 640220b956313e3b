"""Turn a pre-training run into the shipped backbone: python -m training.ship_backbone RUN HOURS.

A run that went on from the shipped backbone (``start=bundled``) adds to its images and hours.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

from PIL import Image

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.backbone.weights import read_weights
from napari_genselfdiff.learning.recipe import PretrainRecipe
from napari_genselfdiff.registry.folder import read_backbone, write_backbone
from napari_genselfdiff.registry.registry import bundled_backbone
from training.licences import sources_of

NOTES = (
    "Made on two CPU cores. What it makes of pure noise has the colours of tissue, not its shapes. "
    "Meant as the start of new tasks until a run on a GPU replaces it. Research use only."
)


def main(run: Path, hours: float) -> None:
    """Write ``registry/bundled/backbone`` from a run folder."""
    recipe = PretrainRecipe(**json.loads((run / "recipe.json").read_text()))
    denoiser = Denoiser(PRESETS[recipe.preset])
    read_weights(run / "weights.safetensors", denoiser)
    seen = (run / "log.csv").read_text().splitlines()[-1].split(",")[0]
    before = read_backbone(bundled_backbone()).card if recipe.start == "bundled" else None
    fields = {
        "name": "backbone",
        **recipe.card_fields(),
        "mpp_range": recipe.patch.mpp_range,
        "images_seen": int(float(seen)) + (before.images_seen if before else 0),
        "hours": hours + (before.hours if before else 0.0),
        "data": sources_of([recipe.data.list or ""]),
        "recipe": recipe.model_dump(mode="json"),
        "notes": NOTES + (f" Goes on from {before.identity()[:12]}." if before else ""),
    }
    shutil.rmtree(bundled_backbone(), ignore_errors=True)
    picture = io.BytesIO()
    Image.open(run / "progress.png").convert("RGB").save(picture, "JPEG", quality=88)
    backbone = write_backbone(
        bundled_backbone(), fields, denoiser, half=True, extras={"progress.jpg": picture.getvalue()}
    )
    docs = Path(__file__).parents[1] / "docs" / "images" / "backbone-progress.jpg"
    docs.write_bytes(picture.getvalue())
    print(backbone.path, backbone.hash)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
