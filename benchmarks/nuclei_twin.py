"""What diffusion bought the shipped Nuclei model: python benchmarks/nuclei_twin.py [--quick].

The recipe of that model, cut short, once from the bundled backbone and once from random weights:
same images, patches, rates and length. Pixel Dice of both on the way, on MoNuSeg training images,
which neither learns from and which are no scored list. Needs the data folder (GENSELFDIFF_DATA).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from report import Row, finish, parser

from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval
from napari_genselfdiff.evaluation.curves import CurvePoint, draw_curves
from napari_genselfdiff.evaluation.folders import Pair, pair_folders, read_pair
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.learning.place import Place, open_place
from napari_genselfdiff.learning.recipe import FinetuneRecipe, data_root, read_recipe
from napari_genselfdiff.learning.sources import labelled_sources, read_list
from napari_genselfdiff.learning.study.networks import Reader, learn
from napari_genselfdiff.learning.study.plan import SETS

STARTS = ("bundled", "scratch")
NAMES = {"bundled": "from the diffusion backbone", "scratch": "from random weights"}
MARKS = (400, 800, 1600)  # patches of 256 x 256 seen, beside the last ones
Dices = dict[int, list[float]]  # of every image, by patches seen


def main() -> None:
    reader = parser(__doc__.splitlines()[0])
    reader.add_argument("--patches", type=int, default=3200, help="length of the fine-tuning")
    reader.add_argument("--images", type=int, default=6, help="MoNuSeg images that are read")
    reader.add_argument("--png", type=Path, metavar="FILE", help="also draw the curves")
    args = reader.parse_args()
    patches, number = (16, 1) if args.quick else (args.patches, args.images)
    keep_freed_memory()
    images = unseen(number)
    with open_place() as place:
        found = {start: scored_on_the_way(start, patches, images, place) for start in STARTS}
    if args.png is not None:
        curves = {NAMES[start]: points(dices) for start, dices in found.items()}
        names = {"x_name": "patches seen", "y_name": "Dice, points"}
        draw_curves(curves, args.png, **names)
    finish("nuclei_twin", list(rows(found)), args.json)


def unseen(number: int) -> list[Pair]:
    """Images of the MoNuSeg training list, evenly spread over it."""
    root, data = data_root(""), SETS["monuseg"]
    stems = sorted(read_list(root / data.train))
    pairs = pair_folders(root / data.folder / "images", root / data.folder / "masks")
    by_name = {pair.name: pair for pair in pairs}
    return [by_name[stems[i * len(stems) // number]] for i in range(number)]


def scored_on_the_way(start: str, patches: int, images: Sequence[Pair], place: Place) -> Dices:
    """Dice of every image whenever so many patches were seen."""
    recipe = read_recipe(FinetuneRecipe, "nuclei", [f"start={start}"])
    warm = min(recipe.loop.warmup_images, patches // 8)
    loop = replace(recipe.loop, total_images=patches, warmup_images=warm)
    recipe = recipe.model_copy(update={"loop": loop})
    reader = Reader.of(SETS["monuseg"], False, recipe, place)
    found: Dices = {}
    for learnt in learn(recipe, labelled_sources(recipe.data), place, MARKS):
        segment = reader.segment(learnt.averaged)
        values = found[learnt.images_seen] = []
        for pair in images:
            image, mask = read_pair(pair)
            values.append(100 * dice(segment(image).classes, mask.labels))
        print(start, learnt.images_seen, f"{np.mean(values):.1f}", flush=True)
    return found


def points(dices: Dices) -> list[CurvePoint]:
    """Means with their intervals over images; of one image there is none."""
    found = []
    for seen, values in dices.items():
        mean = float(np.mean(values))
        ends = np.nan_to_num(bootstrap_interval(values), nan=mean)
        found.append(CurvePoint(seen, mean, float(ends[0]), float(ends[1])))
    return found


def rows(found: Mapping[str, Dices]) -> Iterator[Row]:
    """Both at every length, and what the backbone is ahead by, image by image."""
    bundled, scratch = (found[start] for start in STARTS)
    for seen in bundled:
        pair = {"bundled": bundled[seen], "scratch": scratch[seen]}
        pair["lead"] = list(np.subtract(bundled[seen], scratch[seen]))
        for name, values in pair.items():
            low, high = bootstrap_interval(values)
            n = len(values)
            mean = float(np.mean(values))
            yield Row(f"twin_{name}_{seen}", mean, "points", n=n, low=low, high=high)


if __name__ == "__main__":
    main()
