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
from numpy.typing import NDArray
from report import Row, finish, parser, points

from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.evaluation.curves import CurvePoint, draw_curves
from napari_genselfdiff.evaluation.folders import Pair
from napari_genselfdiff.learning.place import Place, open_place
from napari_genselfdiff.learning.recipe import FinetuneRecipe, data_root, read_recipe
from napari_genselfdiff.learning.sources import labelled_sources, read_list
from napari_genselfdiff.learning.study.images import pairs_of
from napari_genselfdiff.learning.study.networks import Reader, learn
from napari_genselfdiff.learning.study.plan import SETS
from napari_genselfdiff.learning.study.run import dice_by_image

STARTS = ("bundled", "scratch")
NAMES = {"bundled": "from the diffusion backbone", "scratch": "from random weights"}
MARKS = (400, 800, 1600)  # patches of 256 x 256 seen, beside the last ones
Dices = dict[int, NDArray[np.float64]]  # of every image, 0-1, by patches seen


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
        curves = {NAMES[start]: curve(dices) for start, dices in found.items()}
        names = {"x_name": "patches seen", "y_name": "Dice, points"}
        draw_curves(curves, args.png, **names)
    finish("nuclei_twin", list(rows(found)), args.json)


def unseen(number: int) -> list[Pair]:
    """Images of the MoNuSeg training list, evenly spread over it."""
    root, data = data_root(""), SETS["monuseg"]
    stems = sorted(read_list(root / data.train))
    return pairs_of(root, data, [stems[i * len(stems) // number] for i in range(number)])


def scored_on_the_way(start: str, patches: int, images: Sequence[Pair], place: Place) -> Dices:
    """Dice of every image whenever so many patches were seen."""
    recipe = read_recipe(FinetuneRecipe, "nuclei", [f"start={start}"])
    warm = min(recipe.loop.warmup_images, patches // 8)
    loop = replace(recipe.loop, total_images=patches, warmup_images=warm)
    recipe = recipe.model_copy(update={"loop": loop})
    reader = Reader.of(SETS["monuseg"], False, recipe, place)
    found: Dices = {}
    for learnt in learn(recipe, labelled_sources(recipe.data), place, MARKS):
        dices = dice_by_image(reader.segment(learnt.averaged), images)
        found[learnt.images_seen] = np.array(list(dices.values()))
        mean = 100 * found[learnt.images_seen].mean()
        print(start, learnt.images_seen, f"{mean:.1f}", flush=True)
    return found


def curve(dices: Dices) -> list[CurvePoint]:
    """Means with their intervals over images; of one image there is none."""
    found = []
    for seen, values in dices.items():
        row = points("", values)
        low, high = (row.value if end is None else end for end in (row.low, row.high))
        found.append(CurvePoint(seen, row.value, low, high))
    return found


def rows(found: Mapping[str, Dices]) -> Iterator[Row]:
    """Both at every length, and what the backbone is ahead by, image by image."""
    bundled, scratch = (found[start] for start in STARTS)
    for seen in bundled:
        yield points(f"twin_bundled_{seen}", bundled[seen])
        yield points(f"twin_scratch_{seen}", scratch[seen])
        yield points(f"twin_lead_{seen}", bundled[seen] - scratch[seen])


if __name__ == "__main__":
    main()
