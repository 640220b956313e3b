"""Who stands behind the annotations: a bar, a sentence, a legend, and what is under the pointer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QRect, QSize
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, MODEL, UNKNOWN
from napari_genselfdiff.errors import GenSelfDiffError
from napari_genselfdiff.session import wording
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.class_model import rim
from napari_genselfdiff.widgets.look import PROVENANCE, row, text
from napari_genselfdiff.widgets.view import world_to_pixel

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

_BAR: Final = {"model": MODEL, "accepted": ACCEPTED, "human": HUMAN, "unknown": UNKNOWN}
_POINTER_S: Final = 0.1
"""What is under the pointer is looked up at most this often."""
_BY: Final = {
    UNKNOWN: "unknown, nobody looked",
    MODEL: "model only, not checked",
    ACCEPTED: "accepted",
    HUMAN: "corrected by hand",
}
_TIP: Final = (
    "Model only: not checked by a person. Accepted: somebody looked and agreed.\n"
    "Corrected by hand: drawn or erased. Background counts, too.\n"
    "Unknown: nobody looked; it is no background and teaches nothing."
)


class CoverageBar(QWidget):
    """A thin bar: how much of the slide the model said, was accepted, was corrected."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(8)
        self._pixels: dict[str, int] = {}

    def set_pixels(self, pixels: dict[str, int]) -> None:
        """Show other numbers."""
        self._pixels = pixels
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the shares side by side."""
        painter = QPainter(self)
        total = sum(self._pixels.values())
        start = 0.0
        for name, value in _BAR.items():
            part = self.width() * self._pixels.get(name, 0) / total if total else 0.0
            # What is there is seen, however little it is.
            wide = max(part, 2.0) if part and name != "unknown" else part
            area = QRect(round(start), 0, self.width() - round(start), self.height())
            painter.fillRect(area, QColor(PROVENANCE[value]))
            start += wide
        if not total:
            painter.fillRect(self.rect(), QColor(PROVENANCE[UNKNOWN]))
        painter.end()


class Coverage(QWidget):
    """How much is known of the slide and from whom, and how the slide shows it.

    Parameters
    ----------
    session
        Whose annotations are meant.
    controller
        Knows where the pointer is.
    """

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__()
        self._session, self._controller = session, controller
        self._pointer: tuple[float, ...] = ()
        self._looked_at = 0.0
        self.bar = CoverageBar()
        self.words = text(small=True)
        self.words.setToolTip(_TIP)
        self.legend = _legend()
        self.pointer = text(small=True)
        self.pointer.setToolTip("What is under the pointer, and who says so.")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(3)
        for widget in (self.bar, self.words, self.legend, self.pointer):
            outer.addWidget(widget)

    def show_numbers(self) -> None:
        """Show how much is known now."""
        store, task = self._session.store, self._session.task.name
        known = store is not None and task in store.tasks
        self.setVisible(known)
        if store is None or not known:
            return
        pixels = store.summary(task)["pixels"]
        self.bar.set_pixels(pixels)
        self.words.setText(wording.coverage(pixels))
        self._pointer = ()  # look again: it may have changed

    def tick(self) -> None:
        """Say what is under the pointer, if it moved."""
        position = tuple(self._controller.viewer.cursor.position)
        now = time.monotonic()
        if position == self._pointer or now - self._looked_at < _POINTER_S or self.isHidden():
            return
        self._pointer, self._looked_at = position, now
        self.pointer.setText(self._under_pointer(position))

    def _under_pointer(self, position: tuple[float, ...]) -> str:
        store, task, slide = self._session.store, self._session.task, self._controller.layers.slide
        pixel0 = None if slide is None else world_to_pixel(slide, position)
        if store is None or pixel0 is None:
            return "Pointer: beside the slide"
        downsample = store.downsample(task.name)
        try:
            window = store.read(
                task.name, Region(pixel0[0] // downsample, pixel0[1] // downsample, 1, 1)
            )
        except GenSelfDiffError:
            return "Pointer: cannot be read"
        value, by = int(window.classes[0, 0]), int(window.provenance[0, 0])
        if by == UNKNOWN:
            return f"Pointer: {_BY[UNKNOWN]}"
        names = {spec.value: spec.name for spec in task.classes}
        return f"Pointer: {names.get(value, 'background')}, {_BY[by]}"


def _legend() -> QWidget:
    """How the slide shows who stands behind what."""
    holder = QWidget()
    parts: list[QWidget] = []
    for picture, words in (
        (rim(PROVENANCE[HUMAN]), "by hand"),
        (rim(PROVENANCE[ACCEPTED], dashed=True), "accepted"),
        (rim(None), "not checked"),
    ):
        label = QLabel()
        label.setPixmap(picture.pixmap(QSize(14, 14)))
        label.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        name = text(words, small=True)
        name.setWordWrap(False)
        parts += [label, name]
    layout = row(*parts, stretch=True)
    holder.setLayout(layout)
    holder.setToolTip(
        "Lines on the slide: solid white around what was drawn or erased by hand,\n"
        "green dashes around accepted places, none where only a model spoke or nobody."
    )
    return holder
