"""What corrections buy and cost: python benchmarks/refine.py [--quick | --runs N | --only PART].

Images of the MoNuSeg training list, which no shipped model has learned from, and copies of them
in another stain. A sparse user (ten worst objects of a view, outlines a little off, then Accept
view) corrects 256-pixel views of an image's left half; Dice is measured on its right half, which
nobody touched. Needs the data folder (GENSELFDIFF_DATA) and, for the forests, scikit-learn.

A full run takes hours: --only runs some parts, and with --kept FILE runs measured before, of any
part, are not repeated but counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from kept import Kept, Values
from numpy.typing import NDArray
from refine_lab import (
    Lab,
    corrected_run,
    corrections,
    labelled_lab,
    restained,
    shifted_pair,
)
from refine_rivals import long_rows, long_run, rival_rows, rival_run
from report import Row, finish, parser, points, timing_row

from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.errors import TrainingError
from napari_genselfdiff.evaluation.curves import CurvePoint, draw_curves
from napari_genselfdiff.learning.before_after import RefinePreview
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.learning.refine import RefineRequest, RefineResult, refine
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.simulation import (
    SimulationConfig,
    answers,
    correct_views,
    curve,
    refine_once,
    simulate,
    untouched_dice,
)
from napari_genselfdiff.registry.folder import read_model

USEFUL = 0.02  # Dice on untouched places that a correction must buy to count as clearly useful
PARTS = ("times", "shift", "spoilt", "rivals", "long", "gain", "forgotten")
ROUNDS = (1, 2, 4, 6, 8)  # corrected views, in all, after each of five refines
RIVAL_VIEWS = (1, 3, 8)
Run = Callable[[Lab, int], Values]
_PICTURES = 5  # corrected together there, and as many that nobody corrects


def main() -> None:
    reader = parser(__doc__.splitlines()[0])
    reader.add_argument("--runs", type=int, metavar="N", help="another number of runs")
    reader.add_argument(
        "--refines", type=int, metavar="N", help="runs of times, long and forgotten"
    )
    reader.add_argument("--times", action="store_true", help="only how long a refine takes")
    reader.add_argument("--only", nargs="+", choices=PARTS, help="only these parts")
    reader.add_argument("--kept", type=Path, metavar="FILE", help="keep runs, and go on with them")
    reader.add_argument("--png", type=Path, metavar="FOLDER", help="also draw the curves")
    args = reader.parse_args()
    parts = ["times"] if args.times else args.only or PARTS
    keep_freed_memory()  # as the workers of the window do
    with tempfile.TemporaryDirectory(prefix="gsd-benchmark-") as temporary:
        lab = labelled_lab(
            Path(temporary),
            runs=args.runs or (2 if args.quick else 20),
            refines=args.refines or (1 if args.quick else 3 if args.times else 5),
            budget_s=6.0 if args.quick else 30.0,
        )
        settings = {"budget_s": lab.budget_s, "model": lab.model.hash}
        rows = list(measure(lab, Kept(args.kept, settings), parts, args.png))
        finish("refine", rows, args.json)


def measure(
    lab: Lab, kept: Kept, parts: Sequence[str] = PARTS, png: Path | None = None
) -> Iterator[Row]:
    """Measure the parts, then give the rows of all that is kept."""
    few: dict[str, Run] = {"times": timed_run, "long": long_run, "forgotten": forgotten_run}
    many: dict[str, Run] = {"shift": shifted_run, "gain": own_stain_run, "spoilt": spoilt_run}
    for runs, count in ((few, lab.refines), (many, lab.runs)):
        for part in [name for name in runs if name in parts]:
            for number in range(count):
                kept.run(part, number, lambda n=number, run=runs[part]: run(lab, n))
    for views in RIVAL_VIEWS if "rivals" in parts else ():
        for number in range(lab.runs):
            kept.run(f"rivals_{views}", number, lambda n=number, v=views: rival_run(lab, n, v))
    yield from time_rows(list(kept.runs("times").values()))
    yield from shift_rows(list(kept.runs("shift").values()), list(kept.runs("spoilt").values()))
    for views in RIVAL_VIEWS:
        yield from rival_rows(list(kept.runs(f"rivals_{views}").values()), views)
    yield from long_rows(kept.runs("rivals_3"), kept.runs("long"))
    yield from gain_rows(list(kept.runs("gain").values()))
    yield from forgotten_rows(list(kept.runs("forgotten").values()))
    if png is not None:
        draw(list(kept.runs("forgotten").values()), png)


def timed_run(lab: Lab, number: int) -> Values:
    """Seconds from the click to the first look and to the verdict, 8 views of three pictures."""
    pictures = [
        restained(lab.picture(lab.names[(3 * number + i) % len(lab.names)])) for i in range(3)
    ]
    scenes = answers(pictures, lab.model, lab.profile)
    done = correct_views(scenes, 8, SimulationConfig(), np.random.default_rng(number))
    tiles = [corrected.tile for corrected in done]
    config = RefineConfig(seed=number)  # as the button does it, also in a quick run
    out = lab.place("eight", number)
    request = RefineRequest(lab.model.path, lab.model.path, tiles, out, "timed", config)
    found: Values = {}
    for item in refine(request, lab.profile):
        if isinstance(item, RefinePreview):
            found |= {"look_s": item.seconds, "shown": item.better}
        elif isinstance(item, RefineResult):
            found |= {"done_s": item.seconds, "images": item.images_seen}
    return found


def time_rows(runs: list[Values]) -> Iterator[Row]:
    """How long it takes, and how often there is something to show early."""
    if not runs:
        return
    yield timing_row("first_preview_s", [run["look_s"] for run in runs])
    yield timing_row("done_8_tiles_s", [run["done_s"] for run in runs])
    yield Row("first_previews_shown", float(sum(r["shown"] for r in runs)), "refines", n=len(runs))


def shifted_run(lab: Lab, number: int) -> Values:
    """Correct three views of a restained picture and refine once."""
    clean, picture = shifted_pair(lab, number)
    return {"clean": lab.dice([clean], lab.model), **corrected_run(lab, number, [picture], "shift")}


def own_stain_run(lab: Lab, number: int) -> Values:
    """The same in the picture's own stain."""
    return corrected_run(lab, 1000 + number, [shifted_pair(lab, number)[0]], "gain")


def gain_rows(runs: list[Values]) -> Iterator[Row]:
    """What three corrected views of a picture in its own stain buy."""
    if not runs:
        return
    gains = np.array([run["in_use"] - run["before"] for run in runs])
    before = 100 * float(np.mean([run["before"] for run in runs]))
    taken = sum(run["decision"] == "better" for run in runs)
    seconds = np.median([run["seconds"] for run in runs])
    said = f"from {before:.1f} points; {taken} found better; {seconds:.0f} s to the verdict"
    yield points("nuclei_gain_3_tiles", gains, said)


def shift_rows(runs: list[Values], spoilt: list[Values]) -> Iterator[Row]:
    """How much of what another stain costs comes back, and whether the comparison is right."""
    if runs:
        cost = np.array([run["clean"] - run["before"] for run in runs])
        back = np.array([run["in_use"] - run["before"] for run in runs])
        reference = f"the shift costs {100 * cost.mean():.1f} points"
        share = float(back.mean() / cost.mean()) if cost.mean() > 0 else None
        low, high = ratio_interval(back, cost)
        case = "nuclei_shift_recovered_share_3_tiles"
        yield Row(case, share, "share", None, reference, len(runs), low, high)
        yield points("nuclei_shift_gain_3_tiles", back, "the model in use after the comparison")
        worse = f"{np.sum(back < -0.01)} of {len(back)} got worse by more than a point"
        worst = 100 * float(back.min())
        yield Row("nuclei_shift_gain_3_tiles_worst", worst, "points", None, worse, len(back))
        learnt = np.array([run["new"] - run["before"] for run in runs])
        yield points("nuclei_shift_gain_3_tiles_new", learnt, "")
        useful = [run for run in runs if run["new"] - run["before"] >= USEFUL]
        taken = sum(run["decision"] == "better" for run in useful)
        reference = f"untouched Dice rises by {100 * USEFUL:g} points or more in {len(useful)}"
        yield Row("good_refines_accepted", float(taken), "refines", None, reference, len(useful))
    if spoilt:
        refused = float(sum(not run["accepted"] for run in spoilt))
        reference = "labels beside their objects, or a learning rate of 1, in turn"
        yield Row("bad_refines_refused", refused, "refines", None, reference, len(spoilt))


def spoilt_run(lab: Lab, number: int) -> Values:
    """Refine a run's corrections after spoiling them, or with an absurd learning rate."""
    config, tiles = lab.settings(number), corrections(lab, number, [shifted_pair(lab, number)[1]])
    if number % 2:
        config = replace(config, lr=1.0)
    else:
        tiles = [misplaced(tile) for tile in tiles]
    try:
        out = lab.place("bad", number)
        result = refine_once(lab.model, lab.model, tiles, lab.profile, config, out)
    except TrainingError as err:  # it diverged and said so
        return {"accepted": False, "sentence": str(err)}
    return {"accepted": result.verdict.accepted, "sentence": result.verdict.sentence}


def misplaced(tile: CorrectionTile) -> CorrectionTile:
    """The tile with labels half a tile away from what they belong to, all drawn by hand."""
    shift = (tile.classes.shape[0] // 2, tile.classes.shape[1] // 2)
    objects = None if tile.objects is None else np.roll(tile.objects, shift, (0, 1))
    human = np.where(tile.known, 3, 0).astype(np.uint8)
    classes = np.roll(tile.classes, shift, (0, 1))
    return replace(tile, classes=classes, objects=objects, provenance=human)


def forgotten_run(lab: Lab, number: int) -> Values:
    """Five refines in a row on another stain: the curve there, and Dice lost in the old stain."""
    names = [lab.names[(10 * number + i) % len(lab.names)] for i in range(2 * _PICTURES)]
    taught = [restained(lab.picture(name)) for name in names[:_PICTURES]]
    others = [lab.picture(name) for name in names[_PICTURES:]]
    config = SimulationConfig(views=ROUNDS, refine=lab.settings(number))
    folder = lab.place("five", number)
    found = list(simulate(taught, lab.model, lab.profile, config, folder, seed=number))
    last = found[-1]
    used = lab.model if last.model == lab.model.path.name else read_model(folder / last.model)
    before, after = (
        untouched_dice(answers(others, model, lab.profile)) for model in (lab.model, used)
    )
    return {"lost": before - after, "points": [asdict(point) for point in found]}


def forgotten_rows(runs: list[Values]) -> Iterator[Row]:
    """Points lost in the old stain by five refines, one after the other, on another one."""
    if not runs:
        return
    lost = np.array([run["lost"] for run in runs])
    reference = "pictures in the stain the model knew, that nobody corrected"
    yield points("nuclei_forgotten_points_5_refines", lost, reference)
    for point in curve({"runs": runs})[1:]:
        case, said = f"nuclei_curve_{point['views']:.0f}_tiles", f"{point['actions']:.0f} actions"
        ends = (100 * point["dice"], 100 * point["low"], 100 * point["high"])
        yield Row(case, ends[0], "points", None, said, len(runs), *ends[1:])


def draw(runs: list[Values], folder: Path) -> None:
    """Curves of Dice on untouched places against what it took, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    found = curve({"runs": runs})
    axes = {"actions": "user actions", "human_px": "pixels corrected by hand", "seconds": "seconds"}
    for key, name in axes.items():
        rows = [CurvePoint(p[key], p["dice"], p["low"], p["high"]) for p in found]
        path = folder / f"refine-{key.replace('_', '-')}.png"
        draw_curves({"sparse user": rows}, path, x_name=name, y_name="Dice on untouched halves")


def ratio_interval(
    above: NDArray[np.float64], below: NDArray[np.float64], rounds: int = 10_000
) -> tuple[float | None, float | None]:
    """95 % interval of a ratio of means: runs are drawn anew with replacement."""
    if len(above) < 2:
        return None, None
    draws = np.random.default_rng(0).integers(0, len(above), (rounds, len(above)))
    tops, bottoms = above[draws].mean(axis=1), below[draws].mean(axis=1)
    low, high = np.quantile(tops[bottoms > 0] / bottoms[bottoms > 0], [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
