"""The buttons of the tools, in two groups, with the brush's width."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_genselfdiff.widgets.commands import KEYS, LEAVE, PROTECT, TOOLS, shown_key
from napari_genselfdiff.widgets.key_dialog import KeyDialog, relabel
from napari_genselfdiff.widgets.look import ACCENT, plain_button, row
from napari_genselfdiff.widgets.tool_kinds import HANDLING
from napari_genselfdiff.widgets.tools import BRUSH

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QPaintEvent, QShowEvent

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.commands import Command
    from napari_genselfdiff.widgets.controller import Controller
    from napari_genselfdiff.widgets.tool_kinds import Tool

COLUMNS: Final = 4
_LOOK: Final = f"""
QPushButton {{ padding: 5px 5px; border-radius: 4px; text-align: left; font-size: 11px; }}
QPushButton:checked {{ background: {ACCENT}; color: white; font-weight: bold; }}
QPushButton:disabled {{ color: rgba(124, 136, 148, 120); }}
"""
_HEAD: Final = "font-size: 11px; color: rgb(124, 136, 148);"


class ToolButton(QPushButton):
    """A word, and its key small at the right."""

    def __init__(self, command: Command, run: Callable[[], object]) -> None:
        super().__init__(command.text)
        self.command = command
        self.key = ""
        self.setObjectName(command.text)
        # Keys are the viewer's: a button that takes the focus would swallow the space bar.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setStyleSheet(_LOOK)
        self.setMinimumWidth(1)

        def clicked(_checked: bool = False) -> None:
            run()

        self.clicked.connect(clicked)
        self.show_key(command.key)

    def show_key(self, key: str) -> None:
        """Show another key."""
        self.key = shown_key(key)
        self.setToolTip(self.command.tip + (f"\nKey: {self.key}" if key else ""))
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the button, and the key where there is room for it."""
        super().paintEvent(event)
        painter = QPainter(self)
        font = painter.font()
        words = self.fontMetrics().horizontalAdvance(self.text())
        font.setPointSizeF(font.pointSizeF() * 0.85 if font.pointSizeF() > 0 else 8.0)
        font.setBold(False)
        painter.setFont(font)
        needed = painter.fontMetrics().horizontalAdvance(self.key)
        if words + needed + 12 <= self.width():
            color = QColor(self.palette().buttonText().color())
            color.setAlpha(230 if self.isChecked() else 140 if self.isEnabled() else 70)
            painter.setPen(color)
            place = QRect(0, 0, self.width() - 4, self.height())
            painter.drawText(
                place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, self.key
            )
        painter.end()


class ToolGrid(QWidget):
    """All tools, the toggle that protects, and the brush's width.

    Parameters
    ----------
    session, controller
        Whose tools and keys.
    """

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__()
        self._session, self._controller = session, controller
        self.tools: dict[Tool, ToolButton] = {}
        self.done_button = ToolButton(LEAVE, controller.leave)
        self.keys_button = plain_button(KEYS.text, KEYS.tip, self.choose_keys)
        self.keys_button.setStyleSheet("font-size: 11px; padding: 1px 6px;")
        self.protect = QCheckBox(PROTECT.text)
        self.protect.setToolTip(PROTECT.tip)
        self.protect.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.protect.toggled.connect(controller.set_protect)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(4)
        whole.addLayout(row(_head("Draw"), self.keys_button))
        draw = [tool for tool in TOOLS if not HANDLING[tool].objects_only]
        single = [tool for tool in TOOLS if HANDLING[tool].objects_only]
        whole.addLayout(self._grid(draw, self.done_button))
        whole.addWidget(_head("Single objects"))
        whole.addLayout(self._grid(single))
        whole.addWidget(self.protect)
        self.brush = QSlider(Qt.Orientation.Horizontal)
        self.brush.setRange(*BRUSH)
        self.brush.setToolTip("Width of brush and eraser")
        self.brush.valueChanged.connect(controller.set_brush)
        self.brush_size = QLabel()
        self.brush_size.setMinimumWidth(52)
        whole.addLayout(row(QLabel("Brush width"), self.brush, self.brush_size))
        self._connections: tuple[tuple[Any, Callable[[], None]], ...] = (
            (session.events.task_changed, self.show_enabled),
            (session.events.slide_changed, self.show_enabled),
            (controller.events.tool_changed, self.show_tool),
            (controller.events.class_changed, self.show_brush),
            (controller.keys.changed, self.show_keys),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_keys()
        self.show_enabled()
        self.show_tool()
        self.show_brush()

    def cleanup(self) -> None:
        """Let go of session, controller and keys."""
        for signal, slot in self._connections:
            signal.disconnect(slot)

    def choose_keys(self) -> None:
        """Ask for other keys."""
        KeyDialog(self._controller.keys, self.window()).exec()

    def show_keys(self) -> None:
        """Show the keys that hold now."""
        for tool, made in self.tools.items():
            made.show_key(self._controller.keys.key(tool))
        window = self.window()
        if window is not None:
            relabel(window, self._controller.keys)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Show the keys on the other buttons too, now that it lies among them."""
        super().showEvent(event)
        self.show_keys()

    def show_tool(self) -> None:
        """Show which tool is in hand."""
        for tool, made in self.tools.items():
            made.setChecked(tool == self._controller.tool)
        self.done_button.setEnabled(self._controller.tool is not None)

    def show_enabled(self) -> None:
        """Only what can be done now can be pressed."""
        store, task = self._session.store, self._session.task
        can_write = store is not None and not store.read_only
        for tool, made in self.tools.items():
            fits = task.kind == "objects" or not HANDLING[tool].objects_only
            made.setEnabled(can_write and fits)
        self.protect.setVisible(task.n_classes > 1)
        self.show_brush()

    def show_brush(self) -> None:
        """Show how wide the brush is, and whether others are protected."""
        size, session = self._controller.brush_size, self._session
        if self.brush.value() != size:
            self.brush.setValue(size)
        self.protect.setChecked(self._controller.protect)
        if session.store is None or session.task.name not in session.store.tasks:
            self.brush_size.setText(f"{size} px")
        else:
            mpp = session.store.mpp * session.store.downsample(session.task.name)
            self.brush_size.setText(f"{size * mpp:.1f} µm")

    def _grid(self, tools: list[Tool], *more: QPushButton) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(3)
        for column in range(COLUMNS):
            grid.setColumnStretch(column, 1)
        for place, tool in enumerate(tools):
            made = ToolButton(TOOLS[tool], partial(self._controller.pick_tool, tool))
            made.setCheckable(True)
            grid.addWidget(made, place // COLUMNS, place % COLUMNS)
            self.tools[tool] = made
        for place, button in enumerate(more, len(tools)):
            grid.addWidget(button, place // COLUMNS, place % COLUMNS)
        return grid


def _head(words: str) -> QLabel:
    label = QLabel(words)
    label.setStyleSheet(_HEAD)
    return label
