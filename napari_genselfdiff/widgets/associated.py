"""Label, macro and thumbnail of a slide, each shown when its button is pressed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_genselfdiff.slides.associated import PRIVATE
from napari_genselfdiff.widgets.look import GAP, WIDTH, plain_button

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.session.session import Session

_SIDE = WIDTH - 60  # the panel's width less its margins
_TITLES = {"label": "Label…", "macro": "Whole glass", "thumbnail": "Thumbnail"}
_TIPS = {
    "label": "Show the label. It may hold a patient's name, so it is hidden until asked for.",
    "macro": "Show the photograph of the whole glass.",
    "thumbnail": "Show the scanner's overview of the tissue.",
}


class AssociatedPictures(QWidget):
    """A button for each picture the slide has; pressed again it hides the picture."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        inside = QVBoxLayout(self)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(GAP)
        self._row = QHBoxLayout()
        self._row.setSpacing(GAP)
        inside.addLayout(self._row)
        self.buttons: dict[str, QPushButton] = {}
        self.picture = QLabel()
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        inside.addWidget(self.picture)
        self.shown = ""
        self.hide()

    def show_slide(self) -> None:
        """Offer what the open slide has; nothing is shown before it is asked for."""
        slide = self._session.slide
        names = () if slide is None else slide.associated_names
        self._clear()
        if tuple(self.buttons) != names:
            for button in self.buttons.values():
                self._row.removeWidget(button)
                button.deleteLater()
            self.buttons = {}
            for name in names:
                title = _TITLES.get(name, name.replace("_", " ").capitalize())
                tip = _TIPS.get(name, "Show this picture stored in the slide.")
                self.buttons[name] = plain_button(title, tip, partial(self.toggle, name))
                self._row.addWidget(self.buttons[name])
        self.setVisible(bool(names))

    def toggle(self, name: str) -> None:
        """Show a picture, or hide it if it is the one shown."""
        slide = self._session.slide
        if name == self.shown or slide is None:
            self._clear()
            return
        with self._session.attempt():
            pixels = slide.associated(name)
            self.picture.setPixmap(_scaled(pixels))
            self.picture.setVisible(True)
            self.shown = name
            if name in PRIVATE:
                self._session.say("The label may hold a name; press Label again to hide it.")

    def _clear(self) -> None:
        self.picture.clear()
        self.picture.hide()
        self.shown = ""


def _scaled(pixels: NDArray[np.uint8]) -> QPixmap:
    """A picture as wide as the panel at most."""
    height, width = pixels.shape[:2]
    drawn = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()
    return QPixmap.fromImage(drawn).scaled(
        min(width, _SIDE),
        min(height, _SIDE),
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
