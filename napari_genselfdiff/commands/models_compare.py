"""``genselfdiff models compare``: two models side by side, by their cards and on images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.segment import ProfileOption
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.registry.registry import Registry

_METRICS = ("dice", "aji", "pq", "f1")  # in the table; the JSON has all


def compare(
    first: Annotated[str, typer.Argument(help="Name or folder of a model.")],
    second: Annotated[str, typer.Argument(help="Name or folder of another one.")] = "default",
    images: Annotated[Path | None, typer.Option(help="Also score both on these images.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Masks of the same stems.")] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometre per pixel of the images; the model's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    profile: ProfileOption = None,
) -> None:
    """Compare two models: where they come from, what they learned from, and, on images, scores."""
    from napari_genselfdiff.registry.registry import Registry

    if (images is None) != (masks is None):
        raise typer.BadParameter("--images and --masks belong together; give both or neither")
    registry = Registry()
    models = registry.resolve(first), registry.resolve(second)
    tasks = [model.card.task.name for model in models]
    if tasks[0] != tasks[1]:
        raise ConfigError(
            f"{models[0].card.name} is for {tasks[0]} and {models[1].card.name} for {tasks[1]}; "
            "only models of one task can be compared"
        )
    scores = None
    if images is not None and masks is not None:
        scores = _scores(models, images, masks, mpp, profile)
    found = {
        "schema": 1,
        "models": [facts(model, registry) for model in models],
        "same_answers": models[0].hash == models[1].hash,
        "relation": _relation(registry, *models),
        "scores": scores,
    }
    if as_json:
        console.say_json(found)
        return
    _print(found)


def facts(model: Model, registry: Registry) -> dict[str, Any]:
    """What is worth knowing of a version: name, line, data, verdict and scores.

    ``tiles`` is None where the corrected tiles were left out on export.
    """
    card = model.card
    line = registry.lineage(model)
    tiles = sum(name.startswith("corrections/") and "labels" in name for name in card.files)
    return {
        "name": card.name,
        "path": str(model.path),
        "hash": model.hash,
        "task": card.task.name,
        "bundled": registry.is_bundled(model),
        "starter": card.starter,
        "created": card.created,
        "parent": card.parent,
        "parent_name": line[1].card.name if len(line) > 1 else None,
        "data_sha256": card.data_sha256,
        "tiles": tiles if tiles or card.data_sha256 is None else None,
        "gate": card.gate,
        "metrics": card.metrics,
    }


def verdict(gate: dict[str, Any] | None) -> str:
    """Say in a few words what the comparison with its parent found; ``-`` without one."""
    if gate is None or "decision" not in gate:
        return "-"
    words = str(gate["decision"]).replace("_", " ")
    old, new = gate.get("old"), gate.get("new")
    if isinstance(old, float) and isinstance(new, float):
        return f"{words}, Dice {old:.2f} → {new:.2f}"
    return words


def _relation(registry: Registry, a: Model, b: Model) -> str:
    lines = [[m.hash for m in registry.lineage(model)] for model in (a, b)]
    if a.hash == b.hash:
        return "they give the same answers"
    for new, old, line in ((a, b, lines[0]), (b, a, lines[1])):
        if old.hash in line:
            steps = line.index(old.hash)
            refined = "refined" if steps == 1 else f"refined {steps} times"
            return f"{new.card.name} was {refined} from {old.card.name}"
    shared = [h for h in lines[0] if h in lines[1]]
    if shared:
        name = next(m.card.name for m in registry.lineage(a) if m.hash == shared[0])
        return f"both come from {name}"
    return "they have no model here in common"


def _scores(
    models: tuple[Model, Model], images: Path, masks: Path, mpp: float | None, profile: Path | None
) -> dict[str, Any]:
    """Means of both and the paired difference second - first over images, with its 95 % interval.

    Shares 0-1, distances in pixels; what is not defined is None.
    """
    from napari_genselfdiff.commands.evaluate import evaluate_model
    from napari_genselfdiff.evaluation.bootstrap import mean_of, paired_difference

    mpp = models[0].card.task.mpp if mpp is None else mpp
    rows = [
        evaluate_model(str(m.path), images, masks, mpp=mpp, profile=profile)["images"]
        for m in models
    ]
    found: dict[str, Any] = {}
    for metric in rows[0][0]:
        if metric == "image":
            continue
        a, b = ([_number(row[metric]) for row in side] for side in rows)
        change = paired_difference(b, a)
        values = {"first": mean_of(a), "second": mean_of(b), **change._asdict()}
        values["difference"] = values.pop("value")
        found[metric] = {k: None if math.isnan(v) else v for k, v in values.items()}
    return {"images": str(images), "mpp": mpp, "metrics": found}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _print(found: dict[str, Any]) -> None:
    sides = found["models"]
    rows = [
        ("made", *(s["created"][:16].replace("T", " ") for s in sides)),
        ("refined from", *(s["parent_name"] or _short(s["parent"]) for s in sides)),
        ("corrected tiles", *("?" if s["tiles"] is None else str(s["tiles"]) for s in sides)),
        ("data", *(_short(s["data_sha256"]) for s in sides)),
        ("verdict then", *(verdict(s["gate"]) for s in sides)),
        ("hash", *(_short(s["hash"]) for s in sides)),
    ]
    scores = found["scores"]
    for metric in _METRICS if scores else ():
        if metric in scores["metrics"]:
            values = scores["metrics"][metric]
            cells = ("-" if values[k] is None else f"{values[k]:.4f}" for k in ("first", "second"))
            rows.append((metric, *cells))
    console.table(("", *(s["name"] for s in sides)), rows)
    if scores and (dice := scores["metrics"].get("dice")) and dice["difference"] is not None:
        interval = "" if dice["low"] is None else f" [{dice['low']:+.4f}, {dice['high']:+.4f}]"
        console.say(f"Dice {dice['difference']:+.4f}{interval} on {dice['n']} images, same images.")
    sentence = found["relation"]
    console.say(f"{sentence[0].upper()}{sentence[1:]}.")


def _short(digest: str | None) -> str:
    return "-" if digest is None else digest[:12]
