"""The part of a store that makes changes last: what is written, and what follows."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_genselfdiff.annotation.arrays import TaskArrays
from napari_genselfdiff.annotation.background import Background
from napari_genselfdiff.annotation.commit import Staged, Staging, bounding_box, joined
from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.events import StoreEvents
from napari_genselfdiff.annotation.files import Files
from napari_genselfdiff.annotation.history import History
from napari_genselfdiff.annotation.journal import MAX_STEPS, Journal
from napari_genselfdiff.annotation.ledger import (
    settled,
    with_done,
    without,
)
from napari_genselfdiff.annotation.looks import Look, LookArchive, LookKind, look_of
from napari_genselfdiff.annotation.schema import (
    MAX_ID,
    ROOT_FILE,
    OperationRecord,
    StoreRecord,
    record_bytes,
)
from napari_genselfdiff.errors import ConfigError, StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from napari_genselfdiff.annotation.journal import ReadyChunks
    from napari_genselfdiff.annotation.lock import StoreLock
    from napari_genselfdiff.annotation.window import Window

QUOTA = 2**30  # bytes of undo steps kept


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
    files
        What it is read through; by default the files of the folder.
    """

    def __init__(
        self,
        path: Path,
        record: StoreRecord,
        lock: StoreLock | None,
        author: str,
        files: Files | None = None,
    ) -> None:
        self.path, self.author = path, author
        self.events = StoreEvents()
        self.background = Background(self.events)
        self.quota = QUOTA
        self._record, self._lock = record, lock
        self.files = Files(path) if files is None else files
        self._journal = Journal(self.files)
        self._look_archive = LookArchive(self.files)
        self._arrays = {n: TaskArrays(self.files, t, record.slide) for n, t in record.tasks.items()}
        self._described: dict[int, OperationRecord] = {}
        self._overview_waits = 0  # boxes that may be behind

    @property
    def read_only(self) -> bool:
        """Whether writing is refused (opened so, or closed)."""
        return self._lock is None

    def close(self) -> None:
        """Let go of the store; everything is saved already."""
        self.background.settle()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def overview_later(self, most: int = 4) -> Iterator[None]:
        """Let coarser levels follow once for up to ``most`` boxes, for many steps in a row.

        Until then they are behind; whatever ends this process, the next one catches up.
        """
        self._overview_waits = most
        try:
            yield
        finally:
            self._overview_waits = 0
            cut_off = self._record.journal.applying is not None  # the disk failed within a step
            if self._lock is not None and self._record.dirty and not cut_off:
                self._follow()

    @property
    def history(self) -> History:
        """Operations that can be undone, oldest first, then those that can be redone.

        It costs nothing until somebody looks at an operation.
        """
        return History(self._record.journal, self._describe)

    def _commit(
        self,
        task_name: str,
        what: str,
        windows: Iterable[Window],
        *,
        region: Region,
        model_hash: str | None = None,
        look: LookKind = "none",
        stored: Window | None = None,
    ) -> int:
        """Make windows (no two on one chunk) one operation; the pixels it changed, 0 for none.

        ``stored`` is what lies in whole chunks around the windows, where it was read already.
        """
        self._check_writable()
        staged = self._stage(
            task_name, what, windows, stored, region=region, model_hash=model_hash, look=look
        )
        return 0 if staged is None else self._land(staged)

    def _stage(
        self,
        task_name: str,
        what: str,
        windows: Iterable[Window],
        stored: Window | None = None,
        *,
        region: Region,
        model_hash: str | None = None,
        look: LookKind = "none",
    ) -> Staged | None:
        """Make an operation ready beside the annotations, which stay as they are; None for none."""
        with disk_errors("save the annotations"), self._journal.begin() as transaction:
            staging = Staging(self._arrays[task_name], transaction)
            for window in windows:
                staging.add(window, stored)
            if not staging.boxes:
                return None
            staging.finish()
            meta = self._describing(
                what=what,
                task=task_name,
                region=_box(region),
                boxes=tuple(_box(box) for box in staging.boxes),
                model_hash=model_hash,
                pixels=dict(staging.pixels),
                objects=dict(staging.objects),
                look=look,
            )
            transaction.seal(meta)
        return Staged(transaction, meta, staging.changed)

    def _describing(self, **facts: Any) -> OperationRecord:
        """Record of an operation that is made now, by whoever works here."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        return OperationRecord(who=self.author, when=when, uid=uuid4().hex, **facts)

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
            self._follow()
        self._described[op_id] = staged.meta
        self._make_room(dropped)
        self._changed(staged.meta)
        return staged.changed

    def _enact(self, ready: ReadyChunks, record: StoreRecord) -> None:
        """Commit a record and move its chunks into place; the coarser levels have to follow."""
        try:
            self._save(record)
        except BaseException:
            ready.remove()
            raise
        ready.install()
        self._record = settled(record, clean=False)  # in memory; what is on disk does no harm

    def _follow(self, *, align: bool = False) -> None:
        """Rebuild coarser levels where level 0 is ahead; on a full disk later, with a notice."""
        behind = sum(map(len, self._record.dirty.values()))
        clean = behind >= self._overview_waits and self._rebuild_overview(align=align)
        record = settled(self._record, clean=clean)
        try:
            with disk_errors("save the annotations"):
                self.files.write(ROOT_FILE, record_bytes(record))
        except StoreError as err:
            self.events.notice.emit(f"{err}. The annotations themselves are saved.")
            return  # the old record says that chunks may be missing: opening checks them again
        self._record = record

    def _rebuild_overview(self, *, align: bool) -> bool:
        """Bring coarser levels up to date; False, with a notice, if the disk refuses."""
        try:
            with disk_errors("update the overview of the annotations"):
                for name, boxes in self._record.dirty.items():
                    for box in joined([Region(*box) for box in boxes]):
                        self._arrays[name].rebuild(box, align=align)
        except StoreError as err:
            self.events.notice.emit(f"{err}. The annotations themselves are saved.")
            return False
        return True

    def _make_room(self, dropped: tuple[int, ...]) -> None:
        """Forget what can no longer be redone, and the oldest steps beyond the quota."""
        if self.files.aside is not None:
            return  # what is at home stays as it is until this goes back there
        try:
            with disk_errors("remove old undo steps"):
                self._journal.forget(dropped)
                self._drop(self._journal.over_quota(self._record.journal.done, self.quota))
        except StoreError as err:
            self.events.notice.emit(f"{err}. Everything is saved.")

    def _drop(self, old: tuple[int, ...]) -> None:
        """Forget these oldest steps, but not who looked where."""
        if not old:
            return
        self._look_archive.add(self._looks_of(old))
        self._save(without(self._record, old))
        self._journal.forget(old)
        for op_id in old:
            self._described.pop(op_id, None)
        self.events.notice.emit(
            f"The oldest {len(old)} steps can no longer be undone: undo keeps {MAX_STEPS:,} steps "
            f"and {self.quota / 2**20:.0f} MB of disk. The annotations are complete."
        )

    def _looks_of(self, op_ids: Iterable[int]) -> Iterator[Look]:
        """Looks among operations of the journal; steps that are damaged on disk are passed over."""
        for op_id in op_ids:
            with suppress(StoreError):
                look = look_of(op_id, self._describe(op_id))
                if look is not None:
                    yield look

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
        with disk_errors(f"save the annotations {self.path.name}"):
            self.files.write(ROOT_FILE, record_bytes(record), durable=True)
        self._record = record

    def _describe(self, op_id: int) -> OperationRecord:
        if op_id not in self._described:
            self._described[op_id] = self._journal.describe(op_id)
        return self._described[op_id]

    def _changed(self, *metas: OperationRecord) -> None:
        """Tell listeners, once a task."""
        boxes: dict[str, list[Region]] = {}
        for meta in metas:
            boxes.setdefault(meta.task, []).extend(Region(*box) for box in meta.boxes)
        for task in dict.fromkeys(meta.task for meta in metas if meta.classes is not None):
            self.events.tasks_changed.emit(task)
        for task, changed in boxes.items():
            if changed:
                self.events.changed.emit(task, bounding_box(changed))
        self.events.history_changed.emit()

    def _check_writable(self) -> None:
        """Wait until nobody else writes; StoreError if nobody may."""
        self.background.settle()
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
