"""What follows the eye: predict each view once it rests, and hatch where the model is not sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psygnal import Signal, SignalGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.widgets.layers import SlideLayers

REST_S: Final = 0.2
"""A view is predicted when the camera has stood still this long."""


class LiveEvents(SignalGroup):
    """``changed``: live mode or hatching was switched."""

    changed = Signal()


class Live:
    """Live mode, off at first, and the hatching, on at first.

    Parameters
    ----------
    session
        What is open.
    layers
        Where the hatching is shown.
    visible
        Gives what is on screen, in level-0 pixels.
    clock
        Seconds.
    """

    def __init__(
        self,
        session: Session,
        layers: SlideLayers,
        visible: Callable[[], Region | None],
        clock: Callable[[], float],
    ) -> None:
        self.events = LiveEvents()
        self.on, self.hatching = False, True
        self._session, self._layers = session, layers
        self._visible, self._clock = visible, clock
        self._due: float | None = None
        self._asked: tuple[Region, str] | None = None

    def switch(self, on: bool) -> None:
        """Follow the view from now on, or no more; a prediction that runs goes on."""
        if on == self.on:
            return
        self.on, self._asked = on, None
        self._due = self._clock() if on else None
        self.events.changed.emit()

    def set_hatching(self, on: bool) -> None:
        """Show where the model is not sure, or not."""
        if on == self.hatching:
            return
        self.hatching = on
        self.refresh()
        self.events.changed.emit()

    def moved(self) -> None:
        """Note that the view, or what there is to predict it with, changed."""
        if self.on:
            self._due = self._clock() + REST_S

    def tick(self, *, busy: bool) -> None:
        """Predict the view if it has rested; ``busy`` says that a tool is in hand."""
        if self._due is None or busy or self._clock() < self._due:
            return
        self._due = None
        session, region = self._session, self._visible()
        if region is None or session.model is None or session.predicting.problem(region):
            return  # the Predict block says why
        asked = (region, session.model.hash)
        if asked == self._asked:
            return
        self._asked = asked
        with session.attempt():
            session.predicting.start(region, live=True)

    def refresh(self) -> None:
        """Hatch what is unsure now: what a person has checked is not."""
        found = self._session.predicting.unsure() if self.hatching else None
        if found is None or self._layers.slide is None:
            self._layers.close_unsure()
        else:
            self._layers.show_unsure(found.region, found.mask)
