"""The classes of a task for Qt: one line each, with background and unknown below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qtpy.QtCore import QModelIndex, QRectF, QSize, Qt
from qtpy.QtGui import QBrush, QColor, QFont, QIcon, QPainter, QPainterPath, QPen, QPixmap

from napari_genselfdiff.annotation.window import ACCEPTED
from napari_genselfdiff.session.class_rows import ClassRow, spoken_area, square_millimetres
from napari_genselfdiff.session.wording import share
from napari_genselfdiff.widgets.flat_table import LEFT, RIGHT, FlatTable
from napari_genselfdiff.widgets.look import ACCENT, PROVENANCE, swatch

if TYPE_CHECKING:
    from collections.abc import Callable

EYE, NAME, KEY, AREA, OBJECTS, CHECKED = range(6)
HEADERS: Final = ("", "Class", "", "mm²", "Objects", "Checked")
_HEADER_TIPS: Final = (
    "Show or hide on the slide; nothing is changed",
    "Click paints with it; double-click renames; click the colour to change it",
    "Key that picks the class; double-click changes it",
    "Area on the slide in mm²",
    "Number of objects",
    "Share a person accepted or corrected",
)
_ABOUT: Final = {
    "background": "Looked at by a person or a model, and nothing of this task is there.\n"
    "The eye shows and hides the lines around what was checked.",
    "unknown": "Neither a person nor a model has said anything about it; it teaches nothing.\n"
    "The eye darkens it on the slide.",
}
_ABOUT_CLASS: Final = "Click paints with it. Double-click renames. Right-click for more."
_ROLE: Final = Qt.ItemDataRole


class ClassModel(FlatTable):
    """Lines of the table.

    Parameters
    ----------
    rename, rekey
        Called with the class value and the text the user typed.
    """

    def __init__(
        self, rename: Callable[[int, str], object], rekey: Callable[[int, str], object]
    ) -> None:
        super().__init__(HEADERS)
        self._rename, self._rekey = rename, rekey
        self.rows: list[ClassRow] = []
        self.chosen = 0
        self.hidden: frozenset[int] = frozenset()
        self.rims_shown, self.veiled, self.can_write = True, False, False

    def set_rows(self, rows: list[ClassRow]) -> None:
        """Show other lines; where only numbers differ an editor that is open stays."""
        same = [row.spec for row in rows] == [row.spec for row in self.rows]
        if not same:
            self.beginResetModel()
        self.rows = rows
        if not same:
            self.endResetModel()
        self.repaint()

    def repaint(self) -> None:
        """Show anew what is chosen, hidden and counted."""
        if self.rows:
            last = self.index(len(self.rows) - 1, CHECKED)
            self.dataChanged.emit(self.index(0, 0), last)

    def is_shown(self, row: ClassRow) -> bool:
        """Whether the eye of a line is open."""
        if row.spec is not None:
            return row.spec.value not in self.hidden
        return self.rims_shown if row.kind == "background" else self.veiled

    # -- Qt's names -----------------------------------------------------------------------------

    def about(self, column: int, role: int) -> Any:
        """Titles stand as their columns do, and explain them."""
        if role == _ROLE.TextAlignmentRole:
            return RIGHT if column >= AREA else LEFT
        return _HEADER_TIPS[column] if role == _ROLE.ToolTipRole else None

    def flags(self, index: QModelIndex) -> Any:
        """Names and keys of classes can be edited."""
        flags = super().flags(index)
        if not index.isValid():
            return flags
        row = self.rows[index.row()]
        if row.spec is not None and self.can_write and index.column() in {NAME, KEY}:
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def setData(self, index: QModelIndex, value: Any, role: int = _ROLE.EditRole) -> bool:
        """Take what was typed."""
        row = self.rows[index.row()]
        if role != _ROLE.EditRole or row.spec is None:
            return False
        text = str(value).strip()
        if index.column() == NAME and text != row.spec.name:
            self._rename(row.spec.value, text)
        if index.column() == KEY and text != row.spec.key:
            self._rekey(row.spec.value, text)
        return True

    def data(self, index: QModelIndex, role: int = _ROLE.DisplayRole) -> Any:
        """Text, picture and explanation of a cell."""
        if not index.isValid():
            return None
        row, column = self.rows[index.row()], index.column()
        if role in {_ROLE.DisplayRole, _ROLE.EditRole}:
            return _text(row, column)
        if role == _ROLE.DecorationRole:
            if column == EYE:
                return eye(self.is_shown(row))
            return picture(row) if column == NAME else None
        if role == _ROLE.TextAlignmentRole:
            return RIGHT if column >= AREA else None
        if role == _ROLE.ToolTipRole:
            return _tip(row)
        return self._look(row, role)

    def _look(self, row: ClassRow, role: int) -> Any:
        """The class in hand stands out, what is no class steps back."""
        is_chosen = row.spec is not None and row.spec.value == self.chosen
        if role == _ROLE.BackgroundRole and is_chosen:
            color = QColor(ACCENT)
            color.setAlpha(110)
            return QBrush(color)
        if role == _ROLE.FontRole and (is_chosen or row.spec is None):
            font = QFont()
            font.setBold(is_chosen)
            font.setItalic(row.spec is None)
            return font
        return None


def _text(row: ClassRow, column: int) -> str:
    if column == NAME:
        return row.name
    if column == KEY:
        return "" if row.spec is None else row.spec.key
    if column == AREA:
        return square_millimetres(row.area_um2) if row.pixels else "–"
    if column == OBJECTS:
        return "" if row.objects is None else f"{row.objects:,}"
    if column == CHECKED:
        return "" if row.checked is None else share(row.checked, 1.0)
    return ""


def _tip(row: ClassRow) -> str:
    about = _ABOUT.get(
        row.kind, "Click paints with it. Double-click renames. Right-click for more."
    )
    checked = "" if row.checked is None else f", {share(row.checked, 1.0)} of it checked"
    area = f"{row.pixels:,} pixels ({spoken_area(row.area_um2)})"
    return f"{row.name}: {area}{checked}\n{about}"


def picture(row: ClassRow) -> QIcon:
    """How the line looks on the slide: a colour, the rim of checked places, or nothing at all."""
    if row.spec is not None:
        return swatch(row.spec.color)
    return rim(PROVENANCE[ACCEPTED], dashed=True) if row.kind == "background" else rim(None)


def rim(color: str | None, *, dashed: bool = False, side: int = 14) -> QIcon:
    """A small frame on tissue-coloured ground; None draws the ground alone."""
    pixmap = QPixmap(QSize(side, side))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor("#A88FB0"))
    painter.drawRoundedRect(QRectF(0, 0, side, side), 2, 2)
    if color is not None:
        pen = QPen(QColor(color), 2)
        if dashed:
            pen.setDashPattern([2.0, 1.4])
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(QRectF(2.5, 2.5, side - 5, side - 5))
    painter.end()
    return QIcon(pixmap)


def eye(is_open: bool, side: int = 16) -> QIcon:
    """An eye, open or crossed out."""
    pixmap = QPixmap(QSize(side, side))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    ink = QColor("#9AA5B1")
    ink.setAlpha(255 if is_open else 120)
    painter.setPen(QPen(ink, 1.4))
    lid = QPainterPath()
    lid.moveTo(1.5, side / 2)
    lid.quadTo(side / 2, 1.0, side - 1.5, side / 2)
    lid.quadTo(side / 2, side - 1.0, 1.5, side / 2)
    painter.drawPath(lid)
    if is_open:
        painter.setBrush(ink)
        painter.drawEllipse(QRectF(side / 2 - 2, side / 2 - 2, 4, 4))
    else:
        painter.drawLine(3, side - 3, side - 3, 3)
    painter.end()
    return QIcon(pixmap)
