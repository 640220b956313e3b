"""Block *Predict*: with which model, and the one button."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QCheckBox

from napari_genselfdiff.session.wording import sentence
from napari_genselfdiff.widgets.commands import COPY, HATCH, LIVE, PREDICT, ZOOM_IN
from napari_genselfdiff.widgets.look import Block, badge, button, choice, notice, row, text

if TYPE_CHECKING:
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.commands import Command
    from napari_genselfdiff.widgets.controller import Controller


class PredictBlock(Block):
    """Model, Predict."""

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__("Predict", 2)
        self._session, self._controller = session, controller
        self.model = choice("Model in use for this task")
        self.model.activated.connect(self._choose_model)
        self.body.addWidget(self.model)
        self.about = text(small=True)
        self.starter = badge(
            "starter model", "Below Dice 0.78 on its development images: expect to correct a lot."
        )
        self.body.addLayout(row(self.starter, self.about))
        self.hint = notice("plain")
        self.zoom_button = button(ZOOM_IN, controller.zoom_in)
        self.body.addWidget(self.hint)
        self.body.addWidget(self.zoom_button)
        self.predict_button = button(PREDICT, controller.predict, primary=True)
        self.body.addWidget(self.predict_button)
        self.live = _switch(LIVE)
        self.hatch = _switch(HATCH)
        self.live.toggled.connect(controller.live.switch)
        self.hatch.toggled.connect(controller.live.set_hatching)
        self.copy_button = button(COPY, self.copy_command)
        self.body.addLayout(row(self.live, self.hatch, self.copy_button))
        self._models: list[Model] = []
        self._connections = (
            (session.events.task_changed, self.show_view),
            (session.events.model_changed, self.show_model),
            (session.events.slide_changed, self.show_view),
            (controller.events.view_changed, self.show_view),
            (controller.live.events.changed, self.show_switches),
            (session.events.predicting_changed, self.show_switches),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_model()
        self.show_switches()

    def cleanup(self) -> None:
        """Let go of session and controller."""
        for signal, slot in self._connections:
            signal.disconnect(slot)

    def show_model(self) -> None:
        """Show the models there are and the one in use."""
        session = self._session
        with session.attempt():
            self._models = session.models()
        self.model.clear()
        self.model.addItems([model.card.name for model in self._models])
        self.model.setEnabled(bool(self._models))
        used = session.model
        hashes = [model.hash for model in self._models]
        if used is not None and used.hash in hashes:
            self.model.setCurrentIndex(hashes.index(used.hash))
        self.about.setText(session.model_problem if used is None else about(used))
        self.starter.setVisible(used is not None and used.card.starter)
        self.show_view()

    def show_view(self) -> None:
        """Say whether what is on screen can be predicted, and why not."""
        session = self._session
        visible = self._controller.visible() if session.slide is not None else None
        problem = session.predicting.problem(visible) if session.slide is not None else None
        far = session.predicting.is_too_large(visible)
        told = session.model is None  # what is missing stands below the model already
        self.hint.setVisible(bool(problem) and not told)
        self.hint.setText(sentence(problem) if problem else "")
        self.zoom_button.setVisible(far)
        self.predict_button.setEnabled(session.slide is not None and not problem)

    def show_switches(self) -> None:
        """Show what is switched on, and whether there is a command to copy."""
        live = self._controller.live
        self.live.setChecked(live.on)
        self.hatch.setChecked(live.hatching)
        self.copy_button.setEnabled(bool(self._session.predicting.command))

    def copy_command(self) -> None:
        """Put the headless twin of the last prediction on the clipboard."""
        clipboard = QApplication.clipboard()
        command = self._session.predicting.command
        if clipboard is None or not command:
            return
        clipboard.setText(command)
        self._session.say("Copied: run it in a terminal to get the same labels.", "good")

    def _choose_model(self, index: int) -> None:
        with self._session.attempt():
            self._session.choose_model(self._models[index])
        self.show_model()


def about(model: Model) -> str:
    """One line of what is known about a model."""
    card = model.card
    low, high = card.mpp_range
    parts = [f"{low:g}-{high:g} µm/px" if low != high else f"{low:g} µm/px", card.created[:10]]
    return " · ".join(parts)


def _switch(command: Command) -> QCheckBox:
    """A box to tick; keys stay the viewer's."""
    box = QCheckBox(command.text)
    box.setToolTip(command.tooltip)
    box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return box
