"""The checked place of a result card, large: before, after, and what the user said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_genselfdiff.widgets.drawing import drawn_over, enlarged, pixmap
from napari_genselfdiff.widgets.look import GAP, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.learning.before_after import BeforeAfter
    from napari_genselfdiff.registry.card import TaskSpec

SIDE: Final = 440
_EXPLAINED: Final = (
    "Inside the white frame the corrections were kept aside: the new model never learned from "
    "them. Outside of it it may have. Esc closes."
)


class Comparison(QDialog):
    """Three pictures of one place, side by side; stays open beside the window."""

    def __init__(self, picture: BeforeAfter, task: TaskSpec, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Before and after")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.pictures: dict[str, QLabel] = {}
        grid = QGridLayout()
        grid.setSpacing(GAP)
        shown: dict[str, NDArray[np.uint8]] = {
            "Before": picture.before,
            "After": picture.after,
            "As you left it": picture.truth,
        }
        for column, (title, classes) in enumerate(shown.items()):
            label = QLabel()
            drawn = drawn_over(
                enlarged(picture.image), enlarged(classes), task, enlarged(picture.known)
            )
            label.setPixmap(pixmap(drawn, SIDE))
            grid.addWidget(text(title, bold=True), 0, column)
            grid.addWidget(label, 1, column)
            self.pictures[title] = label
        outer = QVBoxLayout(self)
        outer.addLayout(grid)
        outer.addWidget(text(_EXPLAINED, small=True))
