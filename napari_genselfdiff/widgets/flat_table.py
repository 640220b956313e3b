"""What tables for Qt have in common when no row has rows of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

if TYPE_CHECKING:
    from collections.abc import Sequence, Sized

_ROLE: Final = Qt.ItemDataRole
LEFT: Final = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
RIGHT: Final = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


class FlatTable(QAbstractTableModel):
    """As many rows as ``rows`` has items, under these titles."""

    rows: Sized

    def __init__(self, titles: Sequence[str]) -> None:
        super().__init__()
        self._titles = titles

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Number of rows shown (Qt's name for it)."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Number of columns (Qt's name for it)."""
        return 0 if parent is not None and parent.isValid() else len(self._titles)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = _ROLE.DisplayRole
    ) -> Any:
        """Titles of the columns, and what else is known of them (Qt's name for it)."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        return self._titles[section] if role == _ROLE.DisplayRole else self.about(section, role)

    def about(self, _column: int, _role: int) -> Any:
        """What a column's title has in another role than its words."""
        return None
