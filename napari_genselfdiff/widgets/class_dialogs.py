"""Dialogs on classes: a new one, and merging one into another, with what that means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QFormLayout, QVBoxLayout, QWidget

from napari_genselfdiff.session.class_rows import ClassRow, spoken_area
from napari_genselfdiff.session.wording import counted, share
from napari_genselfdiff.widgets.look import GAP, notice, swatch
from napari_genselfdiff.widgets.task_dialog import ClassLine

if TYPE_CHECKING:
    from collections.abc import Sequence


class NewClass(QDialog):
    """Asks for the name and the colour of a class."""

    def __init__(self, color: str, number: int, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle("New class")
        self.setMinimumWidth(320)
        self.line = ClassLine(color, f"Class {number}")
        self.line.remove_button.hide()
        buttons = QDialogButtonBox()  # one by one: the bindings' stubs disagree about sums
        self.ok_button = buttons.addButton(QDialogButtonBox.StandardButton.Ok)
        buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        outer = QVBoxLayout(self)
        outer.setSpacing(GAP)
        outer.addWidget(self.line)
        outer.addWidget(buttons)


class MergeDialog(QDialog):
    """Which class goes, and into which.

    Parameters
    ----------
    rows
        The task's classes with their numbers; two or more.
    value
        Class that goes, at first.
    """

    def __init__(self, rows: Sequence[ClassRow], value: int, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Merge classes")
        self.setMinimumWidth(360)
        self._rows = [row for row in rows if row.spec is not None]
        self.gone, self.into = QComboBox(), QComboBox()
        for row in self._rows:
            if row.spec is not None:
                self.gone.addItem(swatch(row.spec.color), row.name, row.spec.value)
        form = QFormLayout()
        form.setSpacing(GAP)
        form.addRow("Merge", self.gone)
        form.addRow("into", self.into)
        self.words = notice("plain")
        buttons = QDialogButtonBox()  # one by one: the bindings' stubs disagree about sums
        ok = buttons.addButton(QDialogButtonBox.StandardButton.Ok)
        buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        self.merge_button = ok
        if ok is not None:
            ok.setText("Merge")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        outer = QVBoxLayout(self)
        outer.setSpacing(GAP)
        outer.addLayout(form)
        outer.addWidget(self.words)
        outer.addWidget(buttons)
        self.gone.setCurrentIndex(max(self.gone.findData(value), 0))
        self.gone.currentIndexChanged.connect(self._on_gone)
        self.into.currentIndexChanged.connect(self._tell)
        self._on_gone()

    def choice(self) -> tuple[int, int]:
        """Value of the class that goes, and of the one it becomes."""
        return int(self.gone.currentData()), int(self.into.currentData())

    def _on_gone(self, _index: int = 0) -> None:
        """Offer every other class."""
        self.into.clear()
        for row in self._rows:
            if row.spec is not None and row.spec.value != self.gone.currentData():
                self.into.addItem(swatch(row.spec.color), row.name, row.spec.value)
        self._tell()

    def _tell(self, _index: int = 0) -> None:
        row = self._rows[self.gone.currentIndex()]
        self.words.setText(consequences(row, self.into.currentText()))


def consequences(row: ClassRow, into: str) -> str:
    """What merging a class into another one changes."""
    if not row.pixels:
        return f"Nothing is {row.name} yet; only the class goes. Undo brings it back."
    what = f"{row.pixels:,} pixels ({spoken_area(row.area_um2)})"
    if row.objects is not None:
        what = f"{counted(row.objects, 'object')}, {what},"
    checked = "" if row.checked is None else f" {share(row.checked, 1.0)} of it stays checked."
    return f"{what} of {row.name} become {into}, and {row.name} goes.{checked} Undo brings it back."
