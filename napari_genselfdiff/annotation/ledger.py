"""What the totals and the history of a store become when an operation is done or undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from napari_genselfdiff.annotation.schema import Applying, JournalRecord, StoreRecord, TaskRecord
from napari_genselfdiff.annotation.window import Operation
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_genselfdiff.annotation.schema import Box, OperationRecord

MAX_DIRTY: Final = 256  # boxes whose coarser levels wait; more become one


def with_done(record: StoreRecord, op_id: int, meta: OperationRecord) -> StoreRecord:
    """Record after a new operation; whatever was undone before cannot be redone any more."""
    done = (*record.journal.done, op_id)
    journal = JournalRecord(done=done, last=op_id, applying=Applying(op=op_id, side="after"))
    return _moved(record, journal, meta, 1)


def with_undone(record: StoreRecord, meta: OperationRecord) -> StoreRecord:
    """Record after the last operation was undone."""
    *done, op_id = record.journal.done
    undone = (*record.journal.undone, op_id)
    return _moved(record, _switched(record, tuple(done), undone, "before", op_id), meta, -1)


def with_redone(record: StoreRecord, meta: OperationRecord) -> StoreRecord:
    """Record after the operation undone last was done again."""
    *undone, op_id = record.journal.undone
    done = (*record.journal.done, op_id)
    return _moved(record, _switched(record, done, tuple(undone), "after", op_id), meta, 1)


def settled(record: StoreRecord, *, clean: bool) -> StoreRecord:
    """Record when all chunks are in place; ``clean`` if the coarser levels follow them too."""
    journal = record.journal.model_copy(update={"applying": None})
    update = {"journal": journal, "dirty": {} if clean else record.dirty}
    return record.model_copy(update=update)


def without(record: StoreRecord, dropped: tuple[int, ...]) -> StoreRecord:
    """Record that knows these oldest operations no more."""
    done = record.journal.done[len(dropped) :]
    journal = record.journal.model_copy(update={"done": done})
    return record.model_copy(update={"journal": journal})


def operation(op_id: int, meta: OperationRecord, *, undone: bool) -> Operation:
    """One line of the history."""
    return Operation(
        id=op_id,
        what=meta.what,
        who=meta.who,
        when=meta.when,
        task=meta.task,
        region=Region(*meta.region),
        undone=undone,
    )


def _switched(
    record: StoreRecord,
    done: tuple[int, ...],
    undone: tuple[int, ...],
    side: Literal["before", "after"],
    op_id: int,
) -> JournalRecord:
    applying = Applying(op=op_id, side=side)
    update = {"done": done, "undone": undone, "applying": applying}
    return record.journal.model_copy(update=update)


def _moved(
    record: StoreRecord, journal: JournalRecord, meta: OperationRecord, sign: int
) -> StoreRecord:
    task: TaskRecord = record.tasks[meta.task]
    update: dict[str, Any] = {
        "pixels": _added(task.pixels, meta.pixels, sign),
        "objects": _added(task.objects, meta.objects, sign),
    }
    if meta.classes is not None:
        now = meta.classes.after if sign > 0 else meta.classes.before
        update["spec"] = task.spec.model_copy(update={"classes": now.classes})
        update["merged"] = now.merged
        update["used"] = tuple(sorted({*task.used, *(spec.value for spec in now.classes)}))
    tasks = {**record.tasks, meta.task: task.model_copy(update=update)}
    dirty = dict(record.dirty)
    if meta.boxes:
        dirty[meta.task] = _few((*dirty.get(meta.task, ()), *meta.boxes))
    return record.model_copy(update={"tasks": tasks, "journal": journal, "dirty": dirty})


def _few(boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    """These boxes, or one around them all where they are too many to keep."""
    if len(boxes) <= MAX_DIRTY:
        return boxes
    y, x = min(box[0] for box in boxes), min(box[1] for box in boxes)
    y1, x1 = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return ((y, x, y1 - y, x1 - x),)


def _added(totals: Mapping[str, int], moved: Mapping[str, int], sign: int) -> dict[str, int]:
    sums = {key: totals.get(key, 0) + sign * moved.get(key, 0) for key in {*totals, *moved}}
    return {key: sums[key] for key in sorted(sums, key=int) if sums[key] > 0}
