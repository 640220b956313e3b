"""The part of a store that knows which classes its tasks have, and how they change.

Every change of classes is an operation like any other: in the history, undone and redone exactly.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.arrays import (
    CHUNK,
    CLASS_COLUMN,
    TABLE_CHUNK,
    TABLE_ROWS,
    TaskArrays,
    create_task,
    label_metadata,
    list_labels,
)
from napari_genselfdiff.annotation.class_changes import (
    added,
    answers,
    changed,
    lacking,
    lookup,
    merged,
    spec_of,
    taken_over,
)
from napari_genselfdiff.annotation.commit import MAX_BOXES, Staged, bounding_box
from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.schema import TaskRecord
from napari_genselfdiff.annotation.surveyed import SurveyedStore
from napari_genselfdiff.annotation.tasks import grid_downsample
from napari_genselfdiff.errors import ConfigError, StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.journal import Transaction
    from napari_genselfdiff.annotation.schema import ClassChange
    from napari_genselfdiff.registry.card import ClassSpec, TaskSpec


class ClassedStore(SurveyedStore):
    """A store whose tasks and classes can change."""

    def add_task(self, task: TaskSpec) -> None:
        """Make room for a task; nothing happens if it is there, also with classes changed since.

        Raises
        ------
        ConfigError
            If another task has that name: of another kind or resolution, or with classes this one
            never had.
        """
        known = self._record.tasks.get(task.name)
        if known is not None:
            if task.mpp != known.spec.mpp or answers(known, task) is not None:
                raise ConfigError(
                    f"these annotations have another task {task.name!r}; choose another name"
                )
            return
        self._check_writable()
        if self.kept_aside is not None:
            raise StoreError(
                f"the task {task.name} cannot be added while your work is kept on this computer; "
                f"make sure that {self.path.parent} can be written first"
            )
        used = tuple(spec.value for spec in task.classes)
        downsample = grid_downsample(self.mpp, task.mpp)
        new = TaskRecord(spec=task, downsample=downsample, used=used)
        tasks = {**self._record.tasks, task.name: new}
        with disk_errors(f"add the task {task.name}"):
            create_task(self.path, new, self._record.slide)
            list_labels(self.path, list(tasks.values()))
        self._save(self._record.model_copy(update={"tasks": tasks}))
        self._arrays[task.name] = TaskArrays(self.files, new, self._record.slide)
        self.events.tasks_changed.emit(task.name)

    def add_class(self, task_name: str, name: str, color: str, key: str = "") -> ClassSpec:
        """Add a class to a task, as a step of the history; the class with its value.

        Its value was never another class's, so nothing painted before can turn into it.

        Parameters
        ----------
        task_name
            The task.
        name, color, key
            As a :class:`ClassSpec` needs them: 1..64 characters, ``#rrggbb``, a key or "".

        Raises
        ------
        ConfigError
            If name or key are taken, or something is not as needed.
        """
        self._check_writable()
        task = self._task_record(task_name)
        new, change = added(task, name, color, key, self._values_of_history(task_name))
        self._change_classes(task_name, f"Add class {new.name}", change)
        return new

    def lacking(self, model_task: TaskSpec) -> list[ClassSpec]:
        """Classes a model answers that its task does not have here, and could have."""
        known = self._record.tasks.get(model_task.name)
        if known is None:
            return []
        return lacking(known, model_task, lambda value: self._names_of(model_task.name, value))

    def take_over_classes(self, model_task: TaskSpec) -> list[str]:
        """Add the classes that :meth:`lacking` names, a step of the history each; their names."""
        names = []
        for spec in self.lacking(model_task):
            self._check_writable()
            change = taken_over(self._task_record(model_task.name), spec)
            self._change_classes(model_task.name, f"Add class {spec.name}", change)
            names.append(spec.name)
        return names

    def rename_class(self, task_name: str, value: int, name: str) -> None:
        """Give a class another name. ConfigError if it is taken, or there is no such class."""
        old = spec_of(self._task_record(task_name).spec, value).name
        self._change_class(task_name, value, f"Rename class {old} to {name.strip()}", name=name)

    def recolor_class(self, task_name: str, value: int, color: str) -> None:
        """Give a class another colour, ``#rrggbb``. Errors as for :meth:`rename_class`."""
        name = spec_of(self._task_record(task_name).spec, value).name
        self._change_class(task_name, value, f"Change colour of {name}", color=color)

    def rekey_class(self, task_name: str, value: int, key: str) -> None:
        """Give a class another key, or none (""). Errors as for :meth:`rename_class`."""
        name = spec_of(self._task_record(task_name).spec, value).name
        self._change_class(task_name, value, f"Change key of {name}", key=key)

    def merge_classes(self, task_name: str, value: int, into: int) -> int:
        """Make everything of one class another class, which stays; the pixels changed.

        Who stands behind a pixel stays as it is. What models still call by the class that is gone
        is written as ``into`` from now on. Works chunk by chunk, on slides of any size.

        Raises
        ------
        ConfigError
            If one of the classes does not exist, or both are the same.
        """
        self._check_writable()
        task = self._task_record(task_name)
        change = merged(task, value, into)
        gone, stays = spec_of(task.spec, value), spec_of(task.spec, into)
        what = f"Merge {gone.name} into {stays.name}"
        return self._change_classes(task_name, what, change, (value, into))

    def answers(self, model_task: TaskSpec) -> str | None:
        """Say why answers of a model with this task cannot be written here; None if they can.

        A model may know fewer classes than the annotations. ``model_task`` need not be here yet.
        """
        known = self._record.tasks.get(model_task.name)
        return None if known is None else answers(known, model_task)

    def merged_values(self, task_name: str) -> dict[int, int]:
        """Values of classes that are gone, each with that of the class it was merged into."""
        return {int(gone): into for gone, into in self._task_record(task_name).merged.items()}

    def present_values(self, task_name: str) -> NDArray[np.uint8]:
        """Value that each class value of a model stands for now that some were merged, (256,)."""
        return lookup(self.merged_values(task_name))

    def _task_record(self, task_name: str) -> TaskRecord:
        self._task(task_name)
        return self._record.tasks[task_name]

    def _change_class(self, task_name: str, value: int, what: str, **fields: str) -> None:
        self._check_writable()
        fields = {name: text.strip() for name, text in fields.items()}
        change = changed(self._task_record(task_name), value, **fields)
        if change is not None:
            self._change_classes(task_name, what, change)

    def _values_of_history(self, task_name: str) -> set[int]:
        """Values of classes that undo or redo can bring back."""
        return {spec.value for spec in self._classes_of_history(task_name)}

    def _names_of(self, task_name: str, value: int) -> set[str]:
        """What the class of a value was called in the steps of the history."""
        return {s.name for s in self._classes_of_history(task_name) if s.value == value}

    def _classes_of_history(self, task_name: str) -> Iterator[ClassSpec]:
        for op_id in (*self._record.journal.done, *self._record.journal.undone):
            try:
                meta = self._describe(op_id)
            except StoreError:
                continue  # a damaged step cannot be undone either
            if meta.task == task_name and meta.classes is not None:
                yield from (*meta.classes.before.classes, *meta.classes.after.classes)

    def _change_classes(
        self, task_name: str, what: str, change: ClassChange, merge: tuple[int, int] | None = None
    ) -> int:
        """Change classes as one operation; the pixels a merge changed."""
        return self._or_aside(
            lambda: self._land(self._stage_classes(task_name, what, change, merge))
        )

    def _stage_classes(
        self, task_name: str, what: str, change: ClassChange, merge: tuple[int, int] | None = None
    ) -> Staged:
        """Make a change of classes ready, with the pixels and objects of a merged class."""
        arrays, task = self._task(task_name), self._task_record(task_name)
        spec = task.spec.model_copy(update={"classes": change.after.classes})
        after = task.model_copy(update={"spec": spec})
        with disk_errors("save the classes"), self._journal.begin() as transaction:
            transaction.put(*label_metadata(after, self._record.slide))
            moved: dict[str, Any] = {"boxes": ()}
            pixels = 0
            if merge is not None:
                boxes, pixels = _merge_pixels(arrays, transaction, *merge)
                objects = _merge_rows(arrays, transaction, self._record.next_id, *merge)
                moved = {
                    "boxes": tuple((b.y, b.x, b.height, b.width) for b in boxes),
                    "pixels": _moved(pixels, *merge),
                    "objects": _moved(objects, *merge),
                }
            meta = self._describing(
                what=what, task=task_name, region=(0, 0, *arrays.shape), classes=change, **moved
            )
            transaction.seal(meta)
        return Staged(transaction, meta, pixels)


def _merge_pixels(
    arrays: TaskArrays, transaction: Transaction, value: int, into: int
) -> tuple[list[Region], int]:
    """Write every pixel of a class as another; where they were, and how many."""
    boxes, total, classes = [], 0, arrays.stored["classes"]
    for chunk in arrays.annotated(CHUNK):
        old = classes.read(chunk.slices)
        mine = old == value
        if not mine.any():
            continue
        new = np.where(mine, np.uint8(into), old)
        for key, data in classes.encode((chunk.y, chunk.x), old, new):
            transaction.put(key, data)
        rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        box = Region.from_bounds(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        boxes.append(box.shifted(chunk.y, chunk.x))
        total += int(np.count_nonzero(mine))
    return (boxes if len(boxes) <= MAX_BOXES else [bounding_box(boxes)]), total


def _merge_rows(
    arrays: TaskArrays, transaction: Transaction, next_id: int, value: int, into: int
) -> int:
    """Write the class of every object of a class as another; the number of objects."""
    if arrays.table is None:
        return 0
    total = 0
    for start in range(0, next_id, TABLE_CHUNK):
        stop = min(start + TABLE_CHUNK, TABLE_ROWS)
        old = arrays.table.read((slice(start, stop), slice(0, 2)))
        mine = old[:, CLASS_COLUMN] == value
        if mine.any():
            new = old.copy()
            new[mine, CLASS_COLUMN] = into
            total += int(np.count_nonzero(mine))
            for key, data in arrays.table.encode((start, 0), old, new):
                transaction.put(key, data)
    return total


def _moved(number: int, value: int, into: int) -> Counter[str]:
    return Counter({str(value): -number, str(into): number} if number else {})
