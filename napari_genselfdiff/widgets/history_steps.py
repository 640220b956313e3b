"""The history as one reads it: newest on top, equal steps in one line, fetched as one scrolls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt

from napari_genselfdiff.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.annotation.window import Operation

State = Literal["single", "folded", "unfolded", "part"]
PAGE: Final = 64
"""Operations described at once."""
STEP: Final = int(Qt.ItemDataRole.UserRole)
BEGINNING: Final = "Before these steps"
DAMAGED: Final = "Older steps cannot be read"
_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history.

    Parameters
    ----------
    count
        Equal operations in this line, one after the other.
    op
        Number of the operation that is the last one done once one has gone here; None for the
        state before all of them.
    can_go
        Whether a click goes here.
    group
        Number of the newest operation of its group, to fold and unfold it; 0 for none.
    state
        ``folded`` and ``unfolded`` groups, ``part`` of an unfolded one, ``single`` otherwise.
    """

    what: str
    about: str
    count: int
    op: int | None
    undone: bool
    is_current: bool
    can_go: bool = True
    group: int = 0
    state: State = "single"
    tip: str = ""

    @property
    def title(self) -> str:
        """What was done, and how often in a row."""
        return f"{self.what} × {self.count}" if self.count > 1 else self.what


class HistoryModel(QAbstractListModel):
    """Lines of a history; operations are looked at only when their lines come into sight."""

    def __init__(self) -> None:
        super().__init__()
        self._history: Sequence[Operation] = ()
        self._done = 0
        self._read: list[Operation] = []  # newest first
        self._unfolded: set[int] = set()
        self._damaged = False
        self._steps: list[Step] = []

    def set_history(self, history: Sequence[Operation], done: int) -> None:
        """Show another history, of which ``done`` operations are not undone.

        As much as was looked at before is looked at again, so that the list keeps its place.
        """
        wanted = max(PAGE, len(self._read))
        self.beginResetModel()
        self._history, self._done = history, done
        self._read, self._damaged = [], False
        self._look(wanted)
        self._steps = self._lines()
        self.endResetModel()

    def step(self, row: int) -> Step:
        """One line."""
        return self._steps[row]

    def toggle(self, row: int) -> None:
        """Fold or unfold the group of a line."""
        group = self._steps[row].group
        if group:
            self._unfolded ^= {group}
            self.beginResetModel()
            self._steps = self._lines()
            self.endResetModel()

    # -- Qt's names -----------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Lines there are so far."""
        return 0 if parent is not None and parent.isValid() else len(self._steps)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Line as text, its explanation, or the :class:`Step` itself."""
        if not index.isValid():
            return None
        step = self._steps[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{step.title}, {step.about}" if step.about else step.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return step.tip
        return step if role == STEP else None

    def canFetchMore(self, _parent: QModelIndex | None = None) -> bool:
        """Whether there are older operations nobody has scrolled to."""
        return not self._damaged and len(self._read) < len(self._history)

    def fetchMore(self, _parent: QModelIndex | None = None) -> None:
        """Look at the next older operations."""
        before = len(self._steps)
        self._look(PAGE)
        after = self._lines()
        if len(after) > before:
            self.beginInsertRows(QModelIndex(), before, len(after) - 1)
            self._steps = after
            self.endInsertRows()
        else:
            self._steps = after
        if before:  # its last lines may have become a longer group
            self.dataChanged.emit(self.index(0, 0), self.index(before - 1, 0))

    # -- lines ----------------------------------------------------------------------------------

    def _look(self, number: int) -> None:
        """Describe some more operations, newest first."""
        total = len(self._history)
        for at in range(len(self._read), min(len(self._read) + number, total)):
            try:
                self._read.append(self._history[total - 1 - at])
            except StoreError:
                self._damaged = True
                return

    def _lines(self) -> list[Step]:
        lines: list[Step] = []
        total, start = len(self._history), 0
        while start < len(self._read):
            end = start + 1
            while end < len(self._read) and _equal(self._read[end], self._read[start]):
                end += 1
            lines += self._group(start, end, total)
            start = end
        if self._damaged:
            lines.append(Step(DAMAGED, "", 1, None, False, False, can_go=False))
        elif not self.canFetchMore() and total:
            tip = "Go back to before everything that can be undone"
            lines.append(Step(BEGINNING, "", 1, None, False, self._done == 0, tip=tip))
        return lines

    def _group(self, start: int, end: int, total: int) -> list[Step]:
        """Lines of equal operations: one, or one and each of them."""
        newest, count = self._read[start], end - start
        if count == 1:
            return [self._line(newest, 1, total - start)]
        is_open = newest.id in self._unfolded
        state: State = "unfolded" if is_open else "folded"
        head = self._line(newest, count, total - start, group=newest.id, state=state)
        if not is_open:
            return [head]
        parts = [
            self._line(self._read[at], 1, total - at, group=newest.id, state="part")
            for at in range(start, end)
        ]
        return [head, *parts]

    def _line(
        self,
        operation: Operation,
        count: int,
        position: int,
        *,
        group: int = 0,
        state: State = "single",
    ) -> Step:
        first = position - count + 1 if state == "folded" else position
        covers = first <= self._done <= position and state != "unfolded"
        when = spoken_time(operation.when)
        click = "do this again" if operation.undone else "go back to right after this"
        return Step(
            what=operation.what,
            about=f"{operation.task} · {operation.who} · {when}",
            count=count,
            op=operation.id,
            undone=operation.undone,
            is_current=covers,
            group=group,
            state=state,
            tip=f"{operation.what} in {operation.task}\n{operation.who}, "
            f"{spoken_time(operation.when, with_day=True)}\nClick: {click}",
        )


def spoken_time(when: str, *, with_day: bool = False) -> str:
    """Local time of an ISO time, with the day where it is not today; as it is if it is no time."""
    try:
        time = datetime.fromisoformat(when).astimezone()
    except ValueError:
        return when
    if not with_day and time.date() == datetime.now(time.tzinfo).date():
        return f"{time:%H:%M}"
    day = f"{time.day} {_MONTHS[time.month - 1]}"
    return f"{day} {time:%Y %H:%M}" if with_day else f"{day} {time:%H:%M}"


def _equal(one: Operation, other: Operation) -> bool:
    return (one.what, one.who, one.task, one.undone) == (
        other.what,
        other.who,
        other.task,
        other.undone,
    )
