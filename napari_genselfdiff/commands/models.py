"""``genselfdiff models``: the versions there are, which is in use, how they come and go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_genselfdiff.commands import backbones, console, models_compare

if TYPE_CHECKING:
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.registry.registry import Registry

app = typer.Typer(
    cls=console.Commands, no_args_is_help=True, help="List, compare, use, import and export models."
)

NameArg = Annotated[str, typer.Argument(help="Name or folder of a model or backbone.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TaskOption = Annotated[str | None, typer.Option(help="Only models of this task.")]


@app.command("list")
def list_models(task: TaskOption = None, as_json: JsonFlag = False) -> None:
    """List the models and the backbones that new tasks start from, and which are in use."""
    registry = _registry()
    models = registry.list(task)
    in_use = _in_use(registry, models)
    problems = {**registry.problems(), **registry.backbones.problems()}
    if as_json:
        rows = [{**models_compare.facts(m, registry), "in_use": m.hash in in_use} for m in models]
        found = {"models": rows, "backbones": backbones.rows(registry.backbones)}
        console.say_json({"schema": 1, **found, "problems": problems})
        return
    if not models:
        console.note("There is no model" + (f" of the task {task}." if task else "."))
    else:
        cells = []
        for model in models:
            known = models_compare.facts(model, registry)
            mark, made = "*" if model.hash in in_use else "", model.card.created[:10]
            parent, judged = known["parent_name"] or "-", models_compare.verdict(model.card.gate)
            cells.append((mark, model.card.name, model.card.task.name, made, parent, judged))
        console.table(("in use", "name", "task", "made", "refined from", "verdict"), cells)
    if task is None:
        console.say("")
        backbones.list_backbones(registry.backbones)
    for name, why in problems.items():
        console.complain(f"{name}: {why}")


@app.command()
def show(name: NameArg = "default", as_json: JsonFlag = False) -> None:
    """Show what a model or a backbone says about itself."""
    registry = _registry()
    if (backbone := registry.backbones.find(name)) is not None:
        backbones.show_backbone(backbone, as_json=as_json)
        return
    model = registry.resolve(name)
    card = model.card.model_dump(mode="json")
    if as_json:
        console.say_json({"path": str(model.path), "hash": model.hash, **card})
        return
    low, high = model.card.mpp_range
    facts = {
        "name": model.card.name + (" (starter model)" if model.card.starter else ""),
        "folder": str(model.path),
        "hash": model.hash,
        "task": f"{model.card.task.name} ({', '.join(c.name for c in model.card.task.classes)})",
        "µm per pixel": f"{low:g}-{high:g}",
        "made": f"{model.card.created}, version {model.card.app_version}",
        "refined from": ", ".join(m.card.name for m in registry.lineage(model)[1:]) or "-",
        "verdict": models_compare.verdict(model.card.gate),
        "corrections": model.card.data_sha256 or "-",
        "learned from": "; ".join(f"{d.name} ({d.licence})" for d in model.card.data) or "-",
        "notes": model.card.notes or "-",
        "use": "research use only",
    }
    console.facts(facts)


@app.command()
def use(name: NameArg) -> None:
    """Use a model for its task from now on, or start new tasks from a backbone."""
    registry = _registry()
    if (backbone := registry.backbones.find(name)) is not None:
        used = registry.backbones.use(backbone)
        console.say(f"New tasks start from the backbone {used.path.name} now.")
        return
    model = registry.use(registry.resolve(name), why="genselfdiff models use")
    console.say(f"{model.card.name} is in use for {model.card.task.name} now.")


@app.command()
def rollback(
    task: Annotated[str, typer.Option(help="Task to go back for.")] = "Nuclei",
) -> None:
    """Go back to the model that was in use before."""
    model = _registry().rollback(task)
    console.say(f"{model.card.name} is in use for {task} again.")


@app.command()
def delete(
    name: NameArg,
    force: Annotated[
        bool, typer.Option("--force", help="Even if other models were refined from it.")
    ] = False,
) -> None:
    """Delete a model or backbone of your own; never a shipped one, nor the one in use."""
    registry = _registry()
    if name in registry.backbones.names():
        registry.backbones.delete(name)
    else:
        registry.delete(name, force=force)
    console.say(f"{name} is deleted.")


app.command("compare")(models_compare.compare)


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="Zip file or folder of a model or backbone.")],
) -> None:
    """Take in a model or backbone from a zip file or a folder; it is checked in every respect."""
    taken = _registry().take_in(file)
    console.say(
        f"{taken.card.name} is in {taken.path}; `genselfdiff models use {taken.card.name}` puts it "
        "to use."
    )


@app.command("import-official")
def import_official(
    file: Annotated[Path, typer.Argument(help="Pre-trained .pth of the released code.")],
    out: Annotated[Path, typer.Option(help="Folder for the backbone.")],
) -> None:
    """Turn pre-trained weights of the released GenSelfDiff-HIS code into a backbone folder."""
    from napari_genselfdiff.learning.official import import_backbone

    backbone = import_backbone(file, out)
    console.say(
        f"{backbone.path}: a backbone to start from, `genselfdiff finetune RECIPE "
        f"preset=paper start={backbone.path}`; `genselfdiff models use {backbone.path}` lets new "
        "tasks start from it."
    )


@app.command()
def export(
    name: NameArg,
    file: Annotated[Path, typer.Argument(help="Zip file to write.")],
    corrections: Annotated[
        bool, typer.Option("--corrections", help="With the corrected tiles it learned from.")
    ] = False,
) -> None:
    """Write a model or backbone as one zip file, without corrected tiles unless asked."""
    registry = _registry()
    if (backbone := registry.backbones.find(name)) is not None:
        console.say(str(registry.backbones.export(backbone, file)))
        return
    path = registry.export(registry.resolve(name), file, corrections=corrections)
    console.say(str(path))


def _registry() -> Registry:
    from napari_genselfdiff.registry.registry import Registry

    registry = Registry()
    registry.clean()
    return registry


def _in_use(registry: Registry, models: list[Model]) -> set[str]:
    """Hashes of the models in use, one for each task that has a sound one."""
    from napari_genselfdiff.errors import ModelFileError

    found = set()
    for task in {model.card.task.name for model in models}:
        try:
            found.add(registry.active(task).hash)
        except ModelFileError as err:
            console.complain(console.reason(err))
    return found
