"""The result card: the same place before and after, the numbers, the verdict, and the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_genselfdiff.learning.verdict_words import from_to
from napari_genselfdiff.widgets.comparison import Comparison
from napari_genselfdiff.widgets.drawing import drawn_over, enlarged, pixmap
from napari_genselfdiff.widgets.look import GAP, notice, plain_button, row, text, tint

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from qtpy.QtGui import QMouseEvent

    from napari_genselfdiff.learning.before_after import BeforeAfter, RefinePreview
    from napari_genselfdiff.session.refining import Outcome
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

SIDE = 134
PLACE = 128  # pixels of the picture shown, so that single nuclei can be judged


class Picture(QLabel):
    """A small picture that does something when it is clicked."""

    def __init__(self, on_click: Callable[[], None]) -> None:
        super().__init__()
        self._on_click = on_click
        self.setFixedSize(SIDE, SIDE)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip(
            "A checked place as the old and the new model see it.\n"
            "Inside the white frame it was kept aside: the new model never learned from it.\n"
            "Click to see it large."
        )

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Tell of a click (Qt's name for it)."""
        super().mouseReleaseEvent(event)
        self._on_click()


class ResultCard(QFrame):
    """Shows an outcome of Refine and takes the user's decision."""

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__()
        self.setObjectName("result-card")
        self.setStyleSheet(
            "#result-card { border: 1px solid rgba(124, 136, 148, 120); border-radius: 4px; }"
        )
        self._session = session
        self._shown: BeforeAfter | None = None
        outer = QVBoxLayout(self)
        outer.setContentsMargins(8, 8, 8, 8)
        outer.setSpacing(GAP)
        self.verdict = notice("plain")
        self.before, self.after = Picture(self.compare), Picture(self.compare)
        self.comparison: Comparison | None = None
        self._pictures = QWidget()
        pictures = QGridLayout(self._pictures)
        pictures.setContentsMargins(0, 0, 0, 0)
        pictures.setSpacing(4)
        for column, (title, picture) in enumerate((("Before", self.before), ("After", self.after))):
            pictures.addWidget(text(title, bold=True), 0, column)
            pictures.addWidget(picture, 1, column)
        self.numbers = text(small=True)
        self.use_button = plain_button("Use", "Use the refined model", controller.use_new)
        self.keep_button = plain_button(
            "Keep old",
            "The old model stays in use; the refined one stays in the list.",
            controller.keep_old,
        )
        outer.addWidget(self.verdict)
        outer.addWidget(self._pictures)
        outer.addWidget(self.numbers)
        outer.addLayout(row(self.use_button, self.keep_button))
        self.hide()

    def show_outcome(self, outcome: Outcome | None) -> None:
        """Show an outcome, or nothing."""
        self.setVisible(outcome is not None)
        if outcome is None:
            return
        verdict = outcome.result.verdict
        self.verdict.setText(f"{verdict.sentence} {_in_use(outcome)}")
        tint(self.verdict, "good" if verdict.accepted else "warning")
        self._show_picture(outcome.result.picture)
        self.numbers.setText(numbers(outcome))
        self.use_button.setText("Use" if verdict.accepted else "Use anyway")
        self.use_button.setEnabled(not outcome.in_use)
        self.keep_button.setText("Go back" if outcome.in_use else "Keep old")
        back = outcome.old is not None  # there is something to go back to
        self.keep_button.setEnabled(back if outcome.in_use else not outcome.decided)
        self._show_choice(is_there=True)

    def show_preview(self, preview: RefinePreview) -> None:
        """Show what was learnt in the first moment; there is nothing to decide yet."""
        self.verdict.setText(preview.sentence)
        tint(self.verdict, "good" if preview.better else "plain")
        self._show_picture(preview.picture)
        self._show_choice(is_there=False)
        self.show()

    def _show_choice(self, *, is_there: bool) -> None:
        for widget in (self.numbers, self.use_button, self.keep_button):
            widget.setVisible(is_there)

    def _show_picture(self, picture: BeforeAfter | None) -> None:
        self._shown = picture
        self._pictures.setVisible(picture is not None)
        if picture is None:
            return
        part = telling_place(picture.before, picture.after, picture.known)
        for label, classes in ((self.before, picture.before), (self.after, picture.after)):
            drawn = drawn_over(
                enlarged(picture.image[part]),
                enlarged(classes[part]),
                self._session.task,
                enlarged(picture.known[part]),
            )
            label.setPixmap(pixmap(drawn, SIDE))

    def compare(self) -> None:
        """Open the place in a window of its own."""
        if self._shown is not None:
            self.comparison = Comparison(self._shown, self._session.task, self)
            self.comparison.show()


def numbers(outcome: Outcome) -> str:
    """Dice of every class, old to new, with the interval of the gain."""
    verdict = outcome.result.verdict
    what = "Dice, with what you accepted," if "corrected" in verdict.right else "Dice"
    lines = [f"{name}: {what} {from_to(*pair)}" for name, pair in verdict.classes.items()]
    low, high = verdict.interval
    lines.append(f"Gain {verdict.new - verdict.old:+.2f} (95 % between {low:+.2f} and {high:+.2f})")
    places = {"corrected": "Where you corrected", "accepted": "Where you accepted"}
    for name, (old, new) in verdict.right.items():
        lines.append(f"{places[name]}: {old:.0%} → {new:.0%} of pixels right")
    if verdict.keep is not None:
        lines.append(f"Tissue it knew before: {from_to(*verdict.keep[:2])}")
    if verdict.elsewhere is not None:
        lines.append(f"Elsewhere on the slide: Dice {verdict.elsewhere:.2f} with the old model")
    return "\n".join(lines)


def telling_place(
    before: NDArray[np.uint8], after: NDArray[np.uint8], aside: NDArray[np.bool_]
) -> tuple[slice, slice]:
    """Part of the picture where the models differ most on what was kept aside."""
    height, width = before.shape
    side_y, side_x = min(PLACE, height), min(PLACE, width)
    sums = np.zeros((height + 1, width + 1), np.int64)
    told = ((before != after) & aside).astype(np.int64) * 4 + aside
    sums[1:, 1:] = told.cumsum(axis=0).cumsum(axis=1)
    whole = (
        sums[side_y:, side_x:]
        - sums[: height + 1 - side_y, side_x:]
        - sums[side_y:, : width + 1 - side_x]
        + sums[: height + 1 - side_y, : width + 1 - side_x]
    )
    y, x = np.unravel_index(int(whole.argmax()), whole.shape)
    return slice(int(y), int(y) + side_y), slice(int(x), int(x) + side_x)


def _in_use(outcome: Outcome) -> str:
    if outcome.in_use:
        return "It is in use now."
    if not outcome.decided:
        return "You choose."
    return "No model is in use." if outcome.old is None else "The old model is in use."
