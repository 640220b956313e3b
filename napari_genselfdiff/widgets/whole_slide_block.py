"""Block *Whole slide*: the tissue first, then a run that goes on while one works."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSlider

from napari_genselfdiff.session import wording
from napari_genselfdiff.widgets.commands import Command
from napari_genselfdiff.widgets.look import Block, button, notice, plain_button, row, text
from napari_genselfdiff.widgets.status import Progress
from napari_genselfdiff.widgets.tissue_outline import TissueOutline

if TYPE_CHECKING:
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.widgets.controller import Controller

SEGMENT: Final = Command(
    "Segment slide",
    "",
    "Outline everything on the slide's tissue, in processes of its own; go on working meanwhile.\n"
    "Nothing you corrected or accepted is changed.",
)
CANCEL_RUN: Final = Command(
    "Cancel", "", "End for good; what is finished stays. Pause keeps what is begun."
)
STEPS: Final = 100
"""Steps of the slider, thousandths of an optical density."""
_SHOW_S: Final = 0.25
"""The tissue is looked for anew when the slider has rested this long."""


class WholeSlideBlock(Block):
    """Outline, start, pause, go on."""

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__("Whole slide", 5)
        self._session, self._controller = session, controller
        self._segmenting = session.whole_slide
        self._outline = TissueOutline(controller.viewer, controller.layers)
        self._due: float | None = None
        self._drawn: object = None
        self.plan = text()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(1, STEPS)
        self.slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.slider.setToolTip("How much stain makes it tissue: to the left more is segmented")
        self.slider_words = text("Tissue", small=True)
        self.tissue_button = plain_button(
            "Show tissue", "Outline what will be segmented.", self.look
        )
        self.tissue_button.setCheckable(True)
        self.start_button = button(SEGMENT, self.start, primary=True)
        self.offer = notice("warning")
        self.go_on_button = plain_button(
            "Go on", "Go on with the run that was interrupted; done tiles stay.", self.go_on
        )
        self.discard_button = plain_button(
            "Discard", "Forget the interrupted run; what it finished stays.", self.discard
        )
        self.progress = Progress(self._segmenting.cancel, CANCEL_RUN)
        self.pause_button = plain_button(
            "Pause", "Stop at the next tile; also after closing one can go on.", self.pause
        )
        self._lay_out()
        self._segmenting.edited = self._edited
        self._segmenting.busy = self._busy
        self.slider.valueChanged.connect(self._on_slider)
        self._connections = (
            (session.events.whole_slide_changed, self.show_state),
            (session.events.slide_changed, self.show_slide),
            (session.events.task_changed, self.show_slide),
            (session.events.model_changed, self.show_slide),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_slide()
        self.set_open(False)

    def cleanup(self) -> None:
        """Let go of the session, and take the outline away."""
        for signal, slot in self._connections:
            signal.disconnect(slot)
        # The session may outlive the panel; nobody edits any more.
        self._segmenting.edited, self._segmenting.busy = _nothing_edited, _not_busy
        self._outline.hide()

    def tick(self) -> None:
        """Look for the tissue anew when the slider has rested."""
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            with self._session.attempt():
                self._segmenting.look(self.slider.value() / 1000)

    # -- buttons --------------------------------------------------------------------------------

    def look(self) -> None:
        """Show or hide the outline of the tissue."""
        if not self.tissue_button.isChecked():
            self._outline.hide()
            self._drawn = None
        elif self._segmenting.tissue is None:
            with self._session.attempt():
                self._segmenting.look()
        self.show_state()

    def start(self) -> None:
        """Segment the slide."""
        self._controller.save()
        with self._session.attempt():
            self._segmenting.start()

    def go_on(self) -> None:
        """Go on with the run that was interrupted."""
        with self._session.attempt():
            self._segmenting.go_on()

    def discard(self) -> None:
        """Forget the run that was interrupted."""
        with self._session.attempt():
            self._segmenting.discard()
        self.show_slide()

    def pause(self) -> None:
        """Pause, or go on."""
        with self._session.attempt():
            if self._segmenting.state == "running":
                self._segmenting.pause()
            else:
                self._segmenting.resume()

    # -- showing --------------------------------------------------------------------------------

    def show_slide(self) -> None:
        """Show what can be done with the slide that is open."""
        if self._session.slide is None or self._segmenting.tissue is None:
            self._outline.hide()
            self._drawn = None
        offered = None
        with self._session.attempt():
            offered = self._segmenting.unfinished()
        self._offered = offered is not None
        if offered is not None:
            self.offer.setText(
                f"Segmenting this slide with {offered.model} was interrupted at about "
                f"{offered.share:.0%}."
            )
        self.show_state()

    def show_state(self) -> None:
        """Show the run, or what a click would do."""
        segmenting = self._segmenting
        running, problem = segmenting.state != "idle", segmenting.problem()
        self._offered = self._offered and not running
        self.progress.show_activity(segmenting.activity)
        self.pause_button.setVisible(running)
        self.pause_button.setText("Pause" if segmenting.state == "running" else "Resume")
        self.pause_button.setEnabled(segmenting.state != "pausing")
        for widget in (self.offer, self.go_on_button, self.discard_button):
            widget.setVisible(self._offered)
        idle = not running and not self._offered
        self.start_button.setVisible(idle)
        self.start_button.setEnabled(not problem)
        self.plan.setVisible(idle)
        self.plan.setText(wording.sentence(problem) if problem else self._plan())
        self.tissue_button.setEnabled(self._session.slide is not None)
        looking = self.tissue_button.isChecked() and segmenting.tissue is not None
        for shown in (self.slider, self.slider_words):
            shown.setVisible(looking and idle)
        if looking:
            self._show_tissue()

    def _lay_out(self) -> None:
        self._offered = False
        for widget in (self.plan, self.offer):
            self.body.addWidget(widget)
        self.body.addLayout(row(self.go_on_button, self.discard_button))
        self.body.addLayout(row(self.tissue_button, self.start_button))
        self.body.addLayout(row(self.slider_words, self.slider))
        self.body.addWidget(self.progress)
        self.body.addWidget(self.pause_button)

    def _plan(self) -> str:
        """Say what a click would segment."""
        share, model = self._segmenting.tissue_share(), self._session.model
        if model is None or share is None:
            return "Segments all tissue of the slide, also while you go on working."
        slide = self._session.slide
        area = ""
        if slide is not None and slide.mpp is not None:
            mm2 = slide.shape[0] * slide.shape[1] * (slide.mpp / 1000) ** 2 * share
            area = f"{mm2:,.1f} mm², "
        return f"Segments the outlined tissue ({area}{share:.0%} of the slide)."

    def _show_tissue(self) -> None:
        tissue = self._segmenting.tissue
        if tissue is None or tissue is self._drawn:
            return
        self._drawn = tissue
        self._outline.show(tissue)
        found = self._segmenting.found_threshold
        if self._segmenting.threshold is None and found is not None:
            self.slider.blockSignals(True)
            self.slider.setValue(round(1000 * found))
            self.slider.blockSignals(False)

    def _on_slider(self, _value: int) -> None:
        self._due = time.monotonic() + _SHOW_S

    def _edited(self) -> Region | None:
        window = self._controller.edit_window
        return None if window is None else window.region

    def _busy(self) -> bool:
        return bool(self._controller.gestures.is_stroking)


def _nothing_edited() -> Region | None:
    return None


def _not_busy() -> bool:
    return False
