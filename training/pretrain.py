"""Pre-train a diffusion backbone: python training/pretrain.py RECIPE [KEY=VALUE ...] --out DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_genselfdiff.learning.finish import finish_backbone
from napari_genselfdiff.learning.pretrain import pretrain
from napari_genselfdiff.learning.recipe import PretrainRecipe, read_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="name of a shipped recipe, or a .toml file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    recipe = read_recipe(PretrainRecipe, args.recipe, args.overrides)
    for report in pretrain(recipe, args.out, resume=args.resume, device=args.device):
        print(
            f"{report.images_seen}/{report.total_images} images, loss {report.loss:.4f}, "
            f"{report.images_per_s:.1f} images/s, {report.eta_s / 60:.1f} min left",
            flush=True,
        )
    finish_backbone(recipe, args.out)


if __name__ == "__main__":
    main()
