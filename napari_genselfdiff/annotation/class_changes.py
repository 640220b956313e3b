"""What adding, changing and merging classes means for a task; nothing here touches the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.schema import ClassChange, ClassList
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import ClassSpec, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.schema import TaskRecord
    from napari_genselfdiff.annotation.window import Window

_HIGHEST = 255


def class_list(task: TaskRecord) -> ClassList:
    """The classes of a task as they are now."""
    return ClassList(classes=task.spec.classes, merged=task.merged)


def added(
    task: TaskRecord, name: str, color: str, key: str, reserved: Iterable[int]
) -> tuple[ClassSpec, ClassChange]:
    """A new class at the end of the list, with a value no class ever had.

    Once all 255 were given out, the lowest value is taken again that no class has, nothing was
    merged from, and none of the ``reserved`` is (those undo can bring back).

    Raises
    ------
    ConfigError
        If the name or the key is taken, something is not as a class needs it, or no value is left.
    """
    present = {spec.value for spec in task.spec.classes}
    never = [value for value in range(1, _HIGHEST + 1) if value not in {*task.used, *present}]
    again = {*present, *reserved, *map(int, task.merged)}
    free = never or [value for value in range(1, _HIGHEST + 1) if value not in again]
    if not free:
        raise ConfigError(f"a task can have {_HIGHEST} classes; merge some first")
    values = {"value": free[0], "name": name.strip(), "color": color, "key": key.strip()}
    specs = [*_dumped(task.spec.classes), values]
    classes = _checked(task.spec, specs)
    return classes[-1], ClassChange(
        before=class_list(task), after=ClassList(classes=classes, merged=task.merged)
    )


def changed(task: TaskRecord, value: int, **fields: str) -> ClassChange | None:
    """Another name, colour or key for a class; None if it has them already.

    Raises
    ------
    ConfigError
        If there is no such class, or another one has the name or key.
    """
    spec_of(task.spec, value)
    specs = [
        {**spec, **fields} if spec["value"] == value else spec
        for spec in _dumped(task.spec.classes)
    ]
    classes = _checked(task.spec, specs)
    if classes == task.spec.classes:
        return None
    after = ClassList(classes=classes, merged=task.merged)
    return ClassChange(before=class_list(task), after=after)


def merged(task: TaskRecord, value: int, into: int) -> ClassChange:
    """One class less; its value, and those merged into it before, stand for ``into`` from now on.

    Raises
    ------
    ConfigError
        If one of the classes does not exist or both are the same.
    """
    gone, _ = spec_of(task.spec, value), spec_of(task.spec, into)
    if value == into:
        raise ConfigError(f"{gone.name} is one class; choose another one to merge it into")
    classes = tuple(spec for spec in task.spec.classes if spec.value != value)
    moved = {key: into if old == value else old for key, old in task.merged.items()}
    after = ClassList(classes=classes, merged={**moved, str(value): into})
    return ClassChange(before=class_list(task), after=after)


def spec_of(task: TaskSpec, value: int) -> ClassSpec:
    """The class of a value; ConfigError if the task has none."""
    for spec in task.classes:
        if spec.value == value:
            return spec
    known = ", ".join(f"{spec.value} ({spec.name})" for spec in task.classes)
    raise ConfigError(f"task {task.name!r} has no class {value}, only {known}")


def lookup(merged: Mapping[str, int]) -> NDArray[np.uint8]:
    """What each class value is now that some were merged, (256,) uint8."""
    table = np.arange(256, dtype=np.uint8)
    for value, into in merged.items():
        table[int(value)] = into
    return table


def answers(task: TaskRecord, model: TaskSpec) -> str | None:
    """Say why the answers of a model cannot go into a task; None if they can.

    A model may know fewer classes than the task, as after one was added, and also those that were
    merged since. It may not answer with a class the task has never had, nor be of another kind.
    """
    if model.name != task.spec.name or model.kind != task.spec.kind:
        return (
            f"it answers {model.name!r} ({model.kind}), not {task.spec.name!r} ({task.spec.kind})"
        )
    values = {*(spec.value for spec in task.spec.classes), *map(int, task.merged)}
    foreign = [spec.name for spec in model.classes if spec.value not in values]
    if foreign:
        return f"it knows classes these annotations do not have: {', '.join(foreign)}"
    return None


def as_model_knows(window: Window, model: TaskSpec) -> Window:
    """What a window teaches a model that may not know all of the task's classes.

    A model with one class of objects answers whether there is one, so every class is that class to
    it. To any other model pixels of a class it does not know are unknown: it could only learn that
    they are background, which they are not.
    """
    known = np.zeros(256, bool)
    known[[0, *(spec.value for spec in model.classes)]] = True
    foreign = ~known[window.classes]
    if not foreign.any():
        return window
    seen = window.copy()
    if seen.objects is not None and model.n_classes == 1:
        seen.classes[foreign] = model.classes[0].value
        return seen
    for array in (seen.classes, seen.objects, seen.provenance):
        if array is not None:
            array[foreign] = 0
    return seen


def _dumped(classes: tuple[ClassSpec, ...]) -> list[dict[str, Any]]:
    return [spec.model_dump() for spec in classes]


def _checked(task: TaskSpec, classes: list[dict[str, Any]]) -> tuple[ClassSpec, ...]:
    return TaskSpec.parse({**task.model_dump(), "classes": classes}).classes
