"""The foot of the panel: one sentence, the progress of a prediction, research use only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_genselfdiff.session.wording import duration
from napari_genselfdiff.widgets.commands import CANCEL
from napari_genselfdiff.widgets.look import GAP, button, row, text, tint

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_genselfdiff.session.events import Activity, Status
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.commands import Command


class Progress(QWidget):
    """A bar with what is done, the time left, and Cancel; hidden while nothing runs."""

    def __init__(self, cancel: Callable[[], object], command: Command = CANCEL) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(12)
        self.words = text(small=True)
        self.cancel_button = button(command, cancel)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        outer.addWidget(self.words)
        outer.addLayout(row(self.bar, self.cancel_button))
        self.hide()

    def show_activity(self, activity: Activity | None) -> None:
        """Show a job, or that there is none."""
        self.setVisible(activity is not None)
        if activity is None:
            return
        share = activity.share
        # For a new value Qt redraws at once, canvas included; like this, at its next turn.
        self.bar.setUpdatesEnabled(False)
        self.bar.setRange(0, 0 if share is None else 1000)  # 0, 0: Qt shows that it is busy
        self.bar.setValue(0 if share is None else round(1000 * share))
        self.bar.setUpdatesEnabled(True)
        left = "" if activity.eta_s is None else f", {duration(activity.eta_s)} left"
        self.words.setText(f"{activity.what}{left}")


class StatusFoot(QWidget):
    """Status line, progress of Predict, and what the program is for."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.line = text()
        self.line.setToolTip("What just happened")
        self.line.setMinimumHeight(2 * self.line.fontMetrics().lineSpacing() + 12)
        self.progress = Progress(session.predicting.cancel)
        self.research = text("Research use only. Not for diagnosis.", small=True)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(GAP)
        for widget in (self.progress, self.line, self.research):
            outer.addWidget(widget)
        session.events.status_changed.connect(self.show_status)
        session.events.predicting_changed.connect(self.show_progress)
        self.show_status(session.status)

    def cleanup(self) -> None:
        """Let go of the session."""
        self._session.events.status_changed.disconnect(self.show_status)
        self._session.events.predicting_changed.disconnect(self.show_progress)

    def show_status(self, status: Status) -> None:
        """Show a sentence."""
        self.line.setText(status.text)
        tint(self.line, status.tone)

    def show_progress(self) -> None:
        """Show the prediction that runs."""
        self.progress.show_activity(self._session.predicting.activity)
