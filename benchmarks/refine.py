"""What corrections buy and cost: python benchmarks/refine.py [--quick | --runs N | --times].

Images of the MoNuSeg training list, which no shipped model has learned from, and copies of them
in another stain. A sparse user (ten worst objects of a view, outlines a little off, then Accept
view) corrects 256-pixel views of an image's left half; Dice is measured on its right half, which
nobody touched. Needs the data folder (GENSELFDIFF_DATA) and, for the forests, scikit-learn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from refine_rivals import forest, scratch, scratch_config, skimage_segmenter
from report import Row, finish, parser, timing_row

from napari_genselfdiff.errors import TrainingError
from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval
from napari_genselfdiff.evaluation.folders import Pair, pair_folders, read_pair
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.learning.before_after import RefinePreview
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.refine import RefineRequest, RefineResult, refine
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.simulation import (
    Picture,
    SimulationConfig,
    answers,
    correct_views,
    halves,
    read_picture,
    refine_once,
    simulate,
    untouched_dice,
)
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.prediction.profile import Profile, default_profile
from napari_genselfdiff.registry.folder import Model, read_model
from napari_genselfdiff.registry.registry import Registry

MPP = 0.25
USEFUL = 0.02  # Dice on untouched places that a correction must buy to count as clearly useful
HAEMATOXYLIN, EOSIN = 0.3, 1.2  # the other stain: faded nuclei in strong pink


@dataclass(frozen=True)
class Lab:
    """What all cases share: data, the model, and how much is measured."""

    pairs: dict[str, Pair]
    names: list[str]
    model: Model
    profile: Profile
    runs: int
    refines: int
    budget_s: float
    folder: Path
    only_times: bool = False

    def picture(self, name: str) -> Picture:
        """A picture of the training list."""
        return read_picture(name, *read_pair(self.pairs[name]), MPP, self.model.card.task)

    def settings(self, seed: int) -> RefineConfig:
        """How a refine of this benchmark learns."""
        return RefineConfig(budget_s=self.budget_s, seed=seed)

    def place(self, *parts: object) -> Path:
        """A folder for one refined model."""
        return self.folder / "-".join(map(str, parts))


@dataclass
class Run:
    """Three corrected views of one restained picture, and what became of them; Dice 0-1."""

    picture: Picture
    seed: int
    clean: float
    shifted: float
    tiles: list[CorrectionTile]
    result: RefineResult
    new: float
    rivals: dict[str, float] = field(default_factory=dict)

    @property
    def in_use(self) -> float:
        """Dice of what the comparison leaves in use; what it cannot judge is taken."""
        return self.shifted if self.result.verdict.decision == "not_better" else self.new


def main() -> None:
    reader = parser(__doc__.splitlines()[0])
    reader.add_argument("--runs", type=int, metavar="N", help="another number of runs")
    reader.add_argument("--times", action="store_true", help="only how long a refine takes")
    args = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="gsd-benchmark-") as temporary:
        lab = labelled_lab(
            Path(temporary),
            runs=args.runs or (2 if args.quick else 20),
            refines=1 if args.quick or args.runs else 5,
            budget_s=6.0 if args.quick else 30.0,
        )
        lab = replace(lab, only_times=args.times, refines=3 if args.times else lab.refines)
        finish("refine", list(measure(lab)), args.json)


def labelled_lab(folder: Path, *, runs: int, refines: int = 1, budget_s: float = 30.0) -> Lab:
    """The pictures of the training list and the shipped model; new models go into ``folder``."""
    root = data_root("")
    data = root / "labelled" / "monuseg"
    return Lab(
        {pair.name: pair for pair in pair_folders(data / "images", data / "masks")},
        read_list(root / "splits" / "monuseg_train.txt"),
        Registry().resolve("default"),
        default_profile(),
        runs,
        refines,
        budget_s,
        folder,
    )


def measure(lab: Lab) -> Iterator[Row]:
    """All rows, the cheap cases first."""
    yield from times(lab)
    if lab.only_times:
        return
    runs = [shifted_run(lab, number) for number in range(lab.runs)]
    yield from shift_rows(runs)
    yield from judged_rows(lab, runs)
    yield from rival_rows(lab, runs)
    yield gain(lab)
    yield forgotten(lab)


def restained(picture: Picture) -> Picture:
    """The same tissue as another laboratory would stain it."""
    from skimage.color import hed2rgb, rgb2hed

    stains = rgb2hed(picture.image) * np.array([HAEMATOXYLIN, EOSIN, 1.0])
    image = (255 * hed2rgb(stains)).round().clip(0, 255).astype(np.uint8)
    return picture._replace(name=f"{picture.name}-restained", image=image)


def times(lab: Lab) -> Iterator[Row]:
    """Seconds from the click to the first look and to the verdict, 8 views of three pictures."""
    looks, verdicts, shown = [], [], 0
    for number in range(lab.refines):
        pictures = [
            restained(lab.picture(lab.names[(3 * number + i) % len(lab.names)])) for i in range(3)
        ]
        scenes = answers(pictures, lab.model, lab.profile)
        done = correct_views(scenes, 8, SimulationConfig(), np.random.default_rng(number))
        tiles = [corrected.tile for corrected in done]
        config = RefineConfig(seed=number)  # as the button does it, also in a quick run
        out = lab.place("eight", number)
        request = RefineRequest(lab.model.path, lab.model.path, tiles, out, "timed", config)
        for item in refine(request, lab.profile):
            if isinstance(item, RefinePreview):
                looks.append(item.seconds)
                shown += item.better
            elif isinstance(item, RefineResult):
                verdicts.append(item.seconds)
    yield timing_row("first_preview_s", looks)
    yield timing_row("done_8_tiles_s", verdicts)
    yield Row("first_previews_shown", float(shown), "refines", n=len(looks))


def shifted_run(lab: Lab, number: int) -> Run:
    """Correct three views of a restained picture and refine once."""
    clean = lab.picture(lab.names[(7 * number) % len(lab.names)])
    return corrected_run(lab, number, clean, restained(clean))


def gain(lab: Lab) -> Row:
    """What three corrected views of a picture in its own stain buy."""
    pictures = [lab.picture(lab.names[(7 * n) % len(lab.names)]) for n in range(lab.runs)]
    runs = [corrected_run(lab, 1000 + n, same, same) for n, same in enumerate(pictures)]
    gains = np.array([run.in_use - run.clean for run in runs])
    before = 100 * float(np.mean([run.clean for run in runs]))
    taken = sum(run.result.verdict.decision == "better" for run in runs)
    seconds = np.median([run.result.seconds for run in runs])
    said = f"from {before:.1f} points; {taken} found better; {seconds:.0f} s to the verdict"
    return points("nuclei_gain_3_tiles", gains, said)


def corrected_run(lab: Lab, number: int, clean: Picture, picture: Picture) -> Run:
    """Correct three views of a picture, which may be ``clean`` restained, and refine once."""
    rng = np.random.default_rng([number, 5])
    scenes = answers([picture], lab.model, lab.profile)
    tiles = [c.tile for c in correct_views(scenes, 3, SimulationConfig(), rng)]
    result = refine_once(
        lab.model, lab.model, tiles, lab.profile, lab.settings(number), lab.place("shift", number)
    )
    return Run(
        picture,
        number,
        untouched_dice(answers([clean], lab.model, lab.profile)),
        untouched_dice(scenes),
        tiles,
        result,
        untouched_dice(answers([picture], read_model(result.model), lab.profile)),
    )


def shift_rows(runs: list[Run]) -> Iterator[Row]:
    """How much of what another stain costs comes back."""
    cost = np.array([run.clean - run.shifted for run in runs])
    back = np.array([run.in_use - run.shifted for run in runs])
    reference = f"the shift costs {100 * cost.mean():.1f} points"
    share = float(back.mean() / cost.mean()) if cost.mean() > 0 else None
    low, high = ratio_interval(back, cost)
    case = "nuclei_shift_recovered_share_3_tiles"
    yield Row(case, share, "share", None, reference, len(runs), low, high)
    yield points("nuclei_shift_gain_3_tiles", back, "the model in use after the comparison")
    yield points("nuclei_shift_gain_3_tiles_new", np.array([r.new - r.shifted for r in runs]), "")


def judged_rows(lab: Lab, runs: list[Run]) -> Iterator[Row]:
    """Whether the comparison takes what is useful and nothing that is not."""
    useful = [run for run in runs if run.new - run.shifted >= USEFUL]
    taken = sum(run.result.verdict.decision == "better" for run in useful)
    reference = f"untouched Dice rises by {100 * USEFUL:g} points or more in {len(useful)}"
    yield Row("good_refines_accepted", float(taken), "refines", None, reference, len(useful))
    refused = sum(not _accepted(lab, run) for run in runs)
    reference = "labels beside their objects, or a learning rate of 1, in turn"
    yield Row("bad_refines_refused", float(refused), "refines", None, reference, len(runs))


def _accepted(lab: Lab, run: Run) -> bool:
    """Refine a run's corrections after spoiling them, or with an absurd learning rate."""
    config, tiles = lab.settings(run.seed), run.tiles
    if run.seed % 2:
        config = replace(config, lr=1.0)
    else:
        tiles = [misplaced(tile) for tile in tiles]
    try:
        out = lab.place("bad", run.seed)
        result = refine_once(lab.model, lab.model, tiles, lab.profile, config, out)
    except TrainingError:  # it diverged and said so
        return False
    return result.verdict.accepted


def misplaced(tile: CorrectionTile) -> CorrectionTile:
    """The tile with labels half a tile away from what they belong to, all drawn by hand."""
    shift = (tile.classes.shape[0] // 2, tile.classes.shape[1] // 2)
    objects = None if tile.objects is None else np.roll(tile.objects, shift, (0, 1))
    human = np.where(tile.known, 3, 0).astype(np.uint8)
    classes = np.roll(tile.classes, shift, (0, 1))
    return replace(tile, classes=classes, objects=objects, provenance=human)


def rival_rows(lab: Lab, runs: list[Run]) -> Iterator[Row]:
    """Refine minus its rivals, on the same corrections with the same time."""
    rivals: dict[str, Callable[[Run], float]] = {
        "vs_scratch_3_tiles": lambda run: _scratch_dice(lab, run),
        "vs_forest_3_tiles": lambda run: _half_dice(
            run, forest(run.tiles, _half_image(run), lab.model)
        ),
        "vs_skimage_3_tiles": lambda run: _half_dice(
            run, skimage_segmenter(run.tiles, _half_image(run))
        ),
    }
    for case, rival in rivals.items():
        theirs = np.array([rival(run) for run in runs])
        ours = np.array([run.in_use for run in runs])
        reference = f"{100 * theirs.mean():.1f} points, Refine {100 * ours.mean():.1f}"
        yield points(case, ours - theirs, reference)


def _scratch_dice(lab: Lab, run: Run) -> float:
    start = scratch(lab.model, lab.place("scratch", run.seed), run.seed)
    config = replace(scratch_config(lab.budget_s), seed=run.seed)
    out = lab.place("scratch-refined", run.seed)
    result = refine_once(start, start, run.tiles, lab.profile, config, out)
    return untouched_dice(answers([run.picture], read_model(result.model), lab.profile))


def _half_image(run: Run) -> NDArray[np.uint8]:
    return run.picture.image[halves(run.picture.classes.shape)[1].slices]


def _half_dice(run: Run, classes: NDArray[np.uint8]) -> float:
    return dice(classes, run.picture.classes[halves(run.picture.classes.shape)[1].slices])


def forgotten(lab: Lab) -> Row:
    """Points lost in the old stain by five refines, one after the other, on another one."""
    lost = []
    for number in range(lab.refines):
        names = [lab.names[(10 * number + i) % len(lab.names)] for i in range(10)]
        few = 2 if lab.refines == 1 else 5
        taught = [restained(lab.picture(name)) for name in names[:few]]
        others = [lab.picture(name) for name in names[5 : 5 + few]]
        config = SimulationConfig(views=(1, 2, 3, 4, 5), refine=lab.settings(number))
        folder = lab.place("five", number)
        *_, last = simulate(taught, lab.model, lab.profile, config, folder, seed=number)
        used = lab.model if last.model == lab.model.path.name else read_model(folder / last.model)
        before, after = (
            untouched_dice(answers(others, model, lab.profile)) for model in (lab.model, used)
        )
        lost.append(before - after)
    reference = "pictures in the stain the model knew, that nobody corrected"
    return points("nuclei_forgotten_points_5_refines", np.array(lost), reference)


def points(case: str, values: NDArray[np.float64], reference: str) -> Row:
    """Row of a mean of Dice differences in points, with its interval over runs."""
    low, high = (_known(v) for v in bootstrap_interval(100 * values))
    mean = float(100 * values.mean())
    return Row(case, mean, "points", None, reference or None, len(values), low, high)


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


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


if __name__ == "__main__":
    main()
