"""The clickable history: what was done, by whom and when; a click goes back or forth to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QModelIndex, QPoint, QRect, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPalette
from qtpy.QtWidgets import (
    QFrame,
    QListView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from napari_genselfdiff.session.wording import counted
from napari_genselfdiff.widgets.history_steps import STEP, HistoryModel, Step
from napari_genselfdiff.widgets.look import ACCENT, Section

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QMouseEvent

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

_ROW: Final = 22
_MOST_ROWS: Final = 8
_FOLD: Final = 20
"""Width at the left of a line within which a click folds or unfolds its group."""
_FAINT: Final = 0.5
_ARROWS: Final = {"folded": "▸", "unfolded": "▾"}


class StepDelegate(QStyledItemDelegate):
    """Draws a step: what was done, by whom and when; the present one is marked."""

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Draw one line (Qt's name for it)."""
        step = index.data(STEP)
        if painter is None or not isinstance(step, Step):
            return
        painter.save()
        area = option.rect
        if step.is_current:
            accent = QColor(ACCENT)
            painter.fillRect(QRect(area.left(), area.top() + 2, 3, area.height() - 4), accent)
            accent.setAlpha(60)
            painter.fillRect(area, accent)
        ink = QColor(option.palette.color(QPalette.ColorRole.Text))
        ink.setAlphaF(_FAINT if step.undone or not step.can_go else 1.0)
        painter.setPen(ink)
        font = QFont(option.font)
        font.setBold(step.is_current)
        font.setItalic(step.undone)
        painter.setFont(font)
        middle = int(Qt.AlignmentFlag.AlignVCenter)
        fold = QRect(area.left() + 6, area.top(), _FOLD - 6, area.height())
        painter.drawText(fold, middle, _ARROWS.get(step.state, ""))
        indent = _FOLD + (12 if step.state == "part" else 0)
        title = QRect(area.left() + indent, area.top(), area.width() - indent, area.height())
        wide = painter.fontMetrics().horizontalAdvance(f"{step.title}  ")
        painter.drawText(title, middle, step.title)
        font.setBold(False)
        font.setPointSizeF(max(font.pointSizeF() - 1.5, 6.0))
        painter.setFont(font)
        ink.setAlphaF(ink.alphaF() * 0.75)
        painter.setPen(ink)
        rest = QRect(title.left() + wide, area.top(), title.width() - wide - 6, area.height())
        words = painter.fontMetrics().elidedText(
            step.about, Qt.TextElideMode.ElideLeft, max(rest.width(), 0)
        )
        painter.drawText(rest, middle | int(Qt.AlignmentFlag.AlignRight), words)
        painter.restore()

    def sizeHint(self, _option: QStyleOptionViewItem, _index: QModelIndex) -> QSize:
        """Every line is equally high."""
        return QSize(100, _ROW)


class StepView(QListView):
    """Lines that are clicked; keys stay the viewer's."""

    def __init__(self, go_to: Callable[[int | None], object]) -> None:
        super().__init__()
        self._go_to = go_to
        self.steps = HistoryModel()
        self.setModel(self.steps)
        self.setItemDelegate(StepDelegate(self))
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSelectionMode(QListView.SelectionMode.NoSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet("QListView { background: rgba(124, 136, 148, 30); }")

    def fit(self) -> None:
        """Be as high as the lines need, up to a limit beyond which they scroll."""
        self.setFixedHeight(_ROW * min(max(self.steps.rowCount(), 1), _MOST_ROWS) + 4)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Fold a group at its arrow, elsewhere go to the step."""
        super().mouseReleaseEvent(event)
        if event is None or event.button() != Qt.MouseButton.LeftButton:
            return
        at: QPoint = event.pos()
        index = self.indexAt(at)
        if not index.isValid():
            return
        step = self.steps.step(index.row())
        if step.state in _ARROWS and at.x() < self.visualRect(index).left() + _FOLD:
            self.steps.toggle(index.row())
            self.fit()
        elif step.can_go and not (step.is_current and step.count == 1):
            self._go_to(step.op)


class HistoryList(Section):
    """The history of the slide's annotations, folded at first.

    Parameters
    ----------
    session
        Whose annotations are meant.
    controller
        Goes to a state, and saves first.
    """

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__(
            "History",
            "Everything that was done to these annotations. Click a line to go back to it;\n"
            "nothing is lost: what comes after stays in the list until something new is done.",
            is_open=False,
        )
        self._session, self._controller = session, controller
        self._stale = True
        self.view = StepView(self.go_to)
        self.body.addWidget(self.view)
        self.head.toggled.connect(self._on_toggled)
        session.events.history_changed.connect(self.show_history)
        session.events.slide_changed.connect(self.show_history)
        self.show_history()

    def cleanup(self) -> None:
        """Let go of the session."""
        self._session.events.history_changed.disconnect(self.show_history)
        self._session.events.slide_changed.disconnect(self.show_history)

    def show_history(self) -> None:
        """Show what was done by now; nothing is read while the list is folded."""
        store = self._session.store
        number = 0 if store is None else len(store.history)
        self.say(counted(number, "step") if number else "")
        self._stale = True
        if self.is_open:
            self._fill()

    def go_to(self, op_id: int | None) -> None:
        """Go back or forth to a step; None is before all of them. What was drawn is saved first."""
        self._controller.settle()
        with self._session.attempt():
            self._session.correcting.go_to(op_id)

    def _on_toggled(self, is_open: bool) -> None:
        if is_open and self._stale:
            self._fill()

    def _fill(self) -> None:
        self._stale = False
        store, bar = self._session.store, self.view.verticalScrollBar()
        place = 0 if bar is None else bar.value()
        if store is None:
            self.view.steps.set_history((), 0)
        else:
            history = store.history
            self.view.steps.set_history(history, history.done)
        self.view.fit()
        if bar is not None:
            bar.setValue(place)
