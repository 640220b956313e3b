"""The table of classes: choose, show and hide, rename, recolour, add, merge."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAction,
    QFrame,
    QHeaderView,
    QMenu,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_genselfdiff.annotation.tasks import next_color
from napari_genselfdiff.session.checked import CheckedClasses
from napari_genselfdiff.session.class_rows import class_rows
from napari_genselfdiff.widgets.class_dialogs import MergeDialog, NewClass
from napari_genselfdiff.widgets.class_model import (
    AREA,
    CHECKED,
    EYE,
    KEY,
    NAME,
    OBJECTS,
    ClassModel,
)
from napari_genselfdiff.widgets.colors import color_menu
from napari_genselfdiff.widgets.look import plain_button, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QModelIndex
    from qtpy.QtGui import QMouseEvent

    from napari_genselfdiff.registry.card import ClassSpec
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.widgets.controller import Controller

_ROW: Final = 23
_MOST_ROWS: Final = 8
_SWATCH: Final = 22
"""Width at the left of a name within which a click chooses the colour."""
_WIDTHS: Final = {EYE: 22, KEY: 16, AREA: 46, OBJECTS: 50, CHECKED: 52}
COUNT_S: Final = 0.004
"""Time of each turn of the window spent on counting what was checked."""


class ClassView(QTableView):
    """A table whose clicks are told by cell; keys stay the viewer's.

    Parameters
    ----------
    model
        Its lines.
    clicked_at
        Called with the cell and the distance of the click from its left edge.
    """

    def __init__(self, model: ClassModel, clicked_at: Callable[[QModelIndex, int], object]) -> None:
        super().__init__()
        self._clicked_at = clicked_at
        self.setModel(model)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSelectionMode(QTableView.SelectionMode.NoSelection)
        self.setEditTriggers(QTableView.EditTrigger.DoubleClicked)
        self.setShowGrid(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setStyleSheet(
            "QTableView { background: rgba(124, 136, 148, 30); font-size: 11px; }"
            "QHeaderView::section { background: transparent; border: none; font-size: 10px;"
            " padding: 1px 2px; }"
        )
        for corner in self.findChildren(QAbstractButton):  # Qt's own, at the upper left
            corner.setToolTip("Classes of the task")
            corner.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        if rows is None or columns is None:
            return
        rows.hide()
        rows.setDefaultSectionSize(_ROW)
        columns.setSectionsClickable(False)
        columns.setMinimumSectionSize(16)
        columns.setFixedHeight(18)
        for column, width in _WIDTHS.items():
            columns.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            self.setColumnWidth(column, width)
        columns.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)

    def fit(self, rows: int) -> None:
        """Be as high as the lines need, up to a limit beyond which they scroll."""
        self.setFixedHeight(20 + _ROW * min(rows, _MOST_ROWS))

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Tell of a click (Qt's name for it)."""
        super().mouseReleaseEvent(event)
        if event is None or event.button() != Qt.MouseButton.LeftButton:
            return
        index = self.indexAt(event.pos())
        if index.isValid():
            self._clicked_at(index, event.pos().x() - self.visualRect(index).left())


class ClassTable(QWidget):
    """The task's classes, background and what is unknown.

    Parameters
    ----------
    session
        Whose task is meant.
    controller
        Holds the class in hand and draws the classes.
    """

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__()
        self._session, self._controller = session, controller
        self._checked: CheckedClasses | None = None
        self.rows = ClassModel(self._rename, self._rekey)
        self.view = ClassView(self.rows, self._on_click)
        self.view.customContextMenuRequested.connect(self._offer)
        self.add_button = plain_button(
            "Add class…", "One more class for this task; undo takes it back.", self.ask_class
        )
        self.merge_button = plain_button(
            "Merge…", "Make everything of one class another class.", self.ask_merge
        )
        self.dialog: NewClass | MergeDialog | None = None
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(4)
        outer.addWidget(self.view)
        outer.addLayout(row(self.add_button, self.merge_button))
        self._connections = (
            (session.events.task_changed, self.show_task),
            (session.events.slide_changed, self.show_task),
            (session.events.annotations_changed, self._on_annotations),
            (controller.events.class_changed, self.show_class),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_task()

    def cleanup(self) -> None:
        """Let go of session and controller."""
        for signal, slot in self._connections:
            signal.disconnect(slot)
        if self.dialog is not None:
            self.dialog.close()

    # -- what is shown --------------------------------------------------------------------------

    def show_task(self) -> None:
        """Show the classes of the task, and begin to count what was checked."""
        session = self._session
        store, task = session.store, session.task
        known = store is not None and task.name in store.tasks
        self._checked = CheckedClasses(store, task.name) if store is not None and known else None
        can_write = store is not None and not store.read_only and known
        self.rows.can_write = can_write
        self.rows.hidden = self._controller.layers.hidden_classes
        self.add_button.setEnabled(can_write)
        self.merge_button.setEnabled(can_write and task.n_classes > 1)
        self.view.setColumnHidden(OBJECTS, task.kind != "objects")
        self.show_numbers()
        self.show_class()

    def show_numbers(self) -> None:
        """Show how much there is of each class."""
        checked = self._checked
        counted = checked.pixels if checked is not None and checked.complete else None
        self.rows.set_rows(class_rows(self._session.store, self._session.task, counted))
        self.view.fit(self.rows.rowCount())

    def show_class(self) -> None:
        """Show which class is in hand."""
        self.rows.chosen = self._controller.class_value
        self.rows.repaint()

    def tick(self) -> None:
        """Count a little of what was checked, once it is seen."""
        checked = self._checked
        if checked is None or checked.complete or not self.view.isVisible():
            return
        if checked.work(COUNT_S):
            self.show_numbers()

    def _on_annotations(self, region: Region) -> None:
        if self._checked is not None:
            self._checked.refresh(region)

    # -- what is clicked ------------------------------------------------------------------------

    def _on_click(self, index: QModelIndex, x: int) -> None:
        one = self.rows.rows[index.row()]
        if index.column() == EYE:
            self.toggle(index.row())
        elif one.spec is not None:
            self._controller.pick_class(one.spec.value)
            if index.column() == NAME and x < _SWATCH and self.rows.can_write:
                menu = self._colors(one.spec)
                menu.popup(self.view.mapToGlobal(self.view.visualRect(index).bottomLeft()))

    def toggle(self, number: int) -> None:
        """Open or close the eye of a line; nothing is changed but what is drawn."""
        layers, one = self._controller.layers, self.rows.rows[number]
        if one.spec is not None:
            self.rows.hidden = self.rows.hidden ^ {one.spec.value}
            layers.hide_classes(self.rows.hidden)
            self._controller.show_colors()
        elif one.kind == "background":
            self.rows.rims_shown = not self.rows.rims_shown
            layers.show_rims(self.rows.rims_shown)
        else:
            self.rows.veiled = not self.rows.veiled
            layers.veil_unknown(self.rows.veiled)
        self.rows.repaint()

    def _offer(self, at: QPoint) -> None:
        """What can be done with a class."""
        index = self.view.indexAt(at)
        one = self.rows.rows[index.row()] if index.isValid() else None
        if one is None or one.spec is None:
            return
        menu = QMenu(self.view)
        eye = QAction("Hide" if self.rows.is_shown(one) else "Show", menu)
        eye.triggered.connect(partial(self._toggle_row, index.row()))
        menu.addAction(eye)
        if self.rows.can_write:
            rename = QAction("Rename…", menu)
            rename.triggered.connect(partial(self._edit, index.row()))
            menu.addAction(rename)
            menu.addMenu(self._colors(one.spec, menu))
            merge = QAction("Merge into…", menu)
            merge.setEnabled(self._session.task.n_classes > 1)
            merge.triggered.connect(partial(self._ask_merge_of, one.spec.value))
            menu.addAction(merge)
        menu.popup(self.view.mapToGlobal(at))

    def _colors(self, spec: ClassSpec, parent: QWidget | None = None) -> QMenu:
        return color_menu(parent or self.view, spec.color, partial(self._recolor, spec.value))

    def _toggle_row(self, number: int, _checked: bool = False) -> None:
        self.toggle(number)

    def _edit(self, number: int, _checked: bool = False) -> None:
        self.view.edit(self.rows.index(number, NAME))

    # -- changes --------------------------------------------------------------------------------

    def ask_class(self) -> None:
        """Ask for a new class."""
        task = self._session.task
        color = next_color(spec.color for spec in task.classes)
        dialog = NewClass(color, task.n_classes + 1, self)
        self._open(dialog)
        dialog.accepted.connect(self._add)

    def ask_merge(self) -> None:
        """Ask which class becomes which."""
        self._ask_merge_of(self._controller.class_value)

    def _ask_merge_of(self, value: int, _checked: bool = False) -> None:
        dialog = MergeDialog(self.rows.rows, value, self)
        self._open(dialog)
        dialog.accepted.connect(self._merge)

    def _open(self, dialog: NewClass | MergeDialog) -> None:
        self.dialog = dialog
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.finished.connect(self._on_closed)
        dialog.open()

    def _on_closed(self, _result: int) -> None:
        self.dialog = None

    def _add(self) -> None:
        if isinstance(self.dialog, NewClass):
            line = self.dialog.line
            name = line.name.text().strip() or line.name.placeholderText()
            self._controller.settle()
            with self._session.attempt():
                spec = self._session.tasking.add_class(name, line.color)
                self._controller.pick_class(spec.value)

    def _merge(self) -> None:
        if isinstance(self.dialog, MergeDialog):
            self._controller.leave()
            with self._session.attempt():
                self._session.tasking.merge_classes(*self.dialog.choice())

    def _rename(self, value: int, name: str) -> None:
        self._controller.settle()
        with self._session.attempt():
            self._session.tasking.rename_class(value, name)

    def _rekey(self, value: int, key: str) -> None:
        with self._session.attempt():
            self._session.tasking.rekey_class(value, key)

    def _recolor(self, value: int, color: str) -> None:
        self._controller.settle()
        with self._session.attempt():
            self._session.tasking.recolor_class(value, color)
