"""Small pictures of what was measured: bars of the classes, and how a column is spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPen
from qtpy.QtWidgets import QWidget

from napari_genselfdiff.widgets.flat_table import LEFT, RIGHT
from napari_genselfdiff.widgets.look import ACCENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from qtpy.QtGui import QMouseEvent, QPaintEvent

_ROW: Final = 20
_NAME: Final = 0.34  # share of the width for the name of a bar
_VALUE: Final = 78  # points for its number
_HEIGHT: Final = 96
BINS: Final = 32


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what a click stands for, its words and colour, its length and what it says."""

    value: int
    name: str
    color: str
    amount: float
    text: str


class BarChart(QWidget):
    """Horizontal bars, one below the other; a click on one tells its value.

    Parameters
    ----------
    on_click
        Called with the value of the bar.
    """

    def __init__(self, on_click: Callable[[int], object]) -> None:
        super().__init__()
        self._on_click = on_click
        self._bars: Sequence[Bar] = ()
        self._chosen: int | None = None
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip("Click a bar to list only this class; click again to list all.")

    def set_bars(self, bars: Sequence[Bar], chosen: int | None) -> None:
        """Show other bars, one of them chosen."""
        self._bars, self._chosen = bars, chosen
        self.setFixedHeight(max(_ROW * len(bars), 1))
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Tell of a click (Qt's name for it)."""
        super().mouseReleaseEvent(event)
        row = -1 if event is None else int(event.pos().y()) // _ROW
        if 0 <= row < len(self._bars):
            self._on_click(self._bars[row].value)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw (Qt's name for it)."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(_small(painter))
        most = max((bar.amount for bar in self._bars), default=0.0) or 1.0
        left = self.width() * _NAME
        room = max(self.width() - left - _VALUE, 1.0)
        for row, bar in enumerate(self._bars):
            line = QRectF(0, row * _ROW, self.width(), _ROW)
            faint = self._chosen is not None and self._chosen != bar.value
            painter.setOpacity(0.35 if faint else 1.0)
            painter.setPen(self.palette().text().color())
            name = painter.fontMetrics().elidedText(
                bar.name, Qt.TextElideMode.ElideRight, int(left) - 6
            )
            painter.drawText(line.adjusted(0, 0, left - line.width(), 0), LEFT, name)
            long = max(room * bar.amount / most, 1.0 if bar.amount else 0.0)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(bar.color))
            painter.drawRoundedRect(QRectF(left, line.top() + 4, long, _ROW - 8), 2, 2)
            painter.setPen(self.palette().text().color())
            painter.drawText(line.adjusted(left + long + 5, 0, 0, 0), LEFT, bar.text)
        painter.end()


class Histogram(QWidget):
    """How the numbers of a column are spread, with their middle marked."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(_HEIGHT)
        self._counts: NDArray[np.intp] = np.empty(0, np.intp)
        self._low = self._high = self._middle = 0.0
        self._digits = 2

    def set_values(self, values: NDArray[np.float64], digits: int) -> None:
        """Show other numbers; extremes beyond 1 in 1,000 are put into the outermost bars."""
        self._digits, self._counts = digits, np.empty(0, np.intp)
        if len(values):
            low, high = np.quantile(values, [0.001, 0.999]).tolist()
            if high <= low:
                low, high = low - 0.5, high + 0.5
            self._counts = np.histogram(np.clip(values, low, high), BINS, (low, high))[0]
            self._low, self._high, self._middle = low, high, float(np.median(values))
        self.setToolTip(
            f"{len(values):,} objects; half of them lie below the orange line. The outermost bars"
            " hold the extremes, too."
        )
        self.update()

    @property
    def counts(self) -> NDArray[np.intp]:
        """Numbers in each bar."""
        return self._counts

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw (Qt's name for it)."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(_small(painter))
        ink, foot = self.palette().text().color(), 16
        if not len(self._counts):
            painter.setPen(ink)
            painter.drawText(
                self.rect(), int(Qt.AlignmentFlag.AlignCenter), "Nothing is known of it"
            )
            painter.end()
            return
        floor = self.height() - foot
        wide, most = self.width() / BINS, max(int(self._counts.max()), 1)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(ACCENT))
        for place, count in enumerate(self._counts.tolist()):
            high = (floor - 4) * count / most
            painter.drawRect(QRectF(place * wide + 0.5, floor - high, wide - 1, high))
        middle = (self._middle - self._low) / (self._high - self._low) * self.width()
        painter.setPen(QPen(QColor("#E69F00"), 2))
        painter.drawLine(int(middle), 2, int(middle), floor)
        painter.setPen(ink)
        line = QRectF(0, floor, self.width(), foot)
        painter.drawText(line, LEFT, self._number(self._low))
        painter.drawText(line, _CENTRE, f"half below {self._number(self._middle)}")
        painter.drawText(line, RIGHT, self._number(self._high))
        painter.end()

    def _number(self, value: float) -> str:
        return f"{value:,.{self._digits}f}"


_CENTRE: Final = int(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter)


def _small(painter: QPainter) -> QFont:
    font = painter.font()
    font.setPointSizeF(font.pointSizeF() * 0.85 if font.pointSizeF() > 0 else 8.0)
    return font
