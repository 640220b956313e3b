"""A dialog that asks which class of the task each class of a file is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QFormLayout, QLabel, QVBoxLayout

from napari_genselfdiff.widgets.look import swatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qtpy.QtWidgets import QWidget

    from napari_genselfdiff.registry.card import TaskSpec

_MOST = 40  # classes asked for; whoever has more maps them on the command line
LEAVE_OUT = "Leave out"


def unknown_classes(found: Mapping[str, int], task: TaskSpec) -> list[str]:
    """Classes of a file the task does not have by that name, the most frequent first.

    A task of one class takes shapes without a class as its own.
    """
    own = {spec.name.casefold() for spec in task.classes}
    if len(task.classes) == 1:
        own.add("")
    names = sorted(found, key=lambda name: (-found[name], name))
    return [name for name in names if name.casefold() not in own][:_MOST]


class ClassMapping(QDialog):
    """One line for each class of the file that the task does not know.

    Parameters
    ----------
    found
        Classes of the file and how many shapes have them; ``""`` is none.
    task
        Whose classes can be chosen.
    """

    def __init__(self, found: Mapping[str, int], task: TaskSpec, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Which class is which?")
        inside = QVBoxLayout(self)
        inside.addWidget(QLabel(f"Classes of the file that {task.name} does not have:"))
        form = QFormLayout()
        inside.addLayout(form)
        self.choices: dict[str, QComboBox] = {}
        for name in unknown_classes(found, task):
            choice = QComboBox()
            for spec in task.classes:
                choice.addItem(swatch(spec.color), spec.name)
            choice.addItem(LEAVE_OUT)
            choice.setCurrentIndex(0 if len(task.classes) == 1 else len(task.classes))
            form.addRow(f"{name or 'without a class'} ({found[name]})", choice)
            self.choices[name] = choice
        buttons = QDialogButtonBox()  # one by one: the bindings' stubs disagree about sums
        buttons.addButton(QDialogButtonBox.StandardButton.Ok)
        buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        inside.addWidget(buttons)

    def mapping(self) -> dict[str, str | None]:
        """Classes of the task by those of the file; None leaves one out."""
        chosen = {name: choice.currentText() for name, choice in self.choices.items()}
        return {name: None if to == LEAVE_OUT else to for name, to in chosen.items()}
