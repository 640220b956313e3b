"""``genselfdiff refine``: the plugin's Refine, from slides or from a bundle of corrections."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.segment import (
    STORE_SUFFIX,
    ModelOption,
    MppOption,
    ProfileOption,
    TaskOption,
)
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.refine_config import Practice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.learning.bundle import Bundle
    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.elsewhere import CorrectedSlide
    from napari_genselfdiff.learning.lesson import Asked
    from napari_genselfdiff.learning.refine import RefineRequest, RefineResult
    from napari_genselfdiff.learning.refine_config import RefineConfig
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.registry.registry import Registry
    from napari_genselfdiff.slides.slide import Slide

SlidesArg = Annotated[list[Path] | None, typer.Argument(help="Slides that were corrected.")]
StoresOption = Annotated[
    list[Path] | None,
    typer.Option("--store", help="Annotations of each slide, in order; those beside them."),
]


def refine(
    out: Annotated[Path, typer.Option(help="Folder for the refined model.")],
    slides: SlidesArg = None,
    stores: StoresOption = None,
    bundles: Annotated[
        list[Path] | None,
        typer.Option("--bundle", help="Corrections as a file of `genselfdiff bundle`, instead."),
    ] = None,
    task: TaskOption = None,
    model: ModelOption = "default",
    budget_seconds: Annotated[
        float | None,
        typer.Option(help="Time to the verdict: 30, first model of a task 60.", min=1.0),
    ] = None,
    practice: Annotated[
        Practice,
        typer.Option(help="What it practises on so as not to forget; generated: no stored image."),
    ] = "stored",
    report: Annotated[
        Path | None, typer.Option("--json", help="Report: before, after, verdict.")
    ] = None,
    mpp: MppOption = None,
    profile: ProfileOption = None,
) -> None:
    """Refine a model with what was corrected and accepted; it is not put to use by itself."""
    from napari_genselfdiff.commands.segment import pick_model
    from napari_genselfdiff.learning.bundle import asked_in_bundles, read_bundle
    from napari_genselfdiff.learning.refine import RefineRequest
    from napari_genselfdiff.registry.files import beside
    from napari_genselfdiff.registry.registry import Registry
    from napari_genselfdiff.registry.unfinished import clean_partials

    if bundles and (slides or stores):
        raise typer.BadParameter("give slides or --bundle, not both")
    given = [] if bundles else pair_stores(slides, stores)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty; choose another --out")
    registry = Registry()
    registry.clean()
    if out.parent.is_dir():
        clean_partials(out.parent, out.name)  # what a killed refine left
    with contextlib.closing(registry.scratch()) as scratch:
        first = _untrained(registry, scratch.path / "start", model, task, given)
        base = first or pick_model(model, task)
        read = [read_bundle(path) for path in bundles or []]
        tiles, corrected = collect(given, base, mpp)
        if read:
            tiles = _from_bundles(bundles or [], read, base)
        asked = asked_in_bundles(base, read) if read else asked_in(given, base)
        # The folder gets its name with the verdict in it, so that a kill leaves nothing half-made.
        with beside(out) as partial:
            config = _config(base, budget_seconds, practice)
            given_to = RefineRequest(
                base.path,
                registry.base(base).path,
                tiles,
                partial,
                out.name,
                config,
                asked,
                corrected,
            )
            result = _refine(given_to, profile)
    result = replace(result, model=out)
    if report is not None:
        console.write_json(report, _report(result, None if first else base))
    made = f"first model for {task}" if first else f"refined from {base.card.name}"
    console.say(f"{result.verdict.sentence}\n{out}: {made}.")


def _untrained(
    registry: Registry,
    folder: Path,
    model: str,
    task: str | None,
    pairs: Sequence[tuple[Path, Path]],
) -> Model | None:
    """What a task begins with that has annotations but no model; None where there is a model."""
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.learning.first import write_untrained
    from napari_genselfdiff.registry.registry import DEFAULT

    if task is None or model != DEFAULT or registry.list(task):
        return None
    for _, where in pairs:
        with contextlib.closing(AnnotationStore.open_read_only(where)) as store:
            if task in store.tasks:
                backbone = registry.backbones.active().path
                return write_untrained(folder, store.tasks[task], backbone)
    return None


def pair_stores(
    slides: Sequence[Path] | None, stores: Sequence[Path] | None
) -> list[tuple[Path, Path]]:
    """Slides, each with its annotations; those beside it where none are named.

    ``--store A B`` gives B to the slides; its name tells what it is.
    """
    from napari_genselfdiff.annotation.store import default_store_path

    named = [*(stores or []), *(path for path in slides or [] if path.name.endswith(STORE_SUFFIX))]
    plain = [path for path in slides or [] if not path.name.endswith(STORE_SUFFIX)]
    if not plain or (named and len(named) != len(plain)):
        raise typer.BadParameter(f"{len(plain)} slides and {len(named)} --store; one for each")
    return list(zip(plain, named or [default_store_path(path) for path in plain], strict=True))


def opened(
    pairs: Sequence[tuple[Path, Path]], mpp: float | None
) -> Iterator[tuple[Slide, AnnotationStore]]:
    """Open slides and annotations one after the other, to read; each pair must belong together."""
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.slide import open_slide

    for path, where in pairs:
        store = AnnotationStore.open_read_only(where)
        try:
            with open_slide(path, mpp=mpp) as slide:
                if slide.hash != store.slide.hash:
                    raise ConfigError(f"{where} belongs to another slide than {path}")
                if slide.mpp is None:
                    slide.assume_mpp(store.mpp)
                yield slide, store
        finally:
            store.close()


def collect(
    pairs: Sequence[tuple[Path, Path]], model: Model, mpp: float | None
) -> tuple[list[CorrectionTile], list[CorrectedSlide]]:
    """Corrected tiles of slides, and where on which slides they are, for the task of a model."""
    from napari_genselfdiff.learning.corrections import collect_tiles
    from napari_genselfdiff.learning.elsewhere import corrected_slide

    name = model.card.task.name
    tiles: list[CorrectionTile] = []
    slides: list[CorrectedSlide] = []
    for slide, store in opened(pairs, mpp):
        if name in store.tasks:
            tiles += collect_tiles(slide, store, model.card)
            slides.append(corrected_slide(slide, store, name))
    return tiles, slides


def asked_in(pairs: Sequence[tuple[Path, Path]], model: Model) -> Asked:
    """How the slides are annotated: all classes of the model's task, and what was merged."""
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.learning.growing import joined
    from napari_genselfdiff.learning.lesson import Asked

    task, name = model.card.task, model.card.task.name
    tasks: list[TaskSpec] = []
    merged: dict[int, int] = {}
    for _, where in pairs:
        with contextlib.closing(AnnotationStore.open_read_only(where)) as store:
            if name in store.tasks:
                tasks.append(store.tasks[name])
                merged |= store.merged_values(name)
    there = {spec.value for known in tasks for spec in known.classes}
    return Asked(joined(task, tasks), {v: to for v, to in merged.items() if v not in there})


def _from_bundles(
    paths: Sequence[Path], bundles: Sequence[Bundle], model: Model
) -> list[CorrectionTile]:
    from napari_genselfdiff.learning.bundle import tiles_for

    for path, bundle in zip(paths, bundles, strict=True):
        if bundle.card.model_hash != model.hash:
            console.note(
                f"{path.name}: made on answers of {bundle.card.model}; {model.card.name} learns."
            )
    return tiles_for(model, bundles)


def _config(base: Model, budget_s: float | None, practice: Practice) -> RefineConfig:
    """How a model, or the first one of a task, is refined."""
    from napari_genselfdiff.learning.first import FIRST, is_untrained
    from napari_genselfdiff.learning.refine_config import RefineConfig

    config = FIRST if is_untrained(base.card) else RefineConfig(practice=practice)
    return config if budget_s is None else replace(config, budget_s=budget_s)


def _refine(request: RefineRequest, profile: Path | None) -> RefineResult:
    from napari_genselfdiff.commands.segment import pick_profile
    from napari_genselfdiff.errors import TrainingError
    from napari_genselfdiff.learning import refine as learning
    from napari_genselfdiff.learning.before_after import RefinePreview
    from napari_genselfdiff.session import wording

    with console.progress("Refining") as show:
        for step in learning.refine(request, pick_profile(profile)):
            if isinstance(step, learning.RefineResult):
                return step
            if isinstance(step, RefinePreview):
                console.note(step.sentence)
                continue
            show(step.done, f"{step.stage}, {wording.duration(step.eta_s)} left")
    raise TrainingError("the refine ended without a model; please report this")


def _report(result: RefineResult, parent: Model | None) -> dict[str, Any]:
    """Give what `--json` of refine holds; Dice are fractions, intervals 95 %."""
    verdict = asdict(result.verdict)
    return {
        "schema": 1,
        "model": str(result.model),
        "hash": result.model_hash,
        "parent": parent and {"name": parent.card.name, "hash": parent.hash},
        "accepted": None if verdict["decision"] == "too_little" else result.verdict.accepted,
        **verdict,
        "tiles": result.n_tiles,
        "images_seen": result.images_seen,
        "seconds": result.seconds,
    }
