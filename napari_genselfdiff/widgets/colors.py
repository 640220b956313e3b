"""Choosing a colour: a menu of the palette, with names; nothing pink, purple or red."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from qtpy.QtWidgets import QAction, QMenu

from napari_genselfdiff.annotation.tasks import PALETTE
from napari_genselfdiff.widgets.look import swatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

NAMES: Final = dict(
    zip(
        PALETTE,
        ("Yellow", "Green", "Orange", "Blue", "Sky blue", "Mint", "Lime"),
        strict=True,
    )
)


def color_menu(parent: QWidget, chosen: str, pick: Callable[[str], object]) -> QMenu:
    """Menu of the colours one can tell apart; ``pick`` is called with one such as "#009E73"."""
    menu = QMenu("Colour", parent)
    for color, name in NAMES.items():
        entry = QAction(swatch(color), name, menu)
        entry.setCheckable(True)
        entry.setChecked(color.upper() == chosen.upper())
        entry.triggered.connect(partial(_picked, pick, color))
        menu.addAction(entry)
    return menu


def _picked(pick: Callable[[str], object], color: str, _checked: bool = False) -> None:
    pick(color)
