"""The map of the open slide: follows slide, annotations and view, and takes the view along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from napari_genselfdiff.errors import StoreError
from napari_genselfdiff.session.overview import known_overview, seen_places
from napari_genselfdiff.session.wording import share
from napari_genselfdiff.widgets.coverage_map import CoverageMap
from napari_genselfdiff.widgets.history_steps import spoken_time
from napari_genselfdiff.widgets.look import WIDTH, Section
from napari_genselfdiff.widgets.overview import OverviewReader
from napari_genselfdiff.widgets.view import centre_on

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.looks import Look
    from napari_genselfdiff.session.overview import Seen
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

_SIDE: Final = 2 * WIDTH  # sharp on screens with twice as many pixels
_FAR: Final = 0.5
"""A view that shows more of the slide than this comes near when the map is clicked."""


class MapSection(Section):
    """The map, read only while it is unfolded.

    Parameters
    ----------
    session
        What is open.
    controller
        Where the view is.
    is_open
        Whether it begins unfolded.
    """

    def __init__(self, session: Session, controller: Controller, *, is_open: bool) -> None:
        super().__init__(
            "Map",
            "The whole slide: blue what only the model said, green what you accepted, white what\n"
            "you corrected, dark what nobody looked at. Click to go there.",
            is_open=is_open,
        )
        self._session, self._controller = session, controller
        self._reader = OverviewReader(_SIDE)
        self._wants_picture = False
        self._stale = True
        self._places: list[Seen] | None = None
        self.map = CoverageMap(self.go_to, self.about)
        self.body.addWidget(self.map)
        self._connections = (
            (session.events.slide_changed, self.show_slide),
            (session.events.task_changed, self.show_known),
            (session.events.history_changed, self._on_history),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_slide()

    def cleanup(self) -> None:
        """Let go of the session, and read no more."""
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self._reader.close()

    def show_slide(self) -> None:
        """Show another slide, or none; the one before is no longer read."""
        self._reader.stop()
        slide = self._session.slide
        self.setVisible(slide is not None)
        self.map.set_slide(None if slide is None else slide.shape)
        self._wants_picture = slide is not None
        self.show_known()

    def show_known(self) -> None:
        """Show what is known of the task, and from whom; at once if the map is seen."""
        self._on_history()
        self.show_share()
        self._read_known()

    def show_share(self) -> None:
        """Say how much a person checked, also where the map is folded."""
        store, task = self._session.store, self._session.task.name
        if store is None or task not in store.tasks:
            self.say("")
            return
        pixels = store.summary(task)["pixels"]
        checked = pixels["accepted"] + pixels["human"]
        self.say(f"{share(checked, sum(pixels.values()))} of the slide checked")

    def tick(self) -> None:
        """Frame the view, and show the slide's picture once it was read."""
        if not self.is_open or self._session.slide is None:
            return
        if self._wants_picture:
            self._wants_picture = False
            self._reader.start(self._session.slide)
        picture = self._reader.take()
        if picture is not None:
            self.map.set_picture(picture)
        self._read_known()
        self.map.set_view(self._controller.visible())

    def go_to(self, y0: float, x0: float) -> None:
        """Bring a level-0 pixel to the centre; from far away also near enough to judge it."""
        slide, visible = self._session.slide, self._controller.visible()
        layer = self._controller.layers.slide
        if slide is None or layer is None:
            return
        if visible is not None and visible.area > _FAR * slide.shape[0] * slide.shape[1]:
            self._controller.zoom_in()
        centre_on(self._controller.viewer, layer, y0, x0)

    def about(self, y0: float, x0: float) -> str:
        """Who looked at a level-0 pixel last, and when; empty if nobody did."""
        store, task = self._session.store, self._session.task.name
        if store is None or task not in store.tasks:
            return ""
        if self._places is None:
            try:
                self._places = seen_places(store, task)
            except StoreError:
                self._places = []  # the history says that it is damaged
        for place in self._places:
            region = place.region0
            if region.y <= y0 < region.y1 and region.x <= x0 < region.x1:
                return looked(place.look)
        return ""

    def _on_history(self) -> None:
        self._stale, self._places = True, None

    def _read_known(self) -> None:
        store, task = self._session.store, self._session.task.name
        if not (self.is_open and self._stale) or store is None or task not in store.tasks:
            return
        self._stale = False
        with self._session.attempt():
            self.map.set_known(known_overview(store, task))


def looked(look: Look) -> str:
    """Who looked, how and when."""
    when = spoken_time(look.when, with_day=True)
    if not look.seen:
        return f"Unknown again: {look.who} cleared it, {when}"
    what = "Accepted" if look.what.startswith("Accept") else f"Corrected ({look.what})"
    return f"{what} by {look.who}, {when}"
