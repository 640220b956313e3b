"""Rounds of predict, correct, refine and score with simulated users, on images with masks.

A run takes a few images. Views are corrected in their left halves only; Dice is measured on the
right halves, which nobody touches, so that a model is never scored on what it was taught.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy import ndimage

from napari_genselfdiff.annotation.window import HUMAN, MODEL, Window
from napari_genselfdiff.errors import ConfigError, TrainingError
from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.learning.annotator import (
    Corrected,
    Habits,
    Scene,
    dense_user,
    sparse_user,
    worst_views,
)
from napari_genselfdiff.learning.refine import RefineRequest, RefineResult, refine
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.prediction.picture import segment_picture
from napari_genselfdiff.registry.files import plain_errors, write_whole
from napari_genselfdiff.registry.folder import read_model
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.evaluation.folders import Mask
    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.elsewhere import CorrectedSlide
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.registry.folder import Model


class Picture(NamedTuple):
    """An image of ``mpp`` µm/px, ``(H, W, 3)`` uint8, with its true classes and object ids."""

    name: str
    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    objects: NDArray[np.uint32] | None
    mpp: float


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """How a simulated user goes on.

    ``views`` are the numbers of corrected views, in all, after which the model is refined.
    ``use`` says which model the next views are corrected with: what the comparison leaves in use
    ("verdict": refused ones are not used), or always the new one.
    """

    user: Literal["sparse", "dense"] = "sparse"
    views: tuple[int, ...] = (1, 3, 8)
    size: int = 256
    use: Literal["verdict", "always"] = "verdict"
    habits: Habits = field(default_factory=Habits)
    refine: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        if not self.views or list(self.views) != sorted(set(self.views)) or self.views[0] < 1:
            raise ConfigError(f"views must rise from 1 or more, got {self.views}")


@dataclass(frozen=True)
class Point:
    """One point of a curve: what was done until then, and how good the models are.

    ``dice`` is that of the model in use, ``new_dice`` that of the one just refined, used or not;
    means over the images' untouched halves, shares 0-1. ``seconds`` is refining alone; ``model``
    the folder of the model in use, under that of the run.
    """

    views: int
    actions: int
    human_px: int
    known_px: int
    seconds: float
    dice: float
    new_dice: float
    decision: str
    model: str


def read_picture(
    name: str, image: NDArray[np.uint8], mask: Mask, mpp: float, task: TaskSpec
) -> Picture:
    """An image and its mask as a task sees them; a mask of objects has one class, the first."""
    if mask.kind == "instances":
        ids = mask.labels.astype(np.uint32)
        classes = np.where(ids > 0, task.classes[0].value, 0).astype(np.uint8)
    else:
        classes = mask.labels.astype(np.uint8)
        ids = ndimage.label(classes > 0)[0].astype(np.uint32)
    return Picture(name, image, classes, ids if task.kind == "objects" else None, mpp)


def halves(shape: tuple[int, int]) -> tuple[Region, Region]:
    """The part that is corrected, and the part that is scored."""
    height, width = shape
    return Region(0, 0, height, width // 2), Region(0, width // 2, height, width - width // 2)


def simulate(
    pictures: Sequence[Picture],
    model: Model,
    profile: Profile,
    config: SimulationConfig,
    folder: Path,
    *,
    seed: int = 0,
) -> Iterator[Point]:
    """Correct and refine as ``config`` says; the first point is the model as it comes.

    Refined models are written under ``folder``. Ends early where the images have no room for more
    views. Equal input and seed correct alike; how far a refine gets depends on the machine.
    """
    rng = np.random.default_rng([seed, 23])
    current, seconds = model, 0.0
    scenes = answers(pictures, current, profile)
    score = untouched_dice(scenes)
    yield Point(0, 0, 0, 0, 0.0, score, score, "", model.path.name)
    done: list[Corrected] = []
    taken: dict[str, list[Region]] = {}
    for number, views in enumerate(config.views):
        fresh = correct_views(scenes, views - len(done), config, rng, taken)
        if not fresh:
            return
        done += fresh
        tiles = [corrected.tile for corrected in done]
        result = refine_once(
            current, model, tiles, profile, replace(config.refine, seed=seed), folder / str(number)
        )
        seconds += result.seconds
        new = read_model(result.model)
        seen = answers(pictures, new, profile)
        new_score = untouched_dice(seen)
        if config.use == "always" or result.verdict.decision != "not_better":
            current, scenes, score = new, seen, new_score
        yield Point(
            len(done),
            sum(corrected.actions for corrected in done),
            sum(corrected.human_px for corrected in done),
            sum(int(tile.known.sum()) for tile in tiles),
            seconds,
            score,
            new_score,
            result.verdict.decision,
            current.path.name,
        )


def simulate_all(
    pictures: Callable[[Sequence[str]], list[Picture]],
    names: Sequence[str],
    model: Model,
    profile: Profile,
    config: SimulationConfig,
    out: Path,
    *,
    seeds: int = 3,
    group: int = 1,
) -> Iterator[dict[str, Any]]:
    """Simulate every group of ``group`` images in ``seeds`` orders, and give the report so far.

    The report is written after every run; called again, runs that it holds are not repeated.
    ConfigError if it was made with another model or other settings.
    """
    report = _opened_report(out, model, config, group)
    for seed in range(seeds):
        order = np.random.default_rng([seed, 29]).permutation(len(names))
        for start in range(0, len(names) - group + 1, group):
            chosen = [names[i] for i in order[start : start + group]]
            key = f"{seed}:{'+'.join(chosen)}"
            if any(run["key"] == key for run in report["runs"]):
                continue
            with tempfile.TemporaryDirectory(prefix="gsd-simulation-") as folder:
                points = [
                    asdict(point)
                    for point in simulate(
                        pictures(chosen), model, profile, config, Path(folder), seed=seed
                    )
                ]
            report["runs"].append({"key": key, "seed": seed, "images": chosen, "points": points})
            _write(out, report)
            yield report


def curve(report: dict[str, Any]) -> list[dict[str, float]]:
    """Means over the runs for every number of views, and the 95 % interval of Dice.

    The interval is the mean itself where a single run says nothing about the spread.
    """
    by_views: dict[int, list[dict[str, Any]]] = {}
    for run in report["runs"]:
        for point in run["points"]:
            by_views.setdefault(point["views"], []).append(point)
    keys = ("actions", "human_px", "known_px", "seconds", "dice", "new_dice")
    rows = []
    for views, points in sorted(by_views.items()):
        row = {"views": float(views), "runs": float(len(points))}
        row |= {key: float(np.mean([point[key] for point in points])) for key in keys}
        ends = bootstrap_interval([point["dice"] for point in points])
        low, high = (row["dice"] if np.isnan(end) else end for end in ends)
        rows.append({**row, "low": low, "high": high})
    return rows


def answers(pictures: Sequence[Picture], model: Model, profile: Profile) -> list[Scene]:
    """What a model says about pictures, as the editor would show it, with the truth."""
    segmenter = model.load()
    scenes = []
    for picture in pictures:
        labels = segment_picture(picture.image, picture.mpp, model, segmenter, profile)
        whole = Region(0, 0, *picture.classes.shape)
        shape = picture.classes.shape
        answer = Window(whole, labels.classes, labels.objects, np.full(shape, MODEL, np.uint8))
        truth = Window(whole, picture.classes, picture.objects, np.full(shape, HUMAN, np.uint8))
        scenes.append(Scene(picture.name, picture.image, picture.mpp, answer, truth))
    return scenes


def untouched_dice(scenes: Sequence[Scene]) -> float:
    """Mean Dice of the halves that are scored, each a mean over its true classes.

    ConfigError if there is nothing true in any of them.
    """
    found: list[float] = []
    for scene in scenes:
        part = halves(scene.wrong.shape)[1].slices
        answer, truth = scene.answer.classes[part], scene.truth.classes[part]
        values = np.unique(truth[truth > 0])
        if len(values):
            found.append(float(np.mean([dice(answer == v, truth == v) for v in values])))
    if not found:
        names = ", ".join(scene.name for scene in scenes)
        raise ConfigError(f"the right halves of {names} show no object to score; use other images")
    return float(np.mean(found))


def refine_once(
    current: Model,
    base: Model,
    tiles: Sequence[CorrectionTile],
    profile: Profile,
    config: RefineConfig,
    out: Path,
    slides: Sequence[CorrectedSlide] = (),
) -> RefineResult:
    """Refine to the end, without anybody watching."""
    request = RefineRequest(current.path, base.path, tiles, out, "simulated", config, slides=slides)
    for item in refine(request, profile):
        if isinstance(item, RefineResult):
            return item
    raise TrainingError("the refine ended without a model; please report this")


def correct_views(
    scenes: Sequence[Scene],
    count: int,
    config: SimulationConfig,
    rng: np.random.Generator,
    taken: dict[str, list[Region]] | None = None,
) -> list[Corrected]:
    """Correct up to ``count`` more views in the left halves, going round the pictures.

    The picture with the fewest views is next, and its worst view is taken; ``taken`` remembers
    the views of every picture by name.
    """
    taken = {} if taken is None else taken
    done: list[Corrected] = []
    left = list(scenes)
    while left and len(done) < count:
        scene = min(left, key=lambda s: len(taken.get(s.name, ())))
        before = taken.setdefault(scene.name, [])
        part = halves(scene.wrong.shape)[0]
        found = worst_views(scene, part, 1, size=config.size, taken=before)
        if not found:
            left.remove(scene)
            continue
        before.append(found[0])
        if config.user == "dense":
            done.append(dense_user(scene, found[0], margin=config.habits.margin))
        else:
            done.append(sparse_user(scene, found[0], rng, config.habits))
    return done


def _opened_report(out: Path, model: Model, config: SimulationConfig, group: int) -> dict[str, Any]:
    settings = json.loads(json.dumps({**asdict(config), "group": group}))
    empty = {"schema": 1, "model": model.card.name, "model_hash": model.hash, "config": settings}
    if not out.exists():
        return {**empty, "runs": []}
    try:
        report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        same = {key: report[key] for key in empty} == empty and isinstance(report["runs"], list)
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"{out} is no report of a simulation; choose another --out") from err
    if not same:
        raise ConfigError(
            f"{out} was made with another model or other settings; choose another --out"
        )
    return report


def _write(out: Path, report: dict[str, Any]) -> None:
    with plain_errors(f"Writing {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
