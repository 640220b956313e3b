"""``genselfdiff pretrain``, ``finetune`` and ``refine``: how weights change, without a window."""

from __future__ import annotations

from dataclasses import asdict
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.loop import Report
    from napari_genselfdiff.learning.refine import RefineResult
    from napari_genselfdiff.registry.folder import Model

RecipeArg = Annotated[str, typer.Argument(help="Name of a shipped recipe, or a .toml file.")]
OverridesArg = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that replace its own.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write; it may be given to --resume.")]
ResumeFlag = Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")]


def pretrain(
    recipe: RecipeArg,
    out: OutOption,
    overrides: OverridesArg = None,
    resume: ResumeFlag = False,
    device: DeviceOption = "auto",
) -> None:
    """Pre-train a backbone as a denoising diffusion model, without labels."""
    from napari_genselfdiff.learning import pretrain as learning
    from napari_genselfdiff.learning.finish import finish_backbone
    from napari_genselfdiff.learning.recipe import PretrainRecipe, read_recipe

    checked, chosen = read_recipe(PretrainRecipe, recipe, overrides), _device(device)
    with console.stoppable() as stop:
        _follow(
            "Pre-training",
            learning.pretrain(checked, out, resume=resume, device=chosen, should_stop=stop),
            stop,
        )
    finish_backbone(checked, out)
    console.say(f"{out}: backbone, `genselfdiff finetune RECIPE start={out}` begins with it.")


def finetune(
    recipe: RecipeArg,
    out: OutOption,
    overrides: OverridesArg = None,
    resume: ResumeFlag = False,
    device: DeviceOption = "auto",
) -> None:
    """Fine-tune a backbone for a task, from images with masks."""
    from napari_genselfdiff.learning import finetune as learning
    from napari_genselfdiff.learning.finish import finish_model
    from napari_genselfdiff.learning.recipe import FinetuneRecipe, read_recipe

    checked, chosen = read_recipe(FinetuneRecipe, recipe, overrides), _device(device)
    with console.stoppable() as stop:
        _follow(
            "Fine-tuning",
            learning.finetune(checked, out, resume=resume, device=chosen, should_stop=stop),
            stop,
        )
    finish_model(checked, out)
    console.say(f"{out}: model for {checked.task.name}, `genselfdiff models import {out}`.")


def refine(
    slides: Annotated[list[Path], typer.Argument(help="Slides that were corrected.")],
    out: Annotated[Path, typer.Option(help="Folder for the refined model.")],
    stores: Annotated[
        list[Path] | None,
        typer.Option("--store", help="Annotations of each slide, in order; those beside them."),
    ] = None,
    task: TaskOption = None,
    model: ModelOption = "default",
    budget_seconds: Annotated[float, typer.Option(help="Time to learn.", min=1.0)] = 30.0,
    report: Annotated[
        Path | None, typer.Option("--json", help="Report: before, after, verdict.")
    ] = None,
    mpp: MppOption = None,
    profile: ProfileOption = None,
) -> None:
    """Refine a model with what was corrected and accepted; it is not put to use by itself."""
    from napari_genselfdiff.commands.segment import pick_model

    # `--store A B` gives B to the slides; its name tells what it is.
    given = [*(stores or []), *(path for path in slides if path.name.endswith(STORE_SUFFIX))]
    slides = [path for path in slides if not path.name.endswith(STORE_SUFFIX)]
    if not slides or (given and len(given) != len(slides)):
        raise typer.BadParameter(f"{len(slides)} slides and {len(given)} --store; one for each")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another --out")
    base = pick_model(model, task)
    tiles = _corrections(slides, given, base, mpp)
    result = _refine(base, tiles, out, budget_seconds, profile)
    if report is not None:
        console.write_json(report, _report(result, base))
    console.say(f"{result.verdict.sentence}\n{out}: refined from {base.card.name}.")


def _follow(title: str, reports: Iterable[Report], stopped: Callable[[], bool]) -> None:
    """Show a run's progress to its end; one that was stopped says how to go on."""
    from napari_genselfdiff.session import wording

    with console.progress(title) as show:
        for step in reports:
            words = (
                f"{step.images_seen} images, loss {step.loss:.4f}, {step.images_per_s:.1f} "
                f"images/s, {wording.duration(step.eta_s)} left"
            )
            show(step.images_seen / max(step.total_images, 1), words)
    if stopped():
        console.complain("stopped; everything so far is saved, --resume goes on from here")
        raise typer.Exit(console.FAILED)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here; use --device cpu")
    return name


def _corrections(
    slides: list[Path], stores: list[Path], model: Model, mpp: float | None
) -> list[CorrectionTile]:
    from napari_genselfdiff.annotation.store import AnnotationStore, default_store_path
    from napari_genselfdiff.learning.corrections import collect_tiles
    from napari_genselfdiff.slides.slide import open_slide

    tiles: list[CorrectionTile] = []
    for index, path in enumerate(slides):
        where = stores[index] if stores else default_store_path(path)
        store = AnnotationStore.open_read_only(where)
        try:
            with open_slide(path, mpp=mpp) as slide:
                if slide.hash != store.slide.hash:
                    raise ConfigError(f"{where} belongs to another slide than {path}")
                if slide.mpp is None:
                    slide.assume_mpp(store.mpp)
                if model.card.task.name in store.tasks:
                    tiles += collect_tiles(slide, store, model.card)
        finally:
            store.close()
    return tiles


def _refine(
    base: Model,
    tiles: list[CorrectionTile],
    out: Path,
    budget_s: float,
    profile: Path | None,
) -> RefineResult:
    from napari_genselfdiff.commands.segment import pick_profile
    from napari_genselfdiff.errors import TrainingError
    from napari_genselfdiff.learning import refine as learning
    from napari_genselfdiff.registry.registry import Registry
    from napari_genselfdiff.session import wording

    request = learning.RefineRequest(
        current=base.path,
        base=Registry().lineage(base)[-1].path,
        tiles=tiles,
        out=out,
        name=out.name,
        config=learning.RefineConfig(budget_s=budget_s),
    )
    with console.progress("Refining") as show:
        for step in learning.refine(request, pick_profile(profile)):
            if isinstance(step, learning.RefineResult):
                return step
            show(step.done, f"{step.stage}, {wording.duration(step.eta_s)} left")
    raise TrainingError("the refine ended without a model; please report this")


def _report(result: RefineResult, base: Model) -> dict[str, Any]:
    """Give what `--json` of refine holds; Dice are fractions, intervals 95 %."""
    verdict = asdict(result.verdict)
    return {
        "schema": 1,
        "model": str(result.model),
        "hash": result.model_hash,
        "parent": {"name": base.card.name, "hash": base.hash},
        "accepted": None if verdict["decision"] == "too_little" else result.verdict.accepted,
        **verdict,
        "tiles": result.n_tiles,
        "images_seen": result.images_seen,
        "seconds": result.seconds,
    }
