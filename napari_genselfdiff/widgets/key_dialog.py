"""The dialog in which one chooses one's own keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session.wording import sentence
from napari_genselfdiff.widgets.key_preferences import EDITABLE, KeyBook, normal_key
from napari_genselfdiff.widgets.look import plain_button, row, text, tint

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QKeyEvent

_NAMES: Final = {"Return": "Enter", "Esc": "Escape", "Del": "Delete", "PgUp": "PageUp"}
_ONLY_HELD: Final = (
    Qt.Key.Key_Control,
    Qt.Key.Key_Shift,
    Qt.Key.Key_Alt,
    Qt.Key.Key_AltGr,
    Qt.Key.Key_Meta,
)


class KeyField(QLineEdit):
    """Takes the key one presses; Backspace empties it."""

    def __init__(self, key: str, chosen: Callable[[], None]) -> None:
        super().__init__(key)
        self._chosen = chosen
        self.setReadOnly(True)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setFixedWidth(120)
        self.setPlaceholderText("no key")
        self.setToolTip("Click here and press a key; Backspace leaves it without one")

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Take the key."""
        if event is None or event.key() in _ONLY_HELD:
            return
        if event.key() in (Qt.Key.Key_Escape, Qt.Key.Key_Tab, Qt.Key.Key_Backtab):
            super().keyPressEvent(event)  # of the dialog
            return
        if event.key() == Qt.Key.Key_Backspace:
            self.setText("")
        else:
            self.setText(spelled(event))
        self._chosen()


class KeyDialog(QDialog):
    """Choose keys; what cannot be is said while one chooses.

    Parameters
    ----------
    book
        The keys; changed when one accepts.
    parent
        The window it belongs to.
    """

    def __init__(self, book: KeyBook, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._book = book
        self.setWindowTitle("Keys")
        self.fields: dict[str, KeyField] = {}
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        half = -(-len(EDITABLE) // 2)
        for place, (name, command) in enumerate(EDITABLE.items()):
            label = QLabel(command.text)
            label.setToolTip(command.tip)
            field = self.fields[name] = KeyField(book.key(name), self._check)
            column = 3 * (place // half)
            grid.addWidget(label, place % half, column)
            grid.addWidget(field, place % half, column + 1)
        grid.setColumnMinimumWidth(2, 18)
        self.problem = text()
        self.problem.setMinimumWidth(380)
        buttons = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox()
        self.buttons.addButton(buttons.Ok)
        self.buttons.addButton(buttons.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.reset_button = plain_button(
            "Usual keys", "Go back to the keys of the guide", self.reset
        )
        whole = QVBoxLayout(self)
        whole.addWidget(text("Click a field and press the key you want."))
        whole.addLayout(grid)
        whole.addWidget(self.problem)
        whole.addLayout(row(self.reset_button, self.buttons))
        if book.problem:
            self._say(book.problem)
        else:
            self._check()

    @property
    def keys(self) -> dict[str, str]:
        """What the fields hold."""
        return {name: field.text() for name, field in self.fields.items()}

    def reset(self) -> None:
        """Show the usual keys; they hold once one accepts."""
        for name, field in self.fields.items():
            field.setText(normal_key(EDITABLE[name].key))
        self._check()

    def accept(self) -> None:
        """Use the keys, or say why not."""
        try:
            self._book.choose(self.keys)
        except ConfigError as error:
            self._say(str(error))
            return
        super().accept()

    def _check(self) -> None:
        try:
            self._book.checked(self.keys)
        except ConfigError as error:
            self._say(str(error))
        else:
            self._say("")

    def _say(self, problem: str) -> None:
        self.problem.setVisible(bool(problem))
        self.problem.setText(sentence(problem) if problem else "")
        tint(self.problem, "warning")
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        if ok is not None:
            ok.setEnabled(not problem or problem == self._book.problem)
        self.adjustSize()


def spelled(event: QKeyEvent) -> str:
    """A pressed key as napari spells it, such as "Ctrl+Shift+Z"."""
    keys = QKeySequence(event.keyCombination() if hasattr(event, "keyCombination") else _old(event))
    *held, key = keys.toString(QKeySequence.SequenceFormat.PortableText).rsplit("+", 1)
    return "+".join([*held, _NAMES.get(key, key)])


def _old(event: QKeyEvent) -> int:
    """Key and modifiers as Qt 5 adds them up."""
    return int(event.modifiers()) | event.key()


def relabel(root: QWidget, book: KeyBook) -> None:
    """Show the keys that hold now on all buttons of commands under a widget."""
    by_text = {command.text: name for name, command in EDITABLE.items()}
    for button in root.findChildren(QPushButton):
        name = by_text.get(button.objectName())
        if name is not None and button.text().startswith(button.objectName()):
            command = replace(EDITABLE[name], key=book.key(name))
            if not button.isCheckable():  # tools show theirs themselves
                button.setText(command.label)
            button.setToolTip(command.tooltip)
