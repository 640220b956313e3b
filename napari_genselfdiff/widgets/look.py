"""How the panel looks: blocks, buttons, spacing, colours; for the dark and the light theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QFont, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, MODEL, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QBoxLayout

    from napari_genselfdiff.session.events import Tone
    from napari_genselfdiff.widgets.commands import Command

WIDTH: Final = 340
GAP: Final = 6
ACCENT: Final = "#1F7A8C"
TONES: Final[dict[Tone, str]] = {
    "plain": "#7C8894",
    "good": "#2E9E6B",
    "warning": "#C98A00",
    "error": "#D1495B",
}

TALL: Final = 900
"""Height of a screen, in points, that has room for everything unfolded."""
PROVENANCE: Final = {UNKNOWN: "#8A929A", MODEL: "#56B4E9", ACCEPTED: "#009E73", HUMAN: "#FFFFFF"}
"""Colours of who says so, on bar, map and legend; ``widgets.layers`` draws the same."""

_PRIMARY = f"""
QPushButton {{ background: {ACCENT}; color: white; font-weight: bold; border-radius: 4px;
  padding: 7px; }}
QPushButton:hover {{ background: #2893A8; }}
QPushButton:pressed {{ background: #175E6C; }}
QPushButton:disabled {{ background: rgba(124, 136, 148, 60); color: rgba(124, 136, 148, 200); }}
"""
TAB: Final = f"""
QPushButton {{ padding: 6px 5px; border-radius: 4px; }}
QPushButton:checked {{ background: {ACCENT}; color: white; }}
"""


class Foldable(QWidget):
    """A line with an arrow, and a body below it that the line folds and unfolds.

    Parameters
    ----------
    title
        Words of the line.
    tip
        What one finds in it.
    style
        Of the line.
    margins
        Around the body: left, top, right, bottom.
    is_open
        Whether it begins unfolded.
    """

    def __init__(
        self,
        title: str,
        tip: str,
        *,
        style: str,
        margins: tuple[int, int, int, int] = (0, 0, 0, 0),
        is_open: bool = True,
    ) -> None:
        super().__init__()
        self._title = title
        self.head = QToolButton()
        self.head.setText(title)
        self.head.setToolTip(tip)
        self.head.setCheckable(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.head.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.head.setStyleSheet(f"QToolButton {{ border: none; text-align: left; {style} }}")
        self._inside = QWidget()
        self.body = QVBoxLayout(self._inside)
        self.body.setContentsMargins(*margins)
        self.body.setSpacing(GAP)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        outer.addWidget(self.head)
        outer.addWidget(self._inside)
        self.head.setChecked(is_open)
        self._fold(is_open)
        self.head.toggled.connect(self._fold)

    @property
    def is_open(self) -> bool:
        """Whether the body is shown."""
        return bool(self.head.isChecked())

    def _fold(self, is_open: bool) -> None:
        self.head.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self._inside.setVisible(is_open)


class Block(Foldable):
    """A titled part of the panel that folds; the title shows a few words when folded.

    Parameters
    ----------
    title
        One word.
    number
        Its place in the journey.
    """

    def __init__(self, title: str, number: int) -> None:
        self._folded_words = ""
        super().__init__(
            f"  {number}   {title}",
            f"Fold or unfold {title}",
            style="font-weight: bold; padding: 5px;"
            " background: rgba(124, 136, 148, 45); border-radius: 4px;",
            margins=(8, 4, 4, 8),
        )

    def set_open(self, is_open: bool) -> None:
        """Unfold or fold."""
        self.head.setChecked(is_open)

    def say_folded(self, words: str) -> None:
        """Put a few words beside the title while it is folded."""
        self._folded_words = words
        self._fold(self.is_open)

    def _fold(self, is_open: bool) -> None:
        super()._fold(is_open)
        words = "" if is_open or not self._folded_words else f" · {self._folded_words}"
        wide = self.head.fontMetrics().elidedText(
            f"{self._title}{words}", Qt.TextElideMode.ElideRight, WIDTH - 60
        )
        self.head.setText(wide)


class Section(Foldable):
    """A part of a block that folds; its line says the most important even when folded.

    Parameters
    ----------
    title
        What it is.
    tip
        What one finds in it.
    is_open
        Whether it begins unfolded.
    """

    def __init__(self, title: str, tip: str, *, is_open: bool) -> None:
        super().__init__(title, tip, style="padding: 2px 0;", is_open=is_open)

    def say(self, words: str) -> None:
        """Put a few words beside the title."""
        self.head.setText(f"{self._title} · {words}" if words else self._title)


def is_tall() -> bool:
    """Whether the screen has room for everything unfolded."""
    screen = QApplication.primaryScreen()
    return screen is not None and screen.availableGeometry().height() >= TALL


def button(command: Command, run: Callable[[], object], *, primary: bool = False) -> QPushButton:
    """A button with its word, key and explanation."""
    made = plain_button(command.label, command.tooltip, run)
    made.setObjectName(command.text)
    if primary:
        made.setStyleSheet(_PRIMARY)
    return made


def plain_button(text: str, tip: str, run: Callable[[], object]) -> QPushButton:
    """A button for what has no key."""
    made = QPushButton(text)
    made.setObjectName(text)
    made.setToolTip(tip)
    # Keys are the viewer's: a button that takes the focus would swallow the space bar.
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def clicked(_checked: bool = False) -> None:
        run()

    made.clicked.connect(clicked)
    return made


def choice(tip: str, least: int = 8) -> QComboBox:
    """A box to choose from that is at least so many letters wide, and no wider than there is room.

    Long entries would widen the panel otherwise.
    """
    box = QComboBox()
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(least)
    return box


def quiet_choice(tip: str, on_chosen: Callable[[int], None], least: int = 8) -> QComboBox:
    """A box to choose from that leaves all keys to the viewer; told is the entry's number."""
    box = choice(tip, least)
    box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    box.activated.connect(on_chosen)
    return box


def text(words: str = "", *, small: bool = False, bold: bool = False) -> QLabel:
    """A label that wraps and can be copied from."""
    label = QLabel(words)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    label.setMinimumWidth(1)
    font = QFont(label.font())
    if bold:
        font.setBold(True)
    label.setFont(font)
    if small:
        label.setStyleSheet("font-size: 11px;")
    return label


def badge(words: str, tip: str, color: str = TONES["warning"]) -> QLabel:
    """A few words in a coloured box."""
    label = QLabel(words)
    label.setToolTip(tip)
    label.setStyleSheet(
        f"background: {color}; color: white; border-radius: 3px; padding: 1px 6px;"
        " font-size: 10px; font-weight: bold;"
    )
    label.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return label


def row(*widgets: QWidget, stretch: bool = False) -> QBoxLayout:
    """Widgets side by side; with ``stretch`` they keep to the left."""
    made = QHBoxLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(GAP)
    for widget in widgets:
        made.addWidget(widget)
    if stretch:
        made.addStretch(1)
    return made


def notice(tone: Tone) -> QLabel:
    """A wrapped sentence with a coloured edge."""
    label = text()
    tint(label, tone)
    return label


def tint(label: QLabel, tone: Tone) -> None:
    """Give a sentence's edge the colour of its tone."""
    color = QColor(TONES[tone])
    shade = f"rgba({color.red()}, {color.green()}, {color.blue()}, 38)"
    label.setStyleSheet(
        f"border-left: 4px solid {TONES[tone]}; background: {shade}; padding: 5px 6px;"
        " border-radius: 2px;"
    )


def swatch(color: str, side: int = 14) -> QIcon:
    """A small square of one colour."""
    pixmap = QPixmap(QSize(side, side))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setBrush(QColor(color))
    painter.setPen(QColor(0, 0, 0, 90))
    painter.drawRoundedRect(0, 0, side - 1, side - 1, 3, 3)
    painter.end()
    return QIcon(pixmap)


def line() -> QFrame:
    """A thin line between parts of a block."""
    made = QFrame()
    made.setFixedHeight(1)
    made.setStyleSheet("background: rgba(124, 136, 148, 90);")
    return made
