"""Block *Refine*: one button that says what it will do, progress, and the card that judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph

from napari_genselfdiff.widgets.card import ResultCard
from napari_genselfdiff.widgets.commands import REFINE, STOP_REFINE
from napari_genselfdiff.widgets.look import ACCENT, Block, button, choice, plain_button, row, text
from napari_genselfdiff.widgets.status import Progress

if TYPE_CHECKING:
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller


SMOOTHED = 8


class LossCurve(pyqtgraph.PlotWidget):  # type: ignore[misc]  # pyqtgraph has no types
    """How the error falls while the model learns."""

    def __init__(self) -> None:
        super().__init__(background=None)
        self.setFixedHeight(84)
        self.setMouseEnabled(False, False)
        self.hideButtons()
        self.setMenuEnabled(False)
        self.setToolTip("Error on the places it learns from; falling is good")
        for side in ("left", "bottom"):
            self.getAxis(side).setPen("#7C8894")
            self.getAxis(side).setTextPen("#7C8894")
            self.getAxis(side).setStyle(showValues=False)
            self.getAxis(side).enableAutoSIPrefix(False)
        self.setLabel("bottom", "images seen", color="#7C8894")
        self.setLabel("left", "error", color="#7C8894")
        self._curve = self.plot(pen=pyqtgraph.mkPen(ACCENT, width=2))

    def show_losses(self, losses: list[tuple[int, float]]) -> None:
        """Draw (images seen, loss), each the mean of the last few, which differ by chance."""
        values = np.array([loss for _, loss in losses])
        recent = [values[max(0, end - SMOOTHED) : end].mean() for end in range(1, len(values) + 1)]
        self._curve.setData([seen for seen, _ in losses], recent)


class RefineBlock(Block):
    """Teach, judge, use or go back."""

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__("Refine", 4)
        self._session, self._controller = session, controller
        self.plan = text()
        self.refine_button = button(REFINE, controller.refine, primary=True)
        self.progress = Progress(session.refining.stop, STOP_REFINE)
        self.curve = LossCurve()
        self.card = ResultCard(session, controller)
        self.versions = choice("Every version stays; ✓ is in use. Choose one and press Use", 10)
        self.use_button = plain_button("Use", "Use the chosen version", self._use_version)
        self.back_button = plain_button(
            "Go back", "Use the model that was in use before.", controller.go_back
        )
        for widget in (self.plan, self.refine_button, self.progress, self.curve, self.card):
            self.body.addWidget(widget)
        self.body.addLayout(row(self.versions, self.use_button, self.back_button))
        self._models: list[Model] = []
        self._connections = (
            (session.events.refining_changed, self.show_state),
            (session.events.model_changed, self.show_versions),
            (session.events.slide_changed, self.show_plan),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_state()
        self.show_versions()

    def cleanup(self) -> None:
        """Let go of the session."""
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self.curve.close()

    def show_plan(self) -> None:
        """Say what a click will do."""
        plan = self._session.refining.plan()
        self.plan.setText(plan.sentence)
        running = self._session.refining.activity is not None
        self.refine_button.setEnabled(plan.ready and not running)
        self.plan.setVisible(not running)

    def show_state(self) -> None:
        """Show the job that runs or the outcome of the last one."""
        refining = self._session.refining
        running = refining.activity is not None
        self.progress.show_activity(refining.activity)
        self.curve.setVisible(running and len(refining.losses) > 1)
        if running:
            self.curve.show_losses(refining.losses)
        if refining.preview is not None:
            self.card.show_preview(refining.preview)
        else:
            self.card.show_outcome(refining.outcome)
        self.show_plan()

    def show_versions(self) -> None:
        """List every version of the task's model."""
        session = self._session
        with session.attempt():
            self._models = session.models()
        used = None if session.model is None else session.model.hash
        self.versions.clear()
        for index, model in enumerate(self._models):
            mark = "✓ " if model.hash == used else ""
            self.versions.addItem(f"{mark}{model.card.name}")
            if mark:
                self.versions.setCurrentIndex(index)
        several = len(self._models) > 1
        for widget in (self.versions, self.use_button, self.back_button):
            widget.setVisible(several)
        self.show_plan()

    def _use_version(self) -> None:
        index = self.versions.currentIndex()
        if 0 <= index < len(self._models):
            self._controller.use_model(self._models[index])
