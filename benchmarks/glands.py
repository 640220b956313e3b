"""A task nobody has a model for, from a few tiles: python benchmarks/glands.py [--quick].

GlaS: the whole truth of one 256-pixel tile of each of a few training images, where about half is
gland (the dense user); Refine makes the first model of the task from the diffusion backbone.
Pixel Dice on whole other images: ten of the training list, or with ``--list glas_testA`` the test
images, which are to be scored once. With ``--worst``, a user who goes on: three such tiles, then
the places where the model made of them is most wrong, on five more images, and Refine once more,
with and without other places of these images at hand.
Needs the data folder (GENSELFDIFF_DATA).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from kept import Kept, Values
from numpy.typing import NDArray
from report import Row, finish, parser, points

from napari_genselfdiff.annotation.tasks import GLANDS
from napari_genselfdiff.annotation.window import HUMAN
from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.evaluation.folders import Pair, pair_folders, read_pair
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.learning.elsewhere import CorrectedSlide
from napari_genselfdiff.learning.first import FIRST, write_untrained
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.refine import RefineResult
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.simulation import refine_once
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.prediction.picture import segment_picture
from napari_genselfdiff.prediction.profile import default_profile
from napari_genselfdiff.registry.folder import Model, read_model
from napari_genselfdiff.registry.registry import bundled_backbone
from napari_genselfdiff.slides.geometry import Region

MPP = 0.62
SIDE = 256
TRIES = 20  # random places of an image, of which the one with most nearly half gland is drawn
ASIDE = 10  # training images that are only scored
FIRST_TILES, ALL_TILES = 3, 8  # of the user who goes on
WORST, ALONE = "worst", "alone"  # with other places of the slides, and without


def main() -> None:
    reader = parser(__doc__.splitlines()[0])
    reader.add_argument("--tiles", type=int, nargs="+", default=[3, 8])
    reader.add_argument("--seeds", type=int, default=3, help="choices of images and places")
    reader.add_argument("--list", default="glas_train", help="list whose images are scored")
    reader.add_argument("--images", type=int, help="score only so many of them")
    reader.add_argument("--budget-seconds", type=float, default=FIRST.budget_s)
    reader.add_argument("--worst", action="store_true", help="only the user who goes on")
    reader.add_argument("--kept", type=Path, metavar="FILE", help="keep runs, and go on with them")
    args = reader.parse_args()
    budget_s, seeds = (6.0, 1) if args.quick else (args.budget_seconds, args.seeds)
    keep_freed_memory()  # as the workers of the window do
    settings = {"list": args.list, "budget_s": budget_s, "images": args.images}
    kept = Kept(args.kept, settings)
    for seed in range(seeds):
        if args.worst:
            kept.run(WORST, seed, lambda s=seed: worst_run(s, settings))
        for count in [] if args.worst else args.tiles:
            kept.run(f"{count}", seed, lambda c=count, s=seed: one_run(c, s, settings))
    found = [*rows(kept, args.tiles, budget_s), *worst_rows(list(kept.runs(WORST).values()))]
    finish("glands", found, args.json)


class Images:
    """Training images in one order: those to draw on, and those that are only scored."""

    def __init__(self, settings: Values) -> None:
        root = data_root("")
        data = root / "labelled" / "glas"
        self.pairs = {pair.name: pair for pair in pair_folders(data / "images", data / "masks")}
        names = read_list(root / "splits" / "glas_train.txt")
        order = [str(name) for name in np.random.default_rng(5).permutation(names)]
        self.taught, scored = order[:-ASIDE], order[-ASIDE:]
        if settings["list"] != "glas_train":
            scored = read_list(root / "splits" / f"{settings['list']}.txt")
        self.scored = scored[: settings["images"]]
        self.profile = default_profile()

    def chosen(self, count: int, rng: np.random.Generator) -> list[Pair]:
        """So many images to draw on."""
        return [self.pairs[str(name)] for name in rng.permutation(self.taught)[:count]]

    def answers(self, model: Model, pairs: Sequence[Pair]) -> list[NDArray[np.bool_]]:
        """Where a model sees glands on whole images."""
        return [answer for answer, _ in self._beside_truth(model, pairs)]

    def dice(self, model: Model) -> float:
        """Mean Dice on the images that are only scored, 0-1."""
        pairs = [self.pairs[name] for name in self.scored]
        return float(np.mean([dice(*both) for both in self._beside_truth(model, pairs)]))

    def _beside_truth(
        self, model: Model, pairs: Sequence[Pair]
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Where a model sees glands on each image, and where they are."""
        segmenter = model.load()
        for pair in pairs:
            image, mask = read_pair(pair)
            answer = segment_picture(image, MPP, model, segmenter, self.profile)
            yield answer.classes > 0, mask.labels > 0


def one_run(count: int, seed: int, settings: Values) -> Values:
    """Make a model of some tiles, and score it on whole images; Dice 0-1."""
    images, rng = Images(settings), np.random.default_rng([seed, count])
    tiles = [drawn(pair, place(pair, rng)) for pair in images.chosen(count, rng)]
    with tempfile.TemporaryDirectory(prefix="gsd-glands-") as folder:
        result = first_refine(images, tiles, seed, settings["budget_s"], Path(folder))
        found = images.dice(read_model(result.model))
    return {
        "dice": found,
        "aside": result.verdict.new,
        "decision": result.verdict.decision,
        "seconds": result.seconds,
        "patches": result.images_seen,
    }


def worst_run(seed: int, settings: Values) -> Values:
    """Three tiles, then the worst places of five more images; Dice after each, 0-1."""
    images, rng = Images(settings), np.random.default_rng([seed, ALL_TILES])
    pairs = images.chosen(ALL_TILES, rng)
    tiles = [drawn(pair, place(pair, rng)) for pair in pairs[:FIRST_TILES]]
    with tempfile.TemporaryDirectory(prefix="gsd-glands-") as name:
        folder = Path(name)
        made = first_refine(images, tiles, seed, settings["budget_s"], folder)
        first = read_model(made.model)
        more = pairs[FIRST_TILES:]
        seen = zip(more, images.answers(first, more), strict=True)
        places = [place(pair, rng, answer) for pair, answer in seen]
        tiles = [drawn(pair, at) for pair, at in zip(more, places, strict=True)]
        slides = [CorrectedSlide(p.image, MPP, [at]) for p, at in zip(more, places, strict=True)]
        config = RefineConfig(budget_s=settings["budget_s"] / 2, seed=seed)  # as the button does
        before = images.dice(first)
        found: Values = {"before": before}
        for kind, given in ((WORST, slides), (ALONE, [])):
            out = folder / kind
            result = refine_once(first, first, tiles, images.profile, config, out, given)
            verdict, new = result.verdict, images.dice(read_model(result.model))
            found[kind] = {
                "new": new,
                "in_use": before if verdict.decision == "not_better" else new,
                "decision": verdict.decision,
                "aside": [verdict.old, verdict.new],
                "elsewhere": verdict.elsewhere,
            }
    return found


def first_refine(
    images: Images, tiles: Sequence[CorrectionTile], seed: int, budget_s: float, folder: Path
) -> RefineResult:
    """Make the first model of the task from the diffusion backbone, as the button does."""
    start = write_untrained(folder / "start", GLANDS, bundled_backbone(), seed=seed)
    config = replace(FIRST, budget_s=budget_s, seed=seed)
    return refine_once(start, start, tiles, images.profile, config, folder / "first")


def place(pair: Pair, rng: np.random.Generator, answer: NDArray[np.bool_] | None = None) -> Region:
    """A place of about half gland, or where an answer is most wrong."""
    _, mask = read_pair(pair)
    height, width = mask.labels.shape
    places = [
        (int(rng.integers(height - SIDE)), int(rng.integers(width - SIDE))) for _ in range(TRIES)
    ]

    truth = mask.labels > 0
    y, x = min(places, key=_half_gland(truth) if answer is None else _most_wrong(answer != truth))
    return Region(y, x, SIDE, SIDE)


def drawn(pair: Pair, at: Region) -> CorrectionTile:
    """All of a place drawn."""
    image, mask = read_pair(pair)
    ids = mask.labels[at.slices].astype(np.uint32)
    by_hand = np.full(ids.shape, HUMAN, np.uint8)
    classes = (ids > 0).astype(np.uint8)
    return CorrectionTile(image[at.slices], classes, ids, by_hand, MPP, pair.name)


def _half_gland(truth: NDArray[np.bool_]) -> Callable[[tuple[int, int]], float]:
    return lambda at: abs(_share(truth, at) - 0.5)


def _most_wrong(wrong: NDArray[np.bool_]) -> Callable[[tuple[int, int]], float]:
    return lambda at: -_share(wrong, at)


def _share(mask: NDArray[np.bool_], at: tuple[int, int]) -> float:
    """Share of a tile that is inside."""
    y, x = at
    return float(mask[y : y + SIDE, x : x + SIDE].mean())


def rows(kept: Kept, tiles: list[int], budget_s: float) -> Iterator[Row]:
    """Dice by number of tiles, in points."""
    for count in tiles:
        runs = list(kept.runs(f"{count}").values())
        if not runs:
            continue
        values = np.array([run["dice"] for run in runs])
        patches = int(np.median([run["patches"] for run in runs]))
        said = f"{budget_s:g} s, {patches} patches"
        yield points(f"glands_dice_{count}_tiles", values, said)


def worst_rows(runs: list[Values]) -> Iterator[Row]:
    """Dice after three tiles, and after the worst places of five more images."""
    if not runs:
        return
    yield points("glands_dice_3_tiles_before_worst", np.array([run["before"] for run in runs]))
    for kind, suffix in ((WORST, ""), (ALONE, "_alone")):
        taken = sum(run[kind]["decision"] == "better" for run in runs)
        said = f"in use after the comparison; {taken} found better"
        in_use = np.array([run[kind]["in_use"] for run in runs])
        yield points(f"glands_dice_3_and_5_worst_tiles{suffix}", in_use, said)
        change = np.array([run[kind]["in_use"] - run["before"] for run in runs])
        worst = f"worst {100 * change.min():.1f}"
        yield points(f"glands_gain_5_worst_tiles{suffix}", change, worst)


if __name__ == "__main__":
    main()
