"""The tasks side by side: one click switches, + makes a new one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtGui import QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QAction, QButtonGroup, QGridLayout, QMenu, QPushButton, QWidget

from napari_genselfdiff.widgets.look import TAB, WIDTH, plain_button, swatch
from napari_genselfdiff.widgets.task_dialog import TaskDialog

if TYPE_CHECKING:
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

_COLUMNS: Final = 24
_SWATCH, _STEP = 14, 7
_LONGEST: Final = 18
"""Letters of a name shown; the rest is in the tooltip."""


class TaskBar(QWidget):
    """A button for each task, as many rows as they need.

    Parameters
    ----------
    session
        Knows the tasks.
    controller
        Saves what is being drawn before the task changes.
    """

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__()
        self._session, self._controller = session, controller
        self.buttons: dict[str, QPushButton] = {}
        self._shown: list[TaskSpec] = []
        self._group = QButtonGroup(self)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(3)
        self.new_button = plain_button(
            "+", "Make a task of your own: what to look for, its classes, how sharp.", self.ask_new
        )
        self.new_button.setFixedWidth(34)
        self.dialog: TaskDialog | None = None
        session.events.task_changed.connect(self.show_tasks)
        session.events.slide_changed.connect(self.show_tasks)
        self.show_tasks()

    def cleanup(self) -> None:
        """Let go of the session."""
        self._session.events.task_changed.disconnect(self.show_tasks)
        self._session.events.slide_changed.disconnect(self.show_tasks)
        if self.dialog is not None:
            self.dialog.close()

    def show_tasks(self) -> None:
        """Show the tasks there are and the one worked on."""
        tasks = self._session.tasks()
        if tasks != self._shown:
            self._shown = tasks
            self._build()
        chosen = self.buttons.get(self._session.task.name)
        if chosen is not None:
            chosen.setChecked(True)

    def choose(self, name: str) -> None:
        """Work on another task; what was drawn is saved."""
        self._controller.leave()
        with self._session.attempt():
            self._session.choose_task(name)
        self.show_tasks()

    def ask_new(self) -> None:
        """Ask for a task of the user's own; the window stays usable meanwhile."""
        slide = self._session.slide
        names = [task.name for task in self._session.tasks()]
        self.dialog = TaskDialog(names, None if slide is None else slide.mpp, self)
        self.dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.dialog.accepted.connect(self._make)
        self.dialog.finished.connect(self._on_closed)
        self.dialog.open()

    def _make(self) -> None:
        if self.dialog is None:
            return
        self._controller.leave()
        with self._session.attempt():
            self._session.tasking.new_task(self.dialog.task())

    def _on_closed(self, _result: int) -> None:
        self.dialog = None

    def _build(self) -> None:
        for made in (*self.buttons.values(), self.new_button):
            self._grid.removeWidget(made)
        for made in self.buttons.values():
            self._group.removeButton(made)
            made.hide()
            made.deleteLater()
        self.buttons = {task.name: self._button(task) for task in self._shown}
        parts = [*self.buttons.values(), self.new_button]
        for number, rank in enumerate(_rows([part.sizeHint().width() for part in parts])):
            left = 0
            for index, part in zip(rank, _shares(len(rank)), strict=True):
                self._grid.addWidget(parts[index], number, left, 1, part)
                left += part

    def _button(self, task: TaskSpec) -> QPushButton:
        name = task.name
        short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        classes = ", ".join(spec.name for spec in task.classes)
        what = "Objects" if task.kind == "objects" else "Areas"
        made = plain_button(
            short, f"{name}\n{what}: {classes}\n{task.mpp:g} µm/px", partial(self.choose, name)
        )
        made.setObjectName(f"task {name}")
        made.setCheckable(True)
        made.setStyleSheet(TAB)
        icon, width = _swatches([spec.color for spec in task.classes[:3]])
        made.setIcon(icon)
        made.setIconSize(QSize(width, _SWATCH))
        made.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        made.customContextMenuRequested.connect(partial(self._offer, task, made))
        self._group.addButton(made)
        return made

    def _offer(self, task: TaskSpec, made: QPushButton, at: QPoint) -> None:
        """What can be done with a task of one's own."""
        if not self._session.tasking.is_own(task.name):
            return
        menu = QMenu(made)
        entry = QAction("Do not offer this task on other slides", menu)
        entry.triggered.connect(partial(self._forget, task.name))
        menu.addAction(entry)
        menu.popup(made.mapToGlobal(at))

    def _forget(self, name: str, _checked: bool = False) -> None:
        with self._session.attempt():
            self._session.tasking.forget(name)
        self.show_tasks()


def _rows(widths: list[int]) -> list[list[int]]:
    """Numbers of the parts of each row, so that no row is wider than the panel."""
    rows: list[list[int]] = [[]]
    left = WIDTH
    for index, width in enumerate(widths):
        if rows[-1] and width > left:
            rows.append([])
            left = WIDTH
        rows[-1].append(index)
        left -= width + 3
    return rows


def _shares(count: int) -> list[int]:
    """Columns of the grid for each part of a row."""
    return [_COLUMNS * (i + 1) // count - _COLUMNS * i // count for i in range(count)]


def _swatches(colors: list[str]) -> tuple[QIcon, int]:
    """The first colours of a task in one small picture, and its width."""
    width = _SWATCH + _STEP * (len(colors) - 1)
    picture = QPixmap(width, _SWATCH)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    for number, color in reversed(list(enumerate(colors))):
        painter.drawPixmap(number * _STEP, 0, swatch(color).pixmap(_SWATCH, _SWATCH))
    painter.end()
    return QIcon(picture), width
