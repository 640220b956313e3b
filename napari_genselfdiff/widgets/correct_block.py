"""Block *Correct*: tools, classes, Accept view, undo, what is known, where, and since when."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_genselfdiff.widgets.class_table import ClassTable
from napari_genselfdiff.widgets.commands import ACCEPT, CLEAR, HIDE, REDO, UNDO
from napari_genselfdiff.widgets.coverage import Coverage
from napari_genselfdiff.widgets.history_list import HistoryList
from napari_genselfdiff.widgets.look import Block, button, is_tall, row
from napari_genselfdiff.widgets.map_section import MapSection
from napari_genselfdiff.widgets.tool_grid import ToolGrid

if TYPE_CHECKING:
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller


class CorrectBlock(Block):
    """Tools and what was done with them."""

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__("Correct", 3)
        self._session, self._controller = session, controller
        self.grid = ToolGrid(session, controller)
        self.tools = self.grid.tools
        self.body.addWidget(self.grid)
        self.classes = ClassTable(session, controller)
        self.body.addWidget(self.classes)
        self.accept_button = button(ACCEPT, controller.accept_view, primary=True)
        self.body.addWidget(self.accept_button)
        self.undo_button = button(UNDO, controller.undo)
        self.redo_button = button(REDO, controller.redo)
        self.body.addLayout(row(self.undo_button, self.redo_button))
        self.clear_button = button(CLEAR, controller.clear_view)
        self.hide_button = button(HIDE, _nothing)
        self.hide_button.pressed.connect(partial(controller.hold_overlay, True))
        self.hide_button.released.connect(partial(controller.hold_overlay, False))
        self.body.addLayout(row(self.clear_button, self.hide_button))
        self.coverage = Coverage(session, controller)
        self.map = MapSection(session, controller, is_open=is_tall())
        self.history = HistoryList(session, controller)
        for part in (self.coverage, self.map, self.history):
            self.body.addWidget(part)
        self._connections = (
            (session.events.task_changed, self.show_numbers),
            (session.events.slide_changed, self.show_enabled),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_enabled()

    def cleanup(self) -> None:
        """Let go of session and controller."""
        for signal, slot in self._connections:
            signal.disconnect(slot)
        for part in (self.grid, self.classes, self.map, self.history):
            part.cleanup()

    def tick(self) -> None:
        """Follow view and pointer, and count a little."""
        self.classes.tick()
        self.map.tick()
        self.coverage.tick()

    def show_numbers(self) -> None:
        """Show what is known by now."""
        self.classes.show_numbers()
        self.coverage.show_numbers()
        self.map.show_share()

    def show_enabled(self) -> None:
        """Only what can be done now can be pressed."""
        store = self._session.store
        can_write = store is not None and not store.read_only
        for made in (
            self.accept_button,
            self.undo_button,
            self.redo_button,
            self.clear_button,
        ):
            made.setEnabled(can_write)
        self.show_numbers()


def _nothing() -> None:
    """The button acts while it is held."""
