"""Carry out a study run by run: learn, score on images aside, and once on the list to be scored."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from napari_genselfdiff import __version__
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.bootstrap import mean_of
from napari_genselfdiff.evaluation.folders import read_pair
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.evaluation.run import score_folder
from napari_genselfdiff.learning.data import ArraySource
from napari_genselfdiff.learning.place import ON_CPU, Place
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.sources import labelled_sources
from napari_genselfdiff.learning.start import SCRATCH, start_file
from napari_genselfdiff.learning.study import pixels
from napari_genselfdiff.learning.study.images import (
    aside_stems,
    dev_pairs,
    pairs_of,
    subset_stems,
    unlabelled_stems,
)
from napari_genselfdiff.learning.study.ledger import JsonLines, ScoredLists, claimed
from napari_genselfdiff.learning.study.networks import Learnt, Reader, learn, recipe_for
from napari_genselfdiff.learning.study.plan import Arm, Row, StudyPlan, StudySet, digest
from napari_genselfdiff.registry.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_genselfdiff.evaluation.folders import Pair
    from napari_genselfdiff.evaluation.run import Segment
    from napari_genselfdiff.learning.recipe import FinetuneRecipe

Phase = Literal["tune", "score"]
METRICS = ("dice", "iou", "aji", "aji_plus", "pq", "dq", "sq", "f1", "object_dice", "hausdorff")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """What of a study is done here and now.

    ``phase`` ``tune`` never looks at the list that is scored; ``score`` does, once. ``rows`` and
    ``arms`` name parts of the plan, all of it when empty; ``again`` allows a second configuration
    to be scored. ``scored`` is the file that remembers what was; it outlives the study's folder.
    """

    phase: Phase
    scored: Path
    rows: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    again: bool = False
    place: Place = ON_CPU
    tell: Callable[[str], None] = field(default=lambda text: None)


@dataclass(frozen=True, slots=True)
class Run:
    """One row, subset, seed and arm."""

    plan: StudyPlan
    row: Row
    subset: int
    seed: int
    arm_name: str

    @property
    def data(self) -> StudySet:
        return self.plan.sets[self.row.set]

    @property
    def arm(self) -> Arm:
        return self.plan.arm(self.arm_name)

    @property
    def case(self) -> str:
        return f"{self.row.name}_{self.arm_name}"

    def recipe(self) -> FinetuneRecipe:
        """Of network arms: everything the run does."""
        return recipe_for(self.data, self.row, self.subset, self.seed, self.arm)

    def config(self) -> dict[str, Any]:
        """All that decides the outcome but subset and seed, with hashes of weights begun from."""
        shared = {"row": self.row.name, "set": self.data.model_dump(mode="json")}
        if self.arm.kind in ("network", "self_training"):
            recipe = self.recipe()
            values = recipe.model_dump(mode="json", exclude={"name", "data"})
            values["loop"].pop("seed")
            begun = None if recipe.start == SCRATCH else sha256_of(start_file(recipe.start))
            return {
                **shared,
                "kind": self.arm.kind,
                "native": self.arm.native,
                "recipe": values,
                "start": begun,
            }
        return {**shared, **pixels.config(self.arm)}


def runs_of(plan: StudyPlan, options: StudyOptions) -> list[Run]:
    """Runs to be done, arms of one subset and seed side by side, so that pairs are soon whole."""
    rows = [plan.row(name) for name in options.rows] or list(plan.rows)
    for name in options.arms:
        plan.arm(name)
    arms = options.arms or tuple(plan.arms)
    most = max(len(row.seeds) for row in rows)
    return [
        Run(plan, row, subset, row.seeds[turn], arm)
        for turn in range(most)
        for row in rows
        if turn < len(row.seeds)
        for subset in row.subsets
        for arm in arms
    ]


def run_study(plan: StudyPlan, out: Path, options: StudyOptions) -> Iterator[dict[str, Any]]:
    """Do what is not done yet, giving every run's record as it is written to ``out/runs.jsonl``.

    Several processes may work on one folder; a run that was cut off is begun anew.

    Raises
    ------
    ConfigError
        If an arm was scored with another configuration, a list or image is missing, or a subset
        and a scored list share an image.
    """
    results, scored = JsonLines(out / "runs.jsonl"), ScoredLists(options.scored)
    root = data_root("")
    for run in runs_of(plan, options):
        config = run.config()
        name = digest(config)
        key = run_key(run, name, options.phase)
        with claimed(out / "claims", key) as mine:
            if not mine or any(record["key"] == key for record in results.read()):
                continue
            again = False
            if options.phase == "score":
                again = scored.allow(
                    run.data.dev, run.case, name, again=options.again, about=plan.name
                )
            options.tell(f"{options.phase} {run.case} subset {run.subset} seed {run.seed}")
            found = _carry_out(run, root, options)
            record = {
                "key": key,
                "study": plan.name,
                "phase": options.phase,
                "case": run.case,
                "row": run.row.name,
                "arm": run.arm_name,
                "subset": run.subset,
                "seed": run.seed,
                "config_hash": name,
                "config": config,
                "again": again,
                "device": str(options.place.device),
                "app_version": __version__,
                **found,
            }
            results.append(record)
            yield record


def run_key(run: Run, config: str, phase: Phase) -> str:
    """Name of a run's result."""
    return f"{run.case}-{run.subset}-{run.seed}-{phase}-{config}"


def _carry_out(run: Run, root: Path, options: StudyOptions) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    taught = pairs_of(root, run.data, subset_stems(root, run.data, run.row, run.subset))
    to_score = dev_pairs(root, run.data)  # read in every phase, so that an overlap is found early
    aside = pairs_of(root, run.data, aside_stems(root, run.plan, run.row))
    if {p.name for p in aside} & {p.name for p in taught}:
        raise ConfigError(f"images aside of {run.row.name} are taught as well")
    if run.arm.kind in ("network", "self_training"):
        found, segment = _network(run, root, aside, options.place)
    else:
        segment = pixels.learn_pixels(run.arm, run.data, taught, run.seed, options.place.device)
        found = {"aside": dice_by_image(segment, aside)}
    if options.phase == "score":
        found["scores"] = _scores(segment, to_score, distances=run.plan.distances)
    spent = {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    return {**found, **{name: round(value, 1) for name, value in spent.items()}}


def _network(
    run: Run, root: Path, aside: Sequence[Pair], place: Place
) -> tuple[dict[str, Any], Segment]:
    recipe = run.recipe()
    reader = Reader.of(run.data, run.arm.native, recipe, place)
    curve, last = [], None
    steps = (
        learn(recipe, labelled_sources(recipe.data), place, run.plan.curve)
        if run.arm.kind == "network"
        else _self_train(run, root, recipe, reader, place)
    )
    for learnt in steps:
        last = learnt
        if aside:
            dices = dice_by_image(reader.segment(learnt.averaged), aside)
            curve.append([learnt.images_seen, mean_of(list(dices.values()))])
    if last is None:
        raise ConfigError(f"{run.case} did not learn anything; its row needs images > 0")
    found: dict[str, Any] = {"curve": curve, "stopped": last.stopped}
    if aside:
        found["aside"] = dices
        found |= _extras(run, reader, last, aside)
    return found, reader.segment(last.averaged)


def _extras(run: Run, reader: Reader, last: Learnt, aside: Sequence[Pair]) -> dict[str, Any]:
    found = {}
    if "raw" in run.plan.extras:
        found["aside_raw"] = dice_by_image(reader.segment(last.raw), aside)
    if "flips" in run.plan.extras:
        found["aside_flips"] = dice_by_image(reader.segment(last.averaged, flips=True), aside)
    return found


def _self_train(
    run: Run, root: Path, recipe: FinetuneRecipe, reader: Reader, place: Place
) -> Iterator[Learnt]:
    """Half of the length on the labels; the rest also on its own sure answers elsewhere."""
    from dataclasses import replace

    half = recipe.loop.total_images // 2
    first = recipe.model_copy(update={"loop": replace(recipe.loop, total_images=half)})
    taught = labelled_sources(recipe.data)
    teacher = list(learn(first, taught, place))[-1]
    kept_aside = set(aside_stems(root, run.plan, run.row))
    others = [
        stem
        for stem in unlabelled_stems(root, run.data, run.row, run.subset)
        if stem not in kept_aside
    ]
    pseudo = []
    for pair in pairs_of(root, run.data, others):
        image, _ = read_pair(pair)
        truth = reader.pseudo_label(image, teacher.averaged)
        pseudo.append(ArraySource(image, None, truth, weight=len(taught) / len(others)))
    second = replace(
        recipe.loop, total_images=recipe.loop.total_images - half, seed=recipe.loop.seed + 1000
    )
    rest = recipe.model_copy(update={"loop": second})
    for learnt in learn(rest, [*taught, *pseudo], place, begin=teacher.raw):
        yield learnt._replace(images_seen=learnt.images_seen + half)


def dice_by_image(segment: Segment, pairs: Sequence[Pair]) -> dict[str, float]:
    """Pixel Dice by image; images without a truth are left out."""
    found = {}
    for pair in pairs:
        image, mask = read_pair(pair)
        value = dice(segment(image).classes, mask.labels)
        if math.isfinite(value):
            found[pair.name] = value
    return found


def _scores(
    segment: Segment, pairs: Sequence[Pair], *, distances: bool
) -> dict[str, dict[str, float | None]]:
    """Every metric by image; None where it is not defined."""
    return {
        item.image: {
            name: item.scores[name] if math.isfinite(item.scores[name]) else None
            for name in METRICS
        }
        for item in score_folder(pairs, segment, distances=distances)
    }
