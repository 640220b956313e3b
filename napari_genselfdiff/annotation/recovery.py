"""What a session that ended unexpectedly left: made whole, told, and kept or undone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.annotation.commit import bounding_box, read_window
from napari_genselfdiff.annotation.sheltered import ShelteredStore
from napari_genselfdiff.errors import ConfigError, StoreCorruptError, StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.journal import Side
    from napari_genselfdiff.annotation.schema import OperationRecord
    from napari_genselfdiff.annotation.window import Operation, Window

REPLAYED = 64  # newest operations checked after a crash: what a power cut can have taken back


class Recovery:
    """What was found when annotations were opened that nobody had closed; ask the user about it.

    Until one of :meth:`keep` and :meth:`discard` is called (or the annotations are closed) the next
    start after another crash asks about the same steps again.

    Parameters
    ----------
    store
        The open annotations.
    text
        What was recovered, in one or two sentences.
    since, top
        Newest number given out, and newest operation done, when they were last closed (0 for none).
    """

    def __init__(self, store: RecoveringStore, text: str, since: int, top: int) -> None:
        self._store, self.since, self._top = store, since, top
        self.text = text

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Steps made since the annotations were last closed and still done, oldest first."""
        history = self._store.history
        return tuple(
            history[at] for at, op in enumerate(history.ids[: history.done]) if op > self.since
        )

    @property
    def places(self) -> tuple[tuple[str, Region], ...]:
        """Task and region (of its grid) of every step that changed pixels, oldest first."""
        places = (self._store.changed_region(op.id) for op in self.operations)
        return tuple(place for place in places if place is not None)

    def before(self, task: str, region: Region) -> Window:
        """Annotations of a region (task's grid) as they were when they were last closed.

        Raises
        ------
        ConfigError
            If nothing of the region lies on the slide.
        StoreCorruptError
            If one of the steps is damaged on disk.
        """
        return self._store.read_without(task, region, [op.id for op in self.operations])

    def after(self, task: str, region: Region) -> Window:
        """Annotations of a region as they are now. Errors as for :meth:`before`."""
        return self._store.read_without(task, region, [])

    def keep(self) -> None:
        """Keep everything as it is, and ask no more."""
        self._store.settle_recovery()

    def discard(self) -> None:
        """Go back to how it was when last closed; *redo* brings every step back until then.

        Raises
        ------
        StoreError
            If the disk refuses or an undo step is damaged on the way.
        """
        history, last = self._store.history, self._top
        kept = [op for op in history.ids[: history.done] if op <= self.since]
        undone = history.ids[history.done :]
        if len(kept) < history.done or last not in undone:
            last = kept[-1] if kept else 0
        self._store.go_to(last or None)
        self._store.settle_recovery()


class RecoveringStore(ShelteredStore):
    """A store that finishes what was interrupted when it is opened."""

    recovery: Recovery | None = None
    """What was recovered at opening; None if there was nothing, or once the user has decided."""

    @property
    def recovered(self) -> str:
        """What was recovered, in words; empty if nothing was or the user has decided."""
        return self.recovery.text if self.recovery is not None else ""

    def settle_recovery(self) -> None:
        """Ask no more about what was recovered: the present state is what was meant."""
        self.recovery = None
        with suppress(StoreError):  # at worst the same is asked again
            self._note_start(self._record.journal.last, self._top)

    @property
    def _top(self) -> int:
        return self._record.journal.done[-1] if self._record.journal.done else 0

    def _note_start(self, since: int, top: int) -> None:
        if self._lock is not None:
            self._lock.note(since=since, top=top)

    def changed_region(self, op_id: int) -> tuple[str, Region] | None:
        """Task of an operation and the rectangle around what it changed; None for no pixels."""
        meta = self._describe(op_id)
        return (
            (meta.task, bounding_box([Region(*box) for box in meta.boxes])) if meta.boxes else None
        )

    def read_without(self, task_name: str, region: Region, op_ids: list[int]) -> Window:
        """Annotations of a region as they would be without the newest operations (oldest first).

        Raises
        ------
        ConfigError
            If nothing of the region lies on the slide.
        StoreCorruptError
            If the file of one of them is damaged.
        """
        arrays = self._task(task_name)
        inside = region.clipped(arrays.shape)
        if inside is None:
            raise ConfigError(f"{region} is outside the task's grid of {arrays.shape} pixels")
        window = read_window(arrays, inside)
        shown = {
            "classes": window.classes,
            "provenance": window.provenance,
            "objects": window.objects,
        }
        for op_id in reversed(op_ids):  # the oldest has the last word
            meta = self._describe(op_id)
            if meta.task != task_name or not _touches(meta, inside):
                continue
            for key, before, _ in self._journal.sides(op_id, f"labels/{task_name}."):
                name = key.split("/")[1].rpartition(".")[2]
                values: Any = shown.get(name)
                if values is not None and not key.endswith(".json"):
                    arrays.stored[name].paste(key, before, values, (inside.y, inside.x))
        return window

    def _recover(self, left: dict[str, str] | None) -> None:
        """Finish what was interrupted, check the newest chunks after a crash, clean up."""
        journal = self._record.journal
        repaired = self.finish_interrupted(replay=left is not None)
        since, top = _noted(left, "since", journal.last), _noted(left, "top", self._top)
        if left is not None or journal.applying is not None:
            interrupted = journal.applying is not None or repaired > 0
            self.recovery = Recovery(self, "", since, top)
            self.recovery.text = _told(interrupted, len(self.recovery.operations))
        self._note_start(since, top)

    def _replay(self) -> int:
        """Put back chunks a power cut took; the number of them."""
        journal = self._record.journal
        newest: list[tuple[int, Side]] = [
            (op, "after") for op in reversed(journal.done[-REPLAYED:])
        ]
        newest += [(op, "before") for op in reversed(journal.undone[-REPLAYED:])]
        sides: list[tuple[int, Side]] = []
        metas: list[OperationRecord] = []
        for op_id, side in newest:
            try:
                metas.append(self._describe(op_id))
            except StoreCorruptError:
                continue  # the annotations do not depend on it, undo ends there
            sides.append((op_id, side))
        repaired = len(self._journal.restore(sides))
        if repaired:
            dirty = {name: list(boxes) for name, boxes in self._record.dirty.items()}
            for meta in metas:
                dirty.setdefault(meta.task, []).extend(meta.boxes)
            update = {"dirty": {name: tuple(boxes) for name, boxes in dirty.items()}}
            self._record = self._record.model_copy(update=update)
        return repaired


def _touches(meta: OperationRecord, region: Region) -> bool:
    """Whether an operation changed pixels of a region."""
    return any(Region(*box).intersection(region) is not None for box in meta.boxes)


def _noted(left: dict[str, str] | None, name: str, otherwise: int) -> int:
    """A number an earlier owner noted."""
    text = (left or {}).get(name, "")
    return int(text) if text.isdecimal() and len(text) < 12 else otherwise


def _told(interrupted: bool, steps: int) -> str:
    """What was recovered, for the screen."""
    text = "The program ended unexpectedly; every saved step is there."
    if interrupted:
        text = "The last step was interrupted; it was completed and nothing is lost."
    if not steps:
        return text
    counted = "1 step was" if steps == 1 else f"{steps:,} steps were"
    return f"{text} {counted} made since the annotations were last closed."
