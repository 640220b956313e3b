"""While the annotations' folder refuses to be written: where the work is kept, and Try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_genselfdiff.widgets.look import notice, plain_button

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.session.session import Session


class AsideCard(QWidget):
    """Hidden unless work is kept on this computer instead of beside the slide.

    Parameters
    ----------
    session
        Whose annotations are meant.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._shown: Path | None = None
        self.words = notice("warning")
        self.button = plain_button(
            "Try again",
            "Write everything into the annotations' own folder, if it can be written again.",
            self.bring_back,
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(4)
        outer.addWidget(self.words)
        outer.addWidget(self.button)
        self.hide()

    def show_state(self) -> None:
        """Show whether work is kept aside, and where."""
        store = self._session.store
        aside = None if store is None else store.kept_aside
        if aside == self._shown:
            return
        self._shown = aside
        self.setVisible(aside is not None)
        if store is not None and aside is not None:
            self.words.setText(
                f"{store.path.name} cannot be written. Everything you do is kept safe on this "
                "computer and goes back by itself as soon as its folder can be written again."
            )
            self.words.setToolTip(f"Kept in\n{aside}")

    def bring_back(self) -> None:
        """Try to write everything into its own folder."""
        with self._session.attempt():
            _, store = self._session.open_store()
            if store.return_home():
                self._session.say("Everything is back in its own folder.", "good")
        self.show_state()
