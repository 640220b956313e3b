"""What the totals and the history of a store become when an operation is done or undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_genselfdiff.annotation.schema import Applying, JournalRecord, StoreRecord, TaskRecord
from napari_genselfdiff.annotation.window import Operation
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_genselfdiff.annotation.schema import OperationRecord


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
    update = {
        "pixels": _added(task.pixels, meta.pixels, sign),
        "objects": _added(task.objects, meta.objects, sign),
    }
    tasks = {**record.tasks, meta.task: task.model_copy(update=update)}
    dirty = {**record.dirty, meta.task: (*record.dirty.get(meta.task, ()), *meta.boxes)}
    return record.model_copy(update={"tasks": tasks, "journal": journal, "dirty": dirty})


def _added(totals: Mapping[str, int], moved: Mapping[str, int], sign: int) -> dict[str, int]:
    sums = {key: totals.get(key, 0) + sign * moved.get(key, 0) for key in {*totals, *moved}}
    return {key: sums[key] for key in sorted(sums, key=int) if sums[key] > 0}
