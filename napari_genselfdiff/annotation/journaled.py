"""The part of a store that makes changes last: commits, undo, redo, recovery after a crash."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psygnal import Signal, SignalGroup

from napari_genselfdiff.annotation.arrays import TaskArrays
from napari_genselfdiff.annotation.commit import Staged, Staging, bounding_box
from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.journal import Journal
from napari_genselfdiff.annotation.ledger import (
    operation,
    settled,
    with_done,
    with_redone,
    with_undone,
    without,
)
from napari_genselfdiff.annotation.schema import MAX_ID, OperationRecord, StoreRecord, write_record
from napari_genselfdiff.errors import ConfigError, StoreCorruptError, StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from napari_genselfdiff.annotation.journal import ReadyChunks
    from napari_genselfdiff.annotation.lock import StoreLock
    from napari_genselfdiff.annotation.window import Operation, Window

QUOTA = 2**30  # bytes of undo steps kept
REPLAYED = 64  # newest operations checked after a crash: what a power cut can have taken back


class StoreEvents(SignalGroup):
    """``changed(task, region of the task's grid)``; ``notice(text)`` for the status line."""

    changed = Signal(str, object)
    notice = Signal(str)


class JournaledStore:
    """A store's folder, record and journal.

    Parameters
    ----------
    path
        Folder of the store.
    record
        What its root says.
    lock
        The right to write, or None.
    author
        Who is working; written into the history.
    """

    def __init__(
        self, path: Path, record: StoreRecord, lock: StoreLock | None, author: str
    ) -> None:
        self.path, self.author = path, author
        self.events = StoreEvents()
        self.recovered = ""
        self.quota = QUOTA
        self._record, self._lock = record, lock
        self._journal = Journal(path)
        self._arrays = {n: TaskArrays(path, t, record.slide) for n, t in record.tasks.items()}
        self._described: dict[int, OperationRecord] = {}

    @property
    def read_only(self) -> bool:
        """Whether writing is refused (opened so, or closed)."""
        return self._lock is None

    def close(self) -> None:
        """Let go of the store; everything is saved already."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    @property
    def history(self) -> list[Operation]:
        """Operations that can be undone, oldest first, then those that can be redone."""
        journal = self._record.journal
        done = [operation(i, self._describe(i), undone=False) for i in journal.done]
        undone = [operation(i, self._describe(i), undone=True) for i in reversed(journal.undone)]
        return done + undone

    def model_hashes(self, task_name: str) -> tuple[str, ...]:
        """Models whose predictions the history of a task still holds, the first one first.

        Steps that are damaged on disk are passed over: what they made is there all the same.
        """
        hashes: dict[str, None] = {}
        for op_id in self._record.journal.done:
            with suppress(StoreError):
                meta = self._describe(op_id)
                if meta.task == task_name and meta.model_hash is not None:
                    hashes[meta.model_hash] = None
        return tuple(hashes)

    def undo(self) -> Operation | None:
        """Take back the last operation, whatever it was; None if there is none.

        Raises
        ------
        StoreError
            If the disk refuses or the undo step is damaged; nothing has changed then.
        """
        self._check_writable()
        if not self._record.journal.done:
            return None
        op_id = self._record.journal.done[-1]
        with disk_errors("undo"):
            meta = self._describe(op_id)
            ready = self._journal.ready(op_id, "before")
            self._enact(ready, with_undone(self._record, meta))
        self._changed(meta)
        return operation(op_id, meta, undone=True)

    def redo(self) -> Operation | None:
        """Do again what was undone last; None if there is nothing. Errors as for :meth:`undo`."""
        self._check_writable()
        if not self._record.journal.undone:
            return None
        op_id = self._record.journal.undone[-1]
        with disk_errors("redo"):
            meta = self._describe(op_id)
            ready = self._journal.ready(op_id, "after")
            self._enact(ready, with_redone(self._record, meta))
        self._changed(meta)
        return operation(op_id, meta, undone=False)

    def _commit(
        self,
        task_name: str,
        what: str,
        windows: Iterable[Window],
        *,
        region: Region,
        model_hash: str | None = None,
    ) -> int:
        """Make windows (no two on one chunk) one operation; the pixels it changed, 0 for none."""
        self._check_writable()
        staged = self._stage(task_name, what, windows, region=region, model_hash=model_hash)
        return 0 if staged is None else self._land(staged)

    def _stage(
        self,
        task_name: str,
        what: str,
        windows: Iterable[Window],
        *,
        region: Region,
        model_hash: str | None = None,
    ) -> Staged | None:
        """Make an operation ready beside the annotations, which stay as they are; None for none."""
        with disk_errors("save the annotations"), self._journal.begin() as transaction:
            staging = Staging(self._arrays[task_name], transaction)
            for window in windows:
                staging.add(window)
            if not staging.boxes:
                return None
            staging.finish()
            meta = OperationRecord(
                what=what,
                who=self.author,
                when=datetime.now(UTC).isoformat(timespec="seconds"),
                task=task_name,
                region=_box(region),
                boxes=tuple(_box(box) for box in staging.boxes),
                model_hash=model_hash,
                pixels=dict(staging.pixels),
                objects=dict(staging.objects),
            )
            transaction.seal(meta)
        return Staged(transaction, meta, staging.changed)

    def _land(self, staged: Staged) -> int:
        """Make a staged operation real; the pixels it changed."""
        dropped, op_id = self._record.journal.undone, self._record.journal.last + 1
        with disk_errors("save the annotations"):
            try:
                staged.transaction.name(op_id)
                self._enact(staged.transaction.ready, with_done(self._record, op_id, staged.meta))
            except BaseException:
                staged.transaction.discard()
                raise
        self._described[op_id] = staged.meta
        self._make_room(dropped)
        self._changed(staged.meta)
        return staged.changed

    def _enact(self, ready: ReadyChunks, record: StoreRecord) -> None:
        """Commit a record, move its chunks into place, and let the coarser levels follow."""
        try:
            self._save(record)
        except BaseException:
            ready.remove()
            raise
        ready.install()
        self._follow()

    def _follow(self, *, align: bool = False) -> None:
        """Rebuild coarser levels where level 0 is ahead; on a full disk later, with a notice."""
        clean = True
        try:
            with disk_errors("update the overview of the annotations"):
                for name, boxes in self._record.dirty.items():
                    for box in boxes:
                        self._arrays[name].rebuild(Region(*box), align=align)
        except StoreError as err:
            clean = False
            self.events.notice.emit(f"{err}. The annotations themselves are saved.")
        record = settled(self._record, clean=clean)
        try:
            write_record(self.path, record, durable=False)
        except StoreError as err:
            self.events.notice.emit(f"{err}. The annotations themselves are saved.")
            return  # the old record says that chunks may be missing: opening checks them again
        self._record = record

    def _make_room(self, dropped: tuple[int, ...]) -> None:
        """Forget what can no longer be redone, and the oldest steps beyond the quota."""
        with disk_errors("remove old undo steps"):
            self._journal.forget(dropped)
            old = self._journal.over_quota(self._record.journal.done, self.quota)
            if old:
                self._save(without(self._record, old))
                self._journal.forget(old)
                self.events.notice.emit(
                    f"The oldest {len(old)} steps can no longer be undone: undo has its "
                    f"{self.quota / 2**20:.0f} MB of disk. The annotations are complete."
                )

    def _recover(self, *, unclean: bool) -> None:
        """Finish what was interrupted, check the newest chunks after a crash, clean up."""
        journal, repaired = self._record.journal, 0
        with disk_errors("recover the annotations"):
            if journal.applying is not None:
                self._journal.ready(journal.applying.op, journal.applying.side).install()
            if unclean:
                repaired = self._replay(journal.done[-REPLAYED:])
            self._journal.clean((*journal.done, *journal.undone))
        if journal.applying is not None or repaired:
            self.recovered = "The last step was interrupted; it was completed and nothing is lost."
        elif unclean:
            self.recovered = "The program ended unexpectedly; every saved step is there."
        if journal.applying is not None or self._record.dirty:
            self._follow(align=True)

    def _replay(self, newest: tuple[int, ...]) -> int:
        """Put back chunks a power cut took; the number of them."""
        metas = {}
        for op_id in reversed(newest):
            try:
                metas[op_id] = self._describe(op_id)
            except StoreCorruptError:
                break  # older steps end here; the annotations do not depend on them
        repaired = len(self._journal.restore(metas))
        if repaired:
            dirty = {name: list(boxes) for name, boxes in self._record.dirty.items()}
            for meta in metas.values():
                dirty.setdefault(meta.task, []).extend(meta.boxes)
            update = {"dirty": {name: tuple(boxes) for name, boxes in dirty.items()}}
            self._record = self._record.model_copy(update=update)
        return repaired

    def _allocate(self, n: int) -> int:
        """Reserve n object ids, never given out again, and give the first."""
        first = self._record.next_id
        if first + n > MAX_ID:
            raise StoreError(
                "all object ids of these annotations are used up; export them and start anew"
            )
        self._record = self._record.model_copy(update={"next_id": first + n})
        return first

    def _save(self, record: StoreRecord) -> None:
        write_record(self.path, record)
        self._record = record

    def _describe(self, op_id: int) -> OperationRecord:
        if op_id not in self._described:
            self._described[op_id] = self._journal.describe(op_id)
        return self._described[op_id]

    def _changed(self, meta: OperationRecord) -> None:
        self.events.changed.emit(meta.task, bounding_box([Region(*box) for box in meta.boxes]))

    def _check_writable(self) -> None:
        if self._lock is None:
            raise StoreError(
                f"the annotations {self.path.name} are open read-only; "
                "close them in the other window, or open them here for writing"
            )
        applying = self._record.journal.applying
        if applying is not None:  # the disk failed in the middle of the last step
            with disk_errors("complete the last step"):
                self._journal.ready(applying.op, applying.side).install()
            self._follow()

    def _task(self, task_name: str) -> TaskArrays:
        if task_name not in self._arrays:
            raise ConfigError(
                f"these annotations have no task {task_name!r}, only {sorted(self._arrays)}"
            )
        return self._arrays[task_name]


def _box(region: Region) -> tuple[int, int, int, int]:
    return region.y, region.x, region.height, region.width
