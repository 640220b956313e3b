"""Block *Correct*: tools, classes, Accept view, undo, and how much is known."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QLabel, QPushButton, QSlider, QWidget

from napari_genselfdiff.session import wording
from napari_genselfdiff.widgets.commands import ACCEPT, CLEAR, HIDE, LEAVE, REDO, TOOLS, UNDO
from napari_genselfdiff.widgets.look import (
    Block,
    button,
    line,
    plain_button,
    row,
    swatch,
    text,
    tool_button,
)
from napari_genselfdiff.widgets.tools import BRUSH

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller
    from napari_genselfdiff.widgets.tools import Tool

SHARES = {"model": "#56B4E9", "accepted": "#009E73", "human": "#F0E442", "unknown": "#8A929A"}


class CoverageBar(QWidget):
    """A thin bar: how much of the slide the model said, was accepted, was corrected."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(8)
        self._pixels: dict[str, int] = {}

    def set_pixels(self, pixels: dict[str, int]) -> None:
        """Show other numbers."""
        self._pixels = pixels
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the shares side by side."""
        painter = QPainter(self)
        total = sum(self._pixels.values())
        start = 0.0
        for name, color in SHARES.items():
            part = self.width() * self._pixels.get(name, 0) / total if total else 0.0
            # What is there is seen, however little it is.
            wide = max(part, 2.0) if part and name != "unknown" else part
            area = QRect(round(start), 0, self.width() - round(start), self.height())
            painter.fillRect(area, QColor(color))
            start += wide
        if not total:
            painter.fillRect(self.rect(), QColor(SHARES["unknown"]))
        painter.end()


class CorrectBlock(Block):
    """Tools and what was done with them."""

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__("Correct", 3)
        self._session, self._controller = session, controller
        self.tools: dict[Tool, QPushButton] = {}
        grid = QGridLayout()
        grid.setSpacing(4)
        for place, (tool, command) in enumerate(TOOLS.items()):
            made = tool_button(command, partial(controller.pick_tool, tool))
            grid.addWidget(made, place // 3, place % 3)
            self.tools[tool] = made
        self.done_button = button(LEAVE, controller.leave)
        grid.addWidget(self.done_button, 1, 2)
        self.body.addLayout(grid)
        self.brush = QSlider(Qt.Orientation.Horizontal)
        self.brush.setRange(*BRUSH)
        self.brush.setToolTip("Width of brush and eraser")
        self.brush.valueChanged.connect(controller.set_brush)
        self.brush_size = QLabel()
        self.brush_size.setMinimumWidth(52)
        self.body.addLayout(row(QLabel("Brush width"), self.brush, self.brush_size))
        self._classes = QGridLayout()
        self._classes.setSpacing(4)
        self._group = QButtonGroup(self)
        self.body.addLayout(self._classes)
        self.body.addWidget(line())
        self.accept_button = button(ACCEPT, controller.accept_view, primary=True)
        self.body.addWidget(self.accept_button)
        self.undo_button = button(UNDO, controller.undo)
        self.redo_button = button(REDO, controller.redo)
        self.redo_button.setText("Redo  (Ctrl+⇧+Z)")
        self.body.addLayout(row(self.undo_button, self.redo_button))
        self.clear_button = button(CLEAR, controller.clear_view)
        self.hide_button = button(HIDE, _nothing)
        self.hide_button.pressed.connect(partial(controller.hold_overlay, True))
        self.hide_button.released.connect(partial(controller.hold_overlay, False))
        self.body.addLayout(row(self.clear_button, self.hide_button))
        self.bar = CoverageBar()
        self.coverage = text(small=True)
        self.body.addWidget(self.bar)
        self.body.addWidget(self.coverage)
        self._connections = (
            (session.events.task_changed, self.show_classes),
            (session.events.slide_changed, self.show_enabled),
            (controller.events.tool_changed, self.show_tool),
            (controller.events.class_changed, self.show_class),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_classes()
        self.show_enabled()
        self.show_tool()

    def cleanup(self) -> None:
        """Let go of session and controller."""
        for signal, slot in self._connections:
            signal.disconnect(slot)

    def show_tool(self) -> None:
        """Show which tool is in hand."""
        for tool, made in self.tools.items():
            made.setChecked(tool == self._controller.tool)
        self.done_button.setEnabled(self._controller.tool is not None)

    def show_enabled(self) -> None:
        """Only what can be done now can be pressed."""
        store = self._session.store
        can_write = store is not None and not store.read_only
        for made in (
            *self.tools.values(),
            self.accept_button,
            self.undo_button,
            self.redo_button,
            self.clear_button,
        ):
            made.setEnabled(can_write)
        self.show_coverage()

    def show_classes(self) -> None:
        """Show the task's classes with colours and keys."""
        for made in self._group.buttons():
            self._group.removeButton(made)
            made.deleteLater()
        for place, spec in enumerate(self._session.task.classes):
            key = f"  ({spec.key})" if spec.key else ""
            made = plain_button(
                f"{spec.name}{key}",
                f"Paint {spec.name}" + (f"\nKey: {spec.key}" if spec.key else ""),
                partial(self._controller.pick_class, spec.value),
            )
            made.setCheckable(True)
            made.setIcon(swatch(spec.color))
            made.setStyleSheet("QPushButton { text-align: left; padding: 4px 6px; }")
            self._group.addButton(made, spec.value)
            self._classes.addWidget(made, place // 2, place % 2)
        self.show_class()
        self.show_coverage()

    def show_class(self) -> None:
        """Show which class is painted, and how wide."""
        chosen = self._group.button(self._controller.class_value)
        if chosen is not None:
            chosen.setChecked(True)
        size = self._controller.brush_size
        if self.brush.value() != size:
            self.brush.setValue(size)
        session = self._session
        if session.store is None:
            self.brush_size.setText(f"{size} px")
        else:
            mpp = session.store.mpp * session.store.downsample(session.task.name)
            self.brush_size.setText(f"{size * mpp:.1f} µm")

    def show_coverage(self) -> None:
        """Show how much of the slide is known, and how many objects there are."""
        store, task = self._session.store, self._session.task
        known = store is not None and task.name in store.tasks
        self.bar.setVisible(known)
        self.coverage.setVisible(known)
        if store is None or not known:
            return
        summary = store.summary(task.name)
        self.bar.set_pixels(summary["pixels"])
        words = wording.coverage(summary["pixels"])
        counts = summary["objects"] or {}
        objects = ", ".join(f"{n:,} × {name}" for name, n in counts.items() if n)
        self.coverage.setText(f"{words[:1].upper()}{words[1:]} {objects}".strip())
        self.coverage.setToolTip(
            "Unknown: nobody looked. Model only: not checked by a person.\n"
            "Accepted: you looked and agreed. Corrected: you changed it. Background counts too."
        )


def _nothing() -> None:
    """The button acts while it is held."""
