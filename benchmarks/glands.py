"""A task nobody has a model for, from a few tiles: python benchmarks/glands.py [--quick].

GlaS: the whole truth of one 256-pixel tile of each of a few training images, where about half is
gland (the dense user); Refine makes the first model of the task from the diffusion backbone.
Pixel Dice on whole other images: ten of the training list, or with ``--list glas_testA`` the test
images, which are to be scored once. Needs the data folder (GENSELFDIFF_DATA).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from kept import Kept, Values
from report import Row, finish, parser, points

from napari_genselfdiff.annotation.tasks import GLANDS
from napari_genselfdiff.annotation.window import HUMAN
from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.evaluation.folders import Pair, pair_folders, read_pair
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.learning.first import FIRST, write_untrained
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.simulation import refine_once
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.prediction.picture import segment_picture
from napari_genselfdiff.prediction.profile import default_profile
from napari_genselfdiff.registry.folder import read_model
from napari_genselfdiff.registry.registry import bundled_backbone

MPP = 0.62
SIDE = 256
TRIES = 20  # random places of an image, of which the one with most nearly half gland is drawn
ASIDE = 10  # training images that are only scored


def main() -> None:
    reader = parser(__doc__.splitlines()[0])
    reader.add_argument("--tiles", type=int, nargs="+", default=[3, 8])
    reader.add_argument("--seeds", type=int, default=3, help="choices of images and places")
    reader.add_argument("--list", default="glas_train", help="list whose images are scored")
    reader.add_argument("--images", type=int, help="score only so many of them")
    reader.add_argument("--budget-seconds", type=float, default=FIRST.budget_s)
    reader.add_argument("--kept", type=Path, metavar="FILE", help="keep runs, and go on with them")
    args = reader.parse_args()
    budget_s, seeds = (6.0, 1) if args.quick else (args.budget_seconds, args.seeds)
    keep_freed_memory()  # as the workers of the window do
    settings = {"list": args.list, "budget_s": budget_s, "images": args.images}
    kept = Kept(args.kept, settings)
    for seed in range(seeds):
        for count in args.tiles:
            kept.run(f"{count}", seed, lambda c=count, s=seed: one_run(c, s, settings))
    finish("glands", list(rows(kept, args.tiles, budget_s)), args.json)


def one_run(count: int, seed: int, settings: Values) -> Values:
    """Make a model of some tiles, and score it on whole images; Dice 0-1."""
    root = data_root("")
    data = root / "labelled" / "glas"
    pairs = {pair.name: pair for pair in pair_folders(data / "images", data / "masks")}
    names = read_list(root / "splits" / "glas_train.txt")
    order = [str(name) for name in np.random.default_rng(5).permutation(names)]
    taught, scored = order[:-ASIDE], order[-ASIDE:]
    if settings["list"] != "glas_train":
        scored = read_list(root / "splits" / f"{settings['list']}.txt")
    rng, profile = np.random.default_rng([seed, count]), default_profile()
    chosen = [str(name) for name in rng.permutation(taught)[:count]]
    tiles = [dense_tile(pairs[name], rng) for name in chosen]
    with tempfile.TemporaryDirectory(prefix="gsd-glands-") as folder:
        start = write_untrained(Path(folder) / "start", GLANDS, bundled_backbone(), seed=seed)
        config = replace(FIRST, budget_s=settings["budget_s"], seed=seed)
        result = refine_once(start, start, tiles, profile, config, Path(folder) / "made")
        model = read_model(result.model)
        segmenter, values = model.load(), []
        for name in scored[: settings["images"]]:
            image, mask = read_pair(pairs[name])
            labels = segment_picture(image, MPP, model, segmenter, profile)
            values.append(dice(labels.classes > 0, mask.labels > 0))
    return {
        "dice": float(np.mean(values)),
        "aside": result.verdict.new,
        "decision": result.verdict.decision,
        "seconds": result.seconds,
        "patches": result.images_seen,
    }


def dense_tile(pair: Pair, rng: np.random.Generator) -> CorrectionTile:
    """A place of about half gland, all of it drawn."""
    image, mask = read_pair(pair)
    height, width = mask.labels.shape
    places = [
        (int(rng.integers(height - SIDE)), int(rng.integers(width - SIDE))) for _ in range(TRIES)
    ]

    def share_off(place: tuple[int, int]) -> float:
        y, x = place
        return abs(float((mask.labels[y : y + SIDE, x : x + SIDE] > 0).mean()) - 0.5)

    y, x = min(places, key=share_off)
    cut = slice(y, y + SIDE), slice(x, x + SIDE)
    ids = mask.labels[cut].astype(np.uint32)
    drawn = np.full(ids.shape, HUMAN, np.uint8)
    return CorrectionTile(image[cut], (ids > 0).astype(np.uint8), ids, drawn, MPP, pair.name)


def rows(kept: Kept, tiles: list[int], budget_s: float) -> Iterator[Row]:
    """Dice by number of tiles, in points."""
    for count in tiles:
        runs = list(kept.runs(f"{count}").values())
        values = np.array([run["dice"] for run in runs])
        patches = int(np.median([run["patches"] for run in runs]))
        said = f"{budget_s:g} s, {patches} patches"
        yield points(f"glands_dice_{count}_tiles", values, said)


if __name__ == "__main__":
    main()
