"""What the tools that act at once do with a click or a drawn line, and the sentence they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session import objects, outlining, wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.annotation.paths import Point
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.session.outlining import How

LineTool = Literal["polygon", "lasso", "cut", "split", "merge"]
ClickTool = Literal["delete", "holes", "smooth", "class"]
_NAMES = {"polygon": "Polygon", "lasso": "Lasso", "cut": "Lasso delete"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a tool works on.

    Parameters
    ----------
    store, task
        Open annotations and one of their tasks.
    class_value
        The class in hand.
    protect
        Leave pixels and objects of other classes as they are.
    """

    store: AnnotationStore
    task: TaskSpec
    class_value: int
    protect: bool = False


def along(target: Target, tool: LineTool, points: Sequence[Point], how: How = "new") -> str:
    """Use a tool along a drawn line; ``points`` are (y, x) of the task's grid.

    Returns
    -------
    str
        What was done, for the status line.

    Raises
    ------
    ConfigError
        If nothing can be done there; the sentence says why.
    """
    store, task = target.store, target.task
    if tool == "split":
        split = objects.split(store, task, points)
        done = f"Split {wording.things(task, len(split.cut))} into {split.parts}."
        missed = wording.counted(len(split.missed), "object was", "objects were")
        return f"{done} {missed} not cut through." if split.missed else done
    if tool == "merge":
        return f"Merged {wording.things(task, objects.merge(store, task, points))} into one."
    what = _NAMES[tool]
    if tool == "cut":
        only = target.class_value if target.protect else None
        number = outlining.delete_inside(store, task, points, only=only, what=what)
        if task.kind == "objects":
            return f"Deleted {wording.things(task, number)}: there is nothing there."
        return "Deleted what was inside: there is nothing there."
    changed = outlining.draw(
        store, task, points, target.class_value, how=how, protect=target.protect, what=what
    )
    return f"{what}: saved." if changed else f"{what}: it was like this already."


def at(target: Target, tool: ClickTool, y: int, x: int) -> str:
    """Use a tool on the object at a pixel of the task's grid; as :func:`along`."""
    store, task = target.store, target.task
    if tool == "delete":
        if not objects.delete_object(store, task, y, x):
            raise ConfigError("there is no object here; click inside an outline")
        return "Deleted: there is nothing here, and Refine learns from it."
    if tool == "holes":
        filled = objects.fill_holes(store, task, y, x)
        return "Holes filled and saved." if filled else "This object has no holes."
    if tool == "smooth":
        smoothed = objects.smooth(store, task, y, x)
        return "Smoothed and saved." if smoothed else "This outline is smooth already."
    names = {spec.value: spec.name for spec in task.classes}
    changed = objects.change_class(store, task, y, x, target.class_value)
    name = names.get(target.class_value, str(target.class_value))
    return f"This is {name} now." if changed else f"This is {name} already."
