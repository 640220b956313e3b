"""The map: the whole slide in small, what was looked at on it, and where one is now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QHelpEvent, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QToolTip, QWidget

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, MODEL, UNKNOWN
from napari_genselfdiff.widgets.look import PROVENANCE, WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from qtpy.QtGui import QMouseEvent, QPaintEvent

    from napari_genselfdiff.slides.geometry import Region

HIGHEST: Final = 170
"""Height of the map at most, so that a tall slide leaves room for the rest of the panel."""
_LEAST_FRAME: Final = 7.0
_OPACITY: Final = {MODEL: 110, ACCEPTED: 150, HUMAN: 190}
_VEIL: Final = 0x50000000
"""Over what is unknown, once something is known: what was looked at stands out."""


class CoverageMap(QWidget):
    """Draws the map, goes where it is clicked, tells what is under the pointer.

    Parameters
    ----------
    go_to
        Called with the level-0 pixel (y, x) to look at.
    about
        Gives what to say of a level-0 pixel (y, x), or "" to say what the map shows there.
    """

    def __init__(
        self, go_to: Callable[[float, float], object], about: Callable[[float, float], str]
    ) -> None:
        super().__init__()
        self.setObjectName("coverage-map")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._go_to, self._about = go_to, about
        self._shape0: tuple[int, int] | None = None
        self._picture: QPixmap | None = None
        self._known: NDArray[np.uint8] | None = None
        self._overlay: QImage | None = None
        self._view: Region | None = None
        self.set_slide(None)

    # -- what is shown --------------------------------------------------------------------------

    def set_slide(self, shape0: tuple[int, int] | None) -> None:
        """Show another slide, of this height and width in level-0 pixels, or none."""
        self._shape0 = shape0
        self._picture = self._known = self._overlay = self._view = None
        height, width = shape0 or (1, 4)
        self.setFixedHeight(max(40, min(HIGHEST, round((WIDTH - 50) * height / width))))
        self.update()

    def set_picture(self, picture: NDArray[np.uint8]) -> None:
        """Show the slide itself, (h, w, 3) uint8."""
        height, width = picture.shape[:2]
        data = np.ascontiguousarray(picture).tobytes()
        image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self._picture = QPixmap.fromImage(image)
        self.update()

    def set_known(self, provenance: NDArray[np.uint8]) -> None:
        """Show what is known and from whom; (h, w) uint8 of the whole slide in small."""
        self._known = provenance
        table = np.zeros(256, np.uint32)
        table[UNKNOWN] = _VEIL if provenance.any() else 0
        for value, opacity in _OPACITY.items():
            table[value] = _premultiplied(PROVENANCE[value], opacity)
        height, width = provenance.shape
        pixels = np.ascontiguousarray(table[provenance])
        self._overlay = QImage(
            pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_ARGB32_Premultiplied
        ).copy()
        self.update()

    def set_view(self, region0: Region | None) -> None:
        """Frame what is on screen."""
        if region0 != self._view:
            self._view = region0
            self.update()

    def words_at(self, y0: float, x0: float) -> str:
        """What is known of a level-0 pixel, and from whom."""
        words = self._about(y0, x0)
        if words:
            return words
        value = UNKNOWN
        if self._known is not None and self._shape0 is not None:
            height, width = self._known.shape
            row = int(np.clip(y0 / self._shape0[0] * height, 0, height - 1))
            column = int(np.clip(x0 / self._shape0[1] * width, 0, width - 1))
            value = int(self._known[row, column])
        return {
            UNKNOWN: "Unknown: nobody looked here",
            MODEL: "Model only: nobody checked this",
            ACCEPTED: "Accepted",
            HUMAN: "Corrected by hand",
        }[value]

    def frame(self) -> QRectF | None:
        """Where the view is framed on this widget."""
        if self._view is None or self._shape0 is None:
            return None
        target, (height, width) = self._target(), self._shape0
        scale_y, scale_x = target.height() / height, target.width() / width
        wide = max(self._view.width * scale_x, _LEAST_FRAME)
        high = max(self._view.height * scale_y, _LEAST_FRAME)
        x = target.x() + (self._view.x + self._view.width / 2) * scale_x
        y = target.y() + (self._view.y + self._view.height / 2) * scale_y
        return QRectF(x - wide / 2, y - high / 2, wide, high)

    def on_map(self, y0: float, x0: float) -> QPointF:
        """Where a level-0 pixel lies on this widget."""
        target, (height, width) = self._target(), self._shape0 or (1, 1)
        return QPointF(
            target.x() + x0 / width * target.width(), target.y() + y0 / height * target.height()
        )

    # -- Qt -------------------------------------------------------------------------------------

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw slide, what is known, and the frame."""
        if self._shape0 is None:
            return
        painter, target = QPainter(self), self._target()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if self._picture is None:
            painter.fillRect(target, QColor(124, 136, 148, 60))
        else:
            painter.drawPixmap(target, self._picture, QRectF(self._picture.rect()))
        if self._overlay is not None:
            painter.drawImage(target, self._overlay, QRectF(self._overlay.rect()))
        frame = self.frame()
        if frame is not None:
            painter.setClipRect(target)
            painter.setPen(QPen(QColor(0, 0, 0, 200), 3.5))
            painter.drawRect(frame)
            painter.setPen(QPen(QColor("#FFFFFF"), 1.5))
            painter.drawRect(frame)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Go where it was clicked."""
        self._follow(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Drag the view along."""
        self._follow(event)

    def event(self, event: QEvent | None) -> bool:
        """Tell what lies under the resting pointer."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            place = self._level0(QPointF(event.pos()))
            words = "" if place is None else self.words_at(*place)
            QToolTip.showText(event.globalPos(), f"{words}\nClick to go there" if words else "")
            return True
        return bool(super().event(event))

    def _follow(self, event: QMouseEvent | None) -> None:
        if event is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        place = self._level0(QPointF(event.pos()))
        if place is not None:
            self._go_to(*place)

    def _level0(self, at: QPointF) -> tuple[float, float] | None:
        """Level-0 pixel (y, x) under a point of the widget; None beside the slide."""
        target = self._target()
        if self._shape0 is None or not target.contains(at):
            return None
        height, width = self._shape0
        return (
            (at.y() - target.y()) / target.height() * height,
            (at.x() - target.x()) / target.width() * width,
        )

    def _target(self) -> QRectF:
        """Where the slide is drawn, with its own proportions."""
        height, width = self._shape0 or (1, 1)
        scale = min(self.width() / width, self.height() / height)
        wide, high = width * scale, height * scale
        return QRectF((self.width() - wide) / 2, (self.height() - high) / 2, wide, high)


def _premultiplied(color: str, opacity: int) -> int:
    """A colour as Qt keeps half-transparent pixels."""
    full = QColor(color)
    red, green, blue = (part * opacity // 255 for part in (full.red(), full.green(), full.blue()))
    return opacity << 24 | red << 16 | green << 8 | blue
