"""After a crash: what was recovered, and what to do with it. Nothing waits for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_genselfdiff.annotation.fork import Fork
from napari_genselfdiff.session.recovering import Place, recovered_places
from napari_genselfdiff.session.wording import counted
from napari_genselfdiff.widgets.drawing import drawn_over, enlarged, pixmap
from napari_genselfdiff.widgets.history_steps import spoken_time
from napari_genselfdiff.widgets.look import GAP, TONES, plain_button, row, text
from napari_genselfdiff.widgets.view import look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_genselfdiff.annotation.recovery import Recovery
    from napari_genselfdiff.annotation.window import Operation
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

SIDE: Final = 420
_MOST_NAMED: Final = 3
_TITLES: Final = ("As last closed", "Recovered")
_TITLES_FORK: Final = ("As it is now", "As left on this computer")
_DISCARD: Final = "Go back to how it was when last closed. Redo brings these steps back."
_DISCARD_FORK: Final = "Leave the annotations as they are; the other work stays on disk, put aside."
_WENT_BACK: Final = "As it was when last closed. Redo brings the steps back."
_LEFT: Final = "The annotations stay as they are; the other work was put aside on disk."


class RecoveryCard(QFrame):
    """Says what was recovered; Keep, Discard, Compare.

    Parameters
    ----------
    session
        Whose annotations were opened.
    controller
        Takes the view to what was recovered.
    """

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__()
        self.setObjectName("recovery-card")
        self.setStyleSheet(
            f"#recovery-card {{ border: 1px solid {TONES['warning']}; border-radius: 4px; }}"
        )
        self._session, self._controller = session, controller
        self.comparison: RecoveredPlaces | None = None
        self._shown: Recovery | None = None
        self._last = 0
        self.words = text()
        self.steps = text(small=True)
        self.keep_button = plain_button("Keep", "Everything stays as it is now.", self.keep)
        self.discard_button = plain_button("Discard", _DISCARD, self.discard)
        self.compare_button = plain_button(
            "Compare…", "See each place before and after, side by side.", self.compare
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(8, 6, 8, 6)
        outer.setSpacing(4)
        outer.addWidget(self.words)
        outer.addWidget(self.steps)
        outer.addLayout(row(self.keep_button, self.discard_button, self.compare_button))
        session.events.slide_changed.connect(self.show_recovery)
        session.events.history_changed.connect(self.show_recovery)
        self.show_recovery()

    def cleanup(self) -> None:
        """Let go of the session."""
        self._session.events.slide_changed.disconnect(self.show_recovery)
        self._session.events.history_changed.disconnect(self.show_recovery)
        self._close_comparison()

    def show_recovery(self) -> None:
        """Show what was recovered, or nothing if there was nothing or it was decided."""
        recovery = self._recovery
        self.setVisible(recovery is not None)
        if recovery is None:
            self._close_comparison()
            return
        steps = recovery.operations
        if recovery is not self._shown:
            self._shown, self._last = recovery, steps[-1].id if steps else 0
        self.words.setText(recovery.text)
        self.steps.setText(named_steps(steps, self._last))
        self.discard_button.setToolTip(_DISCARD_FORK if _is_fork(recovery) else _DISCARD)
        can_choose = bool(steps)
        self.steps.setVisible(can_choose)
        self.discard_button.setVisible(can_choose)
        self.compare_button.setVisible(can_choose and bool(recovery.places))
        self.keep_button.setText("Keep" if can_choose else "OK")

    def keep(self) -> None:
        """Keep everything as it is."""
        recovery = self._recovery
        if recovery is not None:
            self._controller.leave()
            with self._session.attempt():
                told = bool(recovery.operations)
                recovery.keep()
                if told:
                    self._session.say(_kept(recovery), "good")
        self.show_recovery()

    def discard(self) -> None:
        """Go back to how it was when last closed."""
        self._controller.leave()
        recovery = self._recovery
        if recovery is not None:
            with self._session.attempt():
                recovery.discard()
                self._session.say(_LEFT if _is_fork(recovery) else _WENT_BACK)
        self.show_recovery()

    def compare(self) -> None:
        """Show the places before and after in a window beside this one."""
        if self._recovery is None or self.comparison is not None:
            return
        with self._session.attempt():
            places = recovered_places(self._session)
            if places:
                titles = _TITLES_FORK if _is_fork(self._recovery) else _TITLES
                self.comparison = RecoveredPlaces(places, titles, self._look_at, self)
                self.comparison.finished.connect(self._on_closed)
                self.comparison.show()

    @property
    def _recovery(self) -> Recovery | None:
        store = self._session.store
        return None if store is None else store.recovery

    def _look_at(self, place: Place) -> None:
        """Show the place on the slide, too."""
        if place.task.name != self._session.task.name:
            self._controller.leave()
            with self._session.attempt():
                self._session.choose_task(place.task.name)
        layer = self._controller.layers.slide
        if layer is not None:
            look_at(self._controller.viewer, layer, place.region0, margin=1.3)

    def _on_closed(self, _result: int) -> None:
        self.comparison = None

    def _close_comparison(self) -> None:
        if self.comparison is not None:
            self.comparison.close()


class RecoveredPlaces(QDialog):
    """Each place before and after, one at a time; stays open beside the window.

    Parameters
    ----------
    places
        At least one.
    titles
        What stands above the pictures before and after.
    look_at
        Called with the place shown.
    """

    def __init__(
        self,
        places: list[Place],
        titles: tuple[str, str],
        look_at: Callable[[Place], object],
        parent: QWidget | None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("What was recovered")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._places, self._look_at, self._at = places, look_at, 0
        several = len(places) > 1
        self.title = text(bold=True)
        self.pictures = {title: QLabel() for title in titles}
        grid = QGridLayout()
        grid.setSpacing(GAP)
        for column, (name, label) in enumerate(self.pictures.items()):
            grid.addWidget(text(name, bold=True), 0, column)
            label.setFixedSize(SIDE, SIDE)
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            grid.addWidget(label, 1, column)
        self.back_button = plain_button("◂ Previous", "The place before this one", self.back)
        self.next_button = plain_button("Next ▸", "The next place", self.next)
        outer = QVBoxLayout(self)
        outer.setSpacing(GAP)
        outer.addWidget(self.title)
        outer.addLayout(grid)
        outer.addLayout(row(self.back_button, self.next_button))
        for one in (self.back_button, self.next_button):
            one.setVisible(several)
        self._show()

    def back(self) -> None:
        """Show the place before."""
        self._at = max(self._at - 1, 0)
        self._show()

    def next(self) -> None:
        """Show the next place."""
        self._at = min(self._at + 1, len(self._places) - 1)
        self._show()

    def _show(self) -> None:
        place = self._places[self._at]
        self.title.setText(
            f"{place.task.name}, place {self._at + 1} of {len(self._places)}: "
            f"{counted(place.changed, 'pixel')} differ inside the white frame"
        )
        shown = (place.before, place.after)
        for label, classes in zip(self.pictures.values(), shown, strict=True):
            frame = np.zeros(classes.shape, bool)
            frame[place.inside] = True
            drawn = drawn_over(
                enlarged(place.image), enlarged(classes), place.task, enlarged(frame)
            )
            label.setPixmap(pixmap(drawn, SIDE))
        self.back_button.setEnabled(self._at > 0)
        self.next_button.setEnabled(self._at + 1 < len(self._places))
        self._look_at(place)


def _is_fork(recovery: Recovery | None) -> bool:
    return isinstance(recovery, Fork)


def _kept(recovery: Recovery) -> str:
    if isinstance(recovery, Fork) and recovery.left_out:
        left = counted(recovery.left_out, "pixel")
        return f"Kept; {left} stay as others changed them meanwhile."
    return "Kept. The history still knows every step."


def named_steps(steps: Sequence[Operation], last: int) -> str:
    """The newest recovered steps by name, how many more, and what was done since (after ``last``).

    ``steps`` are oldest first.
    """
    found = [step for step in reversed(steps) if step.id <= last]
    lines = [
        f"{step.what} in {step.task}, {spoken_time(step.when)}" for step in found[:_MOST_NAMED]
    ]
    if len(found) > len(lines):
        lines.append(f"and {counted(len(found) - len(lines), 'step')} before")
    since = len(steps) - len(found)
    if since:
        lines.append(f"Discard also takes back {counted(since, 'step')} made since.")
    return "\n".join(lines)
