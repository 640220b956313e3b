"""What adding, changing and merging classes means for a task; nothing here touches the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.schema import ClassChange, ClassList
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import ClassSpec, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.schema import TaskRecord

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


def lookup(merged: Mapping[int, int]) -> NDArray[np.uint8]:
    """What each class value is now that some were merged, (256,) uint8."""
    table = np.arange(256, dtype=np.uint8)
    for value, into in merged.items():
        table[value] = into
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


def lacking(
    task: TaskRecord, model: TaskSpec, names_of: Callable[[int], set[str]]
) -> list[ClassSpec]:
    """Classes a model answers that a task does not have and could have, with the model's values.

    ``names_of`` gives the names that a value had in the history. Empty if there are none, or if a
    class's name is taken, or its value was ever another class's.
    """
    there = {spec.value for spec in task.spec.classes}
    known = {*there, *map(int, task.merged)}
    foreign = [spec for spec in model.classes if spec.value not in known]
    names = {spec.name.casefold() for spec in task.spec.classes}
    for spec in foreign:
        was_another = spec.value in task.used and names_of(spec.value) != {spec.name}
        if was_another or spec.name.casefold() in names:
            return []
    return foreign


def taken_over(task: TaskRecord, spec: ClassSpec) -> ClassChange:
    """A model's class at the end of a task's list; its key only if no class has that.

    Raises
    ------
    ConfigError
        If the task cannot have it.
    """
    keys = {known.key for known in task.spec.classes}
    values = {**spec.model_dump(), "key": "" if spec.key in keys else spec.key}
    classes = _checked(task.spec, [*_dumped(task.spec.classes), values])
    after = ClassList(classes=classes, merged=task.merged)
    return ClassChange(before=class_list(task), after=after)


def _dumped(classes: tuple[ClassSpec, ...]) -> list[dict[str, Any]]:
    return [spec.model_dump() for spec in classes]


def _checked(task: TaskSpec, classes: list[dict[str, Any]]) -> tuple[ClassSpec, ...]:
    return TaskSpec.parse({**task.model_dump(), "classes": classes}).classes
