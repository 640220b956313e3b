"""The part of a store that goes back and forth in its history: undo, redo, any step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.journaled import JournaledStore
from napari_genselfdiff.annotation.ledger import operation, with_redone, with_undone
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.schema import OperationRecord
    from napari_genselfdiff.annotation.window import Operation


class WalkedStore(JournaledStore):
    """A store whose steps can be undone and redone."""

    def undo(self) -> Operation | None:
        """Take back the last operation, whatever it was; None if there is none.

        Raises
        ------
        StoreError
            If the disk refuses or the undo step is damaged; nothing has changed then.
        """
        self._check_writable()
        done = self._record.journal.done
        if not done:
            return None
        (meta,) = self._walk(1, -1)
        return operation(done[-1], meta, undone=True)

    def redo(self) -> Operation | None:
        """Do again what was undone last; None if there is nothing. Errors as for :meth:`undo`."""
        self._check_writable()
        undone = self._record.journal.undone
        if not undone:
            return None
        (meta,) = self._walk(1, 1)
        return operation(undone[-1], meta, undone=False)

    def go_to(self, op_id: int | None) -> int:
        """Undo or redo until an operation is the newest one done (None: until all are undone).

        Listeners hear of it once a task, at the end.

        Parameters
        ----------
        op_id
            Number of an operation of the history.

        Returns
        -------
        int
            How many operations were done again; negative for undone.

        Raises
        ------
        ConfigError
            If the history has no such operation; nothing has changed then.
        StoreError
            If the disk refuses or an undo step is damaged on the way; what came before that is
            done, and told.
        """
        self._check_writable()
        journal = self._record.journal
        if op_id is None or op_id in journal.done:
            at = -1 if op_id is None else journal.done.index(op_id)
            steps = at + 1 - len(journal.done)
        elif op_id in journal.undone:
            steps = len(journal.undone) - journal.undone.index(op_id)
        else:
            raise ConfigError(f"the history holds no step {op_id} any more; choose another one")
        self._walk(abs(steps), 1 if steps > 0 else -1)
        return steps

    def _walk(self, steps: int, direction: Literal[-1, 1]) -> list[OperationRecord]:
        """Redo (1) or undo (-1) so many operations; what depends on them follows at the end."""
        self._check_writable()
        metas: list[OperationRecord] = []
        try:
            for _ in range(steps):
                metas.append(self._step(direction))  # noqa: PERF401  (those before a failure count)
        finally:
            if self._record.journal.applying is None:  # else the disk failed within a step
                self._follow()
            if metas:
                self._changed(*metas)
        return metas

    def _step(self, direction: Literal[-1, 1]) -> OperationRecord:
        journal = self._record.journal
        op_id = journal.undone[-1] if direction > 0 else journal.done[-1]
        with disk_errors("redo" if direction > 0 else "undo"):
            meta = self._describe(op_id)
            move = with_redone if direction > 0 else with_undone
            ready = self._journal.ready(op_id, "after" if direction > 0 else "before")
            self._enact(ready, move(self._record, meta))
        return meta
