"""The dock *Annotate slide*: six blocks, one status line, one timer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_genselfdiff.session.session import Session
from napari_genselfdiff.widgets.aside_card import AsideCard
from napari_genselfdiff.widgets.controller import Controller
from napari_genselfdiff.widgets.correct_block import CorrectBlock
from napari_genselfdiff.widgets.keys import Keys
from napari_genselfdiff.widgets.loading_ahead import load_ahead
from napari_genselfdiff.widgets.look import GAP, WIDTH
from napari_genselfdiff.widgets.measure_block import MeasureBlock
from napari_genselfdiff.widgets.predict_block import PredictBlock
from napari_genselfdiff.widgets.recovery_card import RecoveryCard
from napari_genselfdiff.widgets.refine_block import RefineBlock
from napari_genselfdiff.widgets.slide_block import SlideBlock
from napari_genselfdiff.widgets.status import StatusFoot
from napari_genselfdiff.widgets.task_bar import TaskBar
from napari_genselfdiff.widgets.whole_slide_block import WholeSlideBlock

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtGui import QCloseEvent

TICK_MS: Final = 30
FOLLOW_S: Final = 20.0
"""What Refine adds to the panel is scrolled into sight this long after its start and its end."""
NUMBERS_S: Final = 0.5
"""Numbers that follow the annotations are shown anew at most this often."""


class AnnotateSlide(QWidget):
    """Predict, Correct, Refine on whole slides.

    Parameters
    ----------
    napari_viewer
        The viewer it is docked in.
    session
        What is open; None begins a session of its own and ends it with the panel.
    """

    def __init__(self, napari_viewer: Viewer, session: Session | None = None) -> None:
        super().__init__()
        self.setObjectName("genselfdiff-annotate-slide")
        load_ahead()
        self.session = Session() if session is None else session
        self.controller = Controller(napari_viewer, self.session)
        self._keys = Keys(napari_viewer, self.controller)
        self.tasks = TaskBar(self.session, self.controller)
        self.recovery = RecoveryCard(self.session, self.controller)
        self.aside = AsideCard(self.session)
        self.slide = SlideBlock(self.session, self.controller)
        self.predict = PredictBlock(self.session, self.controller)
        self.correct = CorrectBlock(self.session, self.controller)
        self.refine = RefineBlock(self.session, self.controller)
        self.whole = WholeSlideBlock(self.session, self.controller)
        self.measure = MeasureBlock(self.session, self.controller)
        self.foot = StatusFoot(self.session)
        self._blocks = (
            self.slide,
            self.predict,
            self.correct,
            self.refine,
            self.whole,
            self.measure,
        )
        self._lay_out()
        self._numbers_due: float | None = None
        self._closed = False
        self._refine_state = (False, False)
        self._follow_until = 0.0
        self.session.events.annotations_changed.connect(self._on_annotations)
        self.session.events.refining_changed.connect(self._on_refining)
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        self.destroyed.connect(self._timer.stop)
        napari_viewer.window._qt_window.destroyed.connect(self._timer.stop)
        self.controller.adopt_present()

    def cleanup(self) -> None:
        """Save, close the slide, end the workers, undo every connection; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._timer.stop()
        self._keys.cleanup()
        self.controller.cleanup()
        self.session.events.annotations_changed.disconnect(self._on_annotations)
        self.session.events.refining_changed.disconnect(self._on_refining)
        for part in (self.tasks, self.recovery, *self._blocks, self.foot):
            part.cleanup()
        self.session.close()

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """End the session with the panel."""
        self.cleanup()
        super().closeEvent(event)

    def _lay_out(self) -> None:
        inside = QWidget()
        blocks = QVBoxLayout(inside)
        blocks.setContentsMargins(2, 2, 6, 2)
        blocks.setSpacing(GAP)
        for block in self._blocks:
            blocks.addWidget(block)
        blocks.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setWidget(inside)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        bar = self._scroll.verticalScrollBar()
        if bar is not None:
            bar.rangeChanged.connect(self._follow_refine)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(GAP, GAP, GAP, GAP)
        outer.setSpacing(GAP)
        outer.addWidget(self.tasks)
        outer.addWidget(self.recovery)
        outer.addWidget(self.aside)
        outer.addWidget(self._scroll, 1)
        outer.addWidget(self.foot)
        self.setMinimumWidth(WIDTH)
        self.setMaximumWidth(WIDTH + 20)

    def _tick(self) -> None:
        self.controller.tick()
        self.whole.tick()
        self.correct.tick()
        self.aside.show_state()
        now = time.monotonic()
        if self._numbers_due is not None and now >= self._numbers_due:
            self._numbers_due = None
            self.correct.show_numbers()
            self.refine.show_plan()
            self.slide.show_warning()

    def _on_refining(self) -> None:
        """Bring what Refine shows into sight when it begins and when it ends."""
        refining = self.session.refining
        state = (refining.activity is not None, refining.outcome is not None)
        if state != self._refine_state:
            self._refine_state = state
            self._follow_until = time.monotonic() + FOLLOW_S if any(state) else 0.0

    def _follow_refine(self, _low: int, high: int) -> None:
        """Scroll down to what has just been added below."""
        bar = self._scroll.verticalScrollBar()
        if bar is not None and time.monotonic() < self._follow_until:
            bar.setValue(high)

    def _on_annotations(self, _region: object) -> None:
        if self._numbers_due is None:
            self._numbers_due = time.monotonic() + NUMBERS_S
