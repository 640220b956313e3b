"""What three corrected tiles buy: python benchmarks/refine.py [--quick] [--json FILE].

Images of the MoNuSeg training list, which no shipped model has seen. A dense user corrects the
three worst 256-pixel tiles of an image's left half; Dice is measured on its right half, which
nobody touched. Needs the data folder (GENSELFDIFF_DATA).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import Row, arguments, finish

from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval
from napari_genselfdiff.evaluation.folders import pair_folders, read_pair
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.refine import (
    RefineConfig,
    RefineRequest,
    RefineResult,
    refine,
)
from napari_genselfdiff.learning.scoring import classify
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.prediction.profile import Profile, default_profile
from napari_genselfdiff.registry.folder import Model, read_model
from napari_genselfdiff.registry.registry import Registry

TILE, MPP = 256, 0.25


def main() -> None:
    args = arguments(__doc__.splitlines()[0])
    root = data_root("")
    stems = read_list(root / "splits" / "monuseg_train.txt")
    step = 10 if args.quick else 3
    folder = root / "labelled" / "monuseg"
    pairs = {pair.name: pair for pair in pair_folders(folder / "images", folder / "masks")}
    model, profile = Registry().resolve("default"), default_profile()
    outcomes = [one(model, profile, *read_pair(pairs[stem])) for stem in stems[::step]]
    before, after, seconds = (np.array(column) for column in list(zip(*outcomes, strict=True))[:3])
    gains = 100 * (after - before)
    low, high = bootstrap_interval(gains)
    count = len(outcomes)
    used = sum(outcome[3] == "better" for outcome in outcomes)
    finish(
        "refine",
        [
            Row("dice_before", 100 * float(before.mean()), "points", n=count),
            Row("dice_after_3_tiles", 100 * float(after.mean()), "points", n=count),
            Row("gain_3_tiles", float(gains.mean()), "points", n=count, low=low, high=high),
            Row(
                "done_3_tiles_s",
                float(np.median(seconds)),
                "s",
                n=count,
                low=float(seconds.min()),
                high=float(seconds.max()),
            ),
            Row("accepted_by_the_gate", float(used), "refines", n=count),
        ],
        args.json,
    )


def one(
    model: Model, profile: Profile, image: NDArray[np.uint8], mask: object
) -> tuple[float, float, float, str]:
    """Dice on the right half before and after, seconds, and the gate's decision."""
    truth = np.asarray(mask.labels).astype(np.uint32)  # type: ignore[attr-defined]
    half = image.shape[1] // 2
    tiles = worst_tiles(model, image, truth, half)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "refined"
        request = RefineRequest(model.path, model.path, tiles, out, "refined", RefineConfig())
        *_, result = refine(request, profile)
        assert isinstance(result, RefineResult)
        after = right_half(read_model(out), image, truth, half)
    return right_half(model, image, truth, half), after, result.seconds, result.verdict.decision


def worst_tiles(
    model: Model, image: NDArray[np.uint8], truth: NDArray[np.uint32], half: int, count: int = 3
) -> list[CorrectionTile]:
    """The tiles of the left half on which the model is worst, with their truth."""
    answer = classify(model.load(), image)
    places = [
        (slice(y, y + TILE), slice(x, x + TILE))
        for y in range(0, image.shape[0] - TILE + 1, TILE // 2)
        for x in range(0, half - TILE + 1, TILE // 2)
    ]
    places.sort(key=lambda place: dice(answer[place], truth[place]))
    chosen: list[tuple[slice, slice]] = []
    for place in places:
        if all(
            abs(place[0].start - o[0].start) >= TILE or abs(place[1].start - o[1].start) >= TILE
            for o in chosen
        ):
            chosen.append(place)
    human = np.full((TILE, TILE), 3, np.uint8)
    return [
        CorrectionTile(image[p], (truth[p] > 0).astype(np.uint8), truth[p], human, MPP, str(p))
        for p in chosen[:count]
    ]


def right_half(
    model: Model, image: NDArray[np.uint8], truth: NDArray[np.uint32], half: int
) -> float:
    """Pixel Dice on the half without corrections."""
    answer = classify(model.load(), image[:, half:])
    return dice(answer, truth[:, half:])


if __name__ == "__main__":
    main()
