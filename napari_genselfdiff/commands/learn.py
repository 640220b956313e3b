"""``genselfdiff pretrain`` and ``finetune``: how models are made, without a window."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from napari_genselfdiff.commands import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_genselfdiff.learning.loop import Report
    from napari_genselfdiff.learning.run import RunOptions

RecipeArg = Annotated[str, typer.Argument(help="Name of a shipped recipe, or a .toml file.")]
OverridesArg = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that replace its own.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write; it may be given to --resume.")]
ResumeFlag = Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")]
BudgetOption = Annotated[
    float | None,
    typer.Option(help="Learn this long in all; the learning rate comes down in time.", min=0.01),
]
BoardFlag = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard's files beside log.csv.")
]


def pretrain(
    recipe: RecipeArg,
    out: OutOption,
    overrides: OverridesArg = None,
    resume: ResumeFlag = False,
    device: DeviceOption = "auto",
    budget_minutes: BudgetOption = None,
    tensorboard: BoardFlag = False,
) -> None:
    """Pre-train a backbone without labels. Ctrl+C pauses, --resume goes on."""
    from napari_genselfdiff.learning import pretrain as learning
    from napari_genselfdiff.learning.finish import finish_backbone
    from napari_genselfdiff.learning.recipe import PretrainRecipe, read_recipe

    checked = read_recipe(PretrainRecipe, recipe, overrides)
    how = _How(resume, device, budget_minutes, tensorboard)
    if _learn("Pre-training", partial(learning.pretrain, checked, out), how):
        finish_backbone(checked, out)
        console.say(
            f"{out}: backbone, `genselfdiff finetune RECIPE start={out}` begins with it; "
            f"`genselfdiff models use {out}` lets new tasks start from it."
        )


def finetune(
    recipe: RecipeArg,
    out: OutOption,
    overrides: OverridesArg = None,
    resume: ResumeFlag = False,
    device: DeviceOption = "auto",
    budget_minutes: BudgetOption = None,
    tensorboard: BoardFlag = False,
) -> None:
    """Fine-tune a backbone for a task. Ctrl+C pauses, --resume goes on."""
    from napari_genselfdiff.learning import finetune as learning
    from napari_genselfdiff.learning.finish import finish_model
    from napari_genselfdiff.learning.recipe import FinetuneRecipe, read_recipe

    checked = read_recipe(FinetuneRecipe, recipe, overrides)
    how = _How(resume, device, budget_minutes, tensorboard)
    if _learn("Fine-tuning", partial(learning.finetune, checked, out), how):
        finish_model(checked, out)
        console.say(f"{out}: model for {checked.task.name}, `genselfdiff models import {out}`.")


class _How(NamedTuple):
    """The options that pretrain and finetune share."""

    resume: bool
    device: str
    budget_minutes: float | None
    tensorboard: bool


def _learn(title: str, start: Callable[[RunOptions], Iterable[Report]], how: _How) -> bool:
    """Run to the end, shown live; True in the process that is to finish the folder."""
    from napari_genselfdiff.learning.place import open_place
    from napari_genselfdiff.learning.run import RunOptions

    with open_place(how.device) as place, console.stoppable() as stop:
        budget_s = None if how.budget_minutes is None else 60 * how.budget_minutes
        options = RunOptions(
            resume=how.resume,
            place=place,
            should_stop=stop,
            budget_s=budget_s,
            tensorboard=how.tensorboard,
        )
        reports = start(options)
        if place.shares.is_first:
            _follow(title, reports, stop)
            return True
        for _ in reports:
            pass
        return False


def _follow(title: str, reports: Iterable[Report], stopped: Callable[[], bool]) -> None:
    """Show a run's progress to its end; one that was stopped says how to go on."""
    from napari_genselfdiff.session import wording

    with console.progress(title) as show:
        for step in reports:
            words = (
                f"{step.images_seen} images, loss {step.loss:.4f}, {step.images_per_s:.1f} "
                f"images/s, {wording.duration(step.eta_s)} left"
            )
            show(max(step.done, step.images_seen / max(step.total_images, 1)), words)
    if stopped():
        console.complain(
            "stopped; everything so far is saved, the same command with --resume goes on from here"
        )
        raise typer.Exit(console.FAILED)
