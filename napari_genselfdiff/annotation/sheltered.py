"""The part of a store that goes on when its folder cannot be written: work is kept aside.

On the first step a disk refuses, everything from that step on goes to a folder of this computer;
the user is told at once. It is brought home by :meth:`ShelteredStore.return_home`, at closing, and
at the next opening, wherever the annotations are then.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import numpy as np

from napari_genselfdiff.annotation.arrays import TABLE_CHUNK
from napari_genselfdiff.annotation.aside import Aside, new_aside
from napari_genselfdiff.annotation.disk import disk_errors, remove_tree
from napari_genselfdiff.annotation.ledger import with_done
from napari_genselfdiff.annotation.lock import StoreLock
from napari_genselfdiff.annotation.schema import StoreRecord, read_record
from napari_genselfdiff.annotation.walked import WalkedStore
from napari_genselfdiff.errors import (
    GenSelfDiffError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal, Self

    from napari_genselfdiff.annotation.schema import OperationRecord

T = TypeVar("T")
_MOST_OBJECTS = 4_000_000  # of these the table is remembered


class ShelteredStore(WalkedStore):
    """A store whose steps are kept on this computer while its folder refuses them."""

    _uid: str | None = None

    @property
    def kept_aside(self) -> Path | None:
        """Folder of this computer where work is kept now; None while the store's own takes it."""
        return self.files.aside

    def check_home(self) -> None:
        """Make sure that everything is in the store's folder; for programs nobody watches.

        Raises
        ------
        StoreError
            If work is kept on this computer: where it is, and what to do.
        """
        if self.files.aside is not None:
            raise StoreError(
                f"the folder {self.path} could not be written; what was done is kept safe in "
                f"{self.files.aside}. Make it writable and open the annotations again, then it "
                "goes there by itself"
            )

    def return_home(self) -> bool:
        """Bring work kept on this computer back into the store's folder; whether it is there now.

        Where the annotations were changed meanwhile nothing is brought: opening them again asks
        the user.

        Raises
        ------
        StoreError
            If the folder still refuses; the work stays where it is.
        """
        self.background.settle()
        folder = self.files.aside
        if folder is None or self._lock is None:
            return folder is None
        if not self.files.is_there():
            raise StoreError(f"the folder {self.path} is gone; connect its drive again")
        lock = self._lock
        if lock.folder != self.path:  # the folder could not be written from the start
            lock = StoreLock(self.path)
        try:
            home = self._brought(Aside(folder), lock)
        except BaseException:
            if lock is not self._lock:
                lock.release()
            raise
        if home is None:
            return False
        self._record, self._lock = home.record, lock
        self.files.come_home()
        self.events.notice.emit(
            f"Your work is back in {self.path.name}; nothing is kept aside any more."
        )
        return True

    def _brought(self, aside: Aside, lock: StoreLock) -> Self | None:
        """The store in its folder once the work is there; None if it was changed meanwhile."""
        home = type(self)(self.path, read_record(self.path), lock, self.author)
        home.finish_interrupted(replay=False)
        if not aside.fits(home):
            return None
        aside.bring(home)
        return home

    def close(self) -> None:
        """Let go of the store, with everything in its folder if that can be written again."""
        if self.files.aside is None:
            super().close()
            return
        with suppress(StoreError):
            self.return_home()
        with suppress(StoreError):  # a drive that is gone cannot be told that we leave
            super().close()

    def finish_interrupted(self, *, replay: bool) -> int:
        """Complete a step that was cut off and clean up; chunks put back if ``replay``."""
        journal, repaired = self._record.journal, 0
        with disk_errors("recover the annotations"):
            if journal.applying is not None:
                self._journal.ready(journal.applying.op, journal.applying.side).install()
            if replay:
                repaired = self._replay()
            self._journal.clean((*journal.done, *journal.undone))
        if journal.applying is not None or self._record.dirty:
            self._follow(align=True)
        return repaired

    def _replay(self) -> int:
        """Put back chunks a power cut took; the number of them."""
        return 0

    # -- going aside ----------------------------------------------------------------------------

    def _commit(self, *args: Any, **options: Any) -> int:
        return self._or_aside(lambda: super(ShelteredStore, self)._commit(*args, **options))

    def _step(self, direction: Literal[-1, 1]) -> OperationRecord:
        return self._or_aside(lambda: super(ShelteredStore, self)._step(direction))

    def _describing(self, **facts: Any) -> OperationRecord:
        meta = super()._describing(**facts)
        # Tried again aside, a step keeps its identity: the first try may have reached the folder.
        return meta if self._uid is None else meta.model_copy(update={"uid": self._uid})

    def _or_aside(self, action: Callable[[], T]) -> T:
        """Do something; if the folder refuses, go aside and do it there.

        Whatever fails there as well leaves everything as after the first failure.
        """
        before, self._uid = self._record, uuid4().hex
        try:
            return action()
        except StoreError as err:
            if self._lock is None or self.files.aside is not None or not of_the_disk(err):
                raise
            failed = self._record
            if not self._go_aside(before, err):
                raise
            try:
                result = action()
            except GenSelfDiffError:
                self._give_up_aside(failed)
                raise err from err.__cause__
            self.events.notice.emit(
                f"{err}. Until then your work is kept safe on this computer, in {self.files.folder}"
            )
            return result
        finally:
            self._uid = None

    def _go_aside(self, record: StoreRecord, err: StoreError) -> bool:
        """Write everything to this computer from now on; False if its disk refuses as well."""
        with suppress(OSError):
            folder = new_aside(self.path, record, str(err))
            self.files.aside = folder
            try:
                self._save(record)
            except BaseException:
                self._give_up_aside(record)
                raise
            return True
        return False

    def _give_up_aside(self, record: StoreRecord) -> None:
        folder, self.files.aside = self.files.aside, None
        self._record = record
        if folder is not None:
            remove_tree(folder)

    def _take_up(self, aside: Aside) -> None:
        """Go on aside, where an earlier session had to."""
        self.files.aside, self._record = aside.folder, aside.record
        self._described.clear()
        self.finish_interrupted(replay=False)

    def _remember_tables(self) -> None:
        """Read the tables once, so that editing can go on when a network drive goes away.

        What is on screen was read to be shown; totals and objects are asked for at the first edit.
        """
        with suppress(StoreError):
            for arrays in self._arrays.values():
                arrays.coverage_totals()
                arrays.rows(
                    np.arange(
                        0,
                        min(self._record.next_id + TABLE_CHUNK, _MOST_OBJECTS),
                        TABLE_CHUNK,
                        dtype=np.uint32,
                    )
                )

    # -- what bringing work home asks for -------------------------------------------------------

    @property
    def record(self) -> StoreRecord:
        """What the root says."""
        return self._record

    def describe(self, op_id: int) -> OperationRecord:
        """What a step of the journal was; StoreCorruptError if its file is damaged."""
        return self._describe(op_id)

    def raise_ids(self, next_id: int) -> None:
        """Give out no object ids below this one any more."""
        next_id = max(next_id, self._record.next_id)
        self._record = self._record.model_copy(update={"next_id": next_id})

    def walk(self, steps: int) -> None:
        """Redo so many steps (negative: undo); nobody is told, coarser levels follow later."""
        for _ in range(abs(steps)):
            WalkedStore._step(self, 1 if steps > 0 else -1)

    def adopt(self, op_id: int) -> None:
        """Do the step whose file was laid into the journal, as the newest one."""
        meta = self._describe(op_id)
        self._enact(self._journal.ready(op_id, "after"), with_done(self._record, op_id, meta))

    def take_undone(self, undone: tuple[int, ...], last: int) -> None:
        """Let these steps, whose files are in the journal, be the ones to redo; and finish."""
        last = max(last, self._record.journal.last)
        journal = self._record.journal.model_copy(update={"undone": undone, "last": last})
        self._save(self._record.model_copy(update={"journal": journal}))
        self._journal.clean((*journal.done, *journal.undone))
        self._follow()


def of_the_disk(err: StoreError) -> bool:
    """Whether a disk refused, and not we."""
    cause = err.__cause__
    if isinstance(err, StoreLockedError | StoreCorruptError):
        return False
    return isinstance(cause, OSError) and not isinstance(cause, GenSelfDiffError)
