"""Joins session and viewer: what a button or key does, and what the viewer shows for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from napari_genselfdiff.annotation.commit import bounding_box
from napari_genselfdiff.widgets.live import Live
from napari_genselfdiff.widgets.tools import Tools
from napari_genselfdiff.widgets.view import pixel_on_screen, zoom_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.session.predicting import TilePreview
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.geometry import Region

SETTLED_S: Final = 0.35
"""A view is taken for editing when the camera has stood still this long."""
IDLE_S: Final = 0.8
"""Outlines of checked places are drawn anew this long after the last stroke."""


class Controller(Tools):
    """Verbs of buttons and keys; keeps layers and session in step.

    Parameters
    ----------
    viewer
        napari's viewer, or a ``ViewerModel``.
    session
        What is open.
    clock
        Seconds; tests give their own.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(viewer, session, clock)
        self._stale: Region | None = None
        self._moved_at: float | None = None
        self._hatch = False
        self._adopting: Image | None = None
        self._model_shown: str | None = None
        self._task_name = ""
        self.live = Live(session, self.layers, self.visible, clock)
        events = session.events
        self._connections: list[tuple[Any, Callable[..., None]]] = [
            (events.slide_changed, self._on_slide),
            (events.colors_changed, self._on_colors),
            (events.task_changed, self._on_task),
            (events.model_changed, self.live.moved),
            (events.annotations_changed, self._on_annotations),
            (events.tile_done, self._on_tile),
            (events.predicting_changed, self._on_predicting),
            (events.refining_changed, self._on_refining),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)
        viewer.scene.camera.events.connect(self._on_camera)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    def cleanup(self) -> None:
        """Save, take every layer and connection of ours away."""
        self.leave()
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.scene.camera.events.disconnect(self._on_camera)
        self.gestures.cleanup()
        self.layers.clear()

    def tick(self) -> None:
        """Do what waits: reports of the workers, strokes to save, layers to draw anew.

        What takes long is spread over several ticks, and the eye's own things come first.
        """
        self.session.poll()
        if self._stroke_done and not self._drawing:
            self.save()
        self.live.tick(busy=self.tool is not None or self._drawing)
        if not self._drawing:
            self._draw_anew()

    def _draw_anew(self) -> None:
        """Do the first of the things that wait to be drawn."""
        now = self._clock()
        if self._stale is not None:
            self._show_stale()
        elif self._redraw_at is not None and now >= self._redraw_at:
            self._redraw_at = None
            self.layers.refresh_annotations()
            if self.session.predicting.activity is None:
                self.layers.close_preview()
            self._hatch = True
        elif self._hatch:
            self._hatch = False
            self.live.refresh()
        elif self._moved_at is not None and now - self._moved_at >= SETTLED_S:
            self._moved_at = None
            self._follow_view()
            self.events.view_changed.emit()

    # -- the view -------------------------------------------------------------------------------

    def pixel_on_screen(self) -> float:
        """Level-0 pixels per screen pixel."""
        slide = self.layers.slide
        return 1.0 if slide is None else pixel_on_screen(self.viewer, slide)

    def zoom_in(self) -> None:
        """Zoom to the task's own resolution, the centre stays."""
        slide, session = self.layers.slide, self.session
        if slide is None or session.slide is None or session.slide.mpp is None:
            return
        zoom_to(self.viewer, slide, session.task.mpp / session.slide.mpp)

    def hold_overlay(self, hide: bool) -> None:
        """Hide the overlay, or show it again."""
        self.layers.hold_overlay(hide)

    # -- verbs ----------------------------------------------------------------------------------

    def open_slide(self, path: str, mpp: float | None = None) -> None:
        """Open a slide; what is wrong with it goes to the status line."""
        self.leave()
        with self.session.attempt():
            self.session.open_slide(path, mpp=mpp)

    def predict(self) -> None:
        """Predict what is on screen."""
        self.leave()
        with self.session.attempt():
            self.session.predicting.start(self.visible())

    def predict_again(self) -> None:
        """Predict the last view once more, with the model in use now."""
        region = self.session.predicting.last_region0
        if region is None or self.session.slide is None:
            return
        with self.session.attempt():
            self.session.predicting.start(region)

    def accept_view(self) -> None:
        """Vouch for everything visible."""
        self.settle()
        with self.session.attempt():
            self.session.correcting.accept(self.visible(), self.pixel_on_screen())

    def clear_view(self) -> None:
        """Make everything visible unknown again."""
        self.settle()
        with self.session.attempt():
            self.session.correcting.clear_to_unknown(self.visible())

    def undo(self) -> None:
        """Undo the last change of the annotations, or the last corner of an outline."""
        if self.gestures.take_back():
            return
        self.settle()
        with self.session.attempt():
            self.session.correcting.undo()

    def redo(self) -> None:
        """Redo what was undone."""
        self.settle()
        with self.session.attempt():
            self.session.correcting.redo()

    def refine(self) -> None:
        """Refine the model on what was checked."""
        self.settle()
        with self.session.attempt():
            self.session.refining.start()

    def use_new(self) -> None:
        """Use the refined model."""
        with self.session.attempt():
            self.session.refining.use_new()

    def keep_old(self) -> None:
        """Keep the old model, or go back to it."""
        with self.session.attempt():
            self.session.refining.keep_old()

    def go_back(self) -> None:
        """Use the model that was in use before."""
        with self.session.attempt():
            self.session.refining.go_back()

    def use_model(self, model: Model) -> None:
        """Use a version from the list."""
        with self.session.attempt():
            self.session.choose_model(model)

    # -- what the session tells -----------------------------------------------------------------

    def _on_colors(self) -> None:
        if self.session.slide is not None:
            self.layers.show_colors(self.session.slide)

    def _on_slide(self) -> None:
        slide = self.session.slide
        self.settle()  # the old annotations are open until everybody has heard of it
        self._window, self.tool = None, None
        self._stale = self._redraw_at = None
        if slide is None:
            self.layers.clear()
        elif not self.layers.shows(slide):
            self.layers.show_slide(slide, self._adopting)
        self._on_task()
        if slide is not None:
            self.viewer.reset_view()  # last: with its size the slide gets another place
        self.events.tool_changed.emit()

    def _on_task(self) -> None:
        self.leave()
        session = self.session
        values = [spec.value for spec in session.task.classes]
        if session.task.name != self._task_name or self.class_value not in values:
            self.class_value = session.task.classes[0].value
        store, name = session.store, session.task.name
        self._task_name = name
        if store is None or self.layers.slide is None or name not in store.tasks:
            self.layers.hide_annotations()
            return
        has_objects = session.task.kind == "objects"
        self.layers.show_annotations(
            session.task,
            store.downsample(name),
            store.drawn_levels(name, "classes"),
            store.drawn_levels(name, "objects") if has_objects else None,
            store.drawn_levels(name, "provenance"),
        )
        self.events.class_changed.emit()

    def _on_annotations(self, region: Region) -> None:
        self._stale = region if self._stale is None else bounding_box([self._stale, region])

    def _show_stale(self) -> None:
        stale, self._stale = self._stale, None
        if stale is None:
            return
        self._show(stale)
        inside = self._window is not None and self._window.region.contains(stale)
        # Where one edits the edit layer is shown; the rest can wait until the hand rests.
        self._redraw_soon(IDLE_S if inside else 0)

    def _on_tile(self, tile: TilePreview) -> None:
        self.layers.show_tile(tile.region, tile.core, tile.downsample, tile.classes)

    def _on_predicting(self) -> None:
        if self.session.predicting.activity is not None:
            self.layers.expect_tiles()
            self.layers.draw_tiles()
        elif self._stale is None:  # cancelled, or nothing new
            self.layers.close_preview()
        else:  # the tiles stay until the result is drawn in their place
            self._redraw_soon(0)

    def _on_refining(self) -> None:
        """Predict the last view anew when Refine, or the way back, changed the model in use."""
        outcome, model = self.session.refining.outcome, self.session.model
        if outcome is None or model is None:
            self._model_shown = None
            return
        before = "" if outcome.old is None else outcome.old.hash
        shown = self._model_shown or before
        self._model_shown = model.hash
        if model.hash != shown:
            self.predict_again()

    # -- what the viewer tells ------------------------------------------------------------------

    def _on_camera(self, _event: Any = None) -> None:
        self._moved_at = self._clock()
        self.live.moved()

    def adopt_present(self) -> None:
        """Take over a slide that was open before the panel; the last one, if there are several."""
        slides = [layer for layer in self.viewer.layers if self.layers.is_foreign_slide(layer)]
        if slides:
            self._adopt(slides[-1])

    def _on_inserted(self, event: Any) -> None:
        self._adopt(event.value)

    def _adopt(self, layer: Layer) -> None:
        """Take over a slide that napari itself opened (File, drag and drop, samples)."""
        path = self.layers.path_of(layer)
        if path is None or not self.layers.is_foreign_slide(layer):
            return
        self._adopting = layer
        try:
            self.open_slide(path)
        finally:
            self._adopting = None

    def _on_removed(self, event: Any) -> None:
        layer: Layer = event.value
        if not self.layers.owns(layer):
            return
        if layer is self.layers.edit and self._window is not None:
            self.settle()
            self._window, self.tool = None, None
        if self.layers.forget(layer):
            self.session.close_slide()
        self.events.tool_changed.emit()
