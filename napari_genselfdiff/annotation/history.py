"""The history as people read it: one line an operation, described only when somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from napari_genselfdiff.annotation.ledger import operation
from napari_genselfdiff.annotation.window import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_genselfdiff.annotation.schema import JournalRecord, OperationRecord


class History(Sequence[Operation]):
    """Operations that can be undone, oldest first, then those that can be redone, next one first.

    It is the history at one moment and does not change; asking for the length costs nothing, and
    each operation is read from disk when it is first looked at. Equal to any sequence of the same
    operations.

    Raises
    ------
    StoreCorruptError
        When an operation is looked at whose file is damaged.
    """

    def __init__(self, journal: JournalRecord, describe: Callable[[int], OperationRecord]) -> None:
        self._ids = (*journal.done, *reversed(journal.undone))
        self.done = len(journal.done)
        self._describe = describe

    @property
    def ids(self) -> tuple[int, ...]:
        """Number of every operation; nothing is read for it."""
        return self._ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Operation: ...

    @overload
    def __getitem__(self, index: slice) -> list[Operation]: ...

    def __getitem__(self, index: int | slice) -> Operation | list[Operation]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        op_id = self._ids[at]
        return operation(op_id, self._describe(op_id), undone=at >= self.done)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, History) and (self._ids, self.done) != (other.ids, other.done):
            return False
        if not isinstance(other, Sequence):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"History({list(self)!r})"
