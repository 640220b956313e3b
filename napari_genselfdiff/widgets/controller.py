"""Joins session and viewer: what a button or key does, and what the viewer shows for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal

from psygnal import Signal, SignalGroup

from napari_genselfdiff.session.editing import NOTHING, EditWindow
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.layers import SlideLayers
from napari_genselfdiff.widgets.view import pixel_on_screen, visible_region, zoom_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.session.predicting import TilePreview
    from napari_genselfdiff.session.session import Session

Tool = Literal["brush", "erase", "fill", "lasso", "delete"]
_NAMES: Final[dict[Tool, str]] = {
    "brush": "Brush",
    "erase": "Erase",
    "fill": "Fill",
    "lasso": "Lasso",
    "delete": "Delete",
}
_MODES: Final[dict[Tool, str]] = {
    "brush": "paint",
    "erase": "paint",
    "fill": "pan_zoom",
    "lasso": "polygon",
    "delete": "pan_zoom",
}
SETTLED_S: Final = 0.35
"""A view is taken for editing when the camera has stood still this long."""
IDLE_S: Final = 0.8
"""Outlines of checked places are drawn anew this long after the last stroke."""
BRUSH: Final = (1, 64)
"""Smallest and largest brush in pixels of the task's grid."""


class ControllerEvents(SignalGroup):
    """What the blocks need to know beyond the session."""

    tool_changed = Signal()
    class_changed = Signal()
    view_changed = Signal()


class Controller:
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
        self.events = ControllerEvents()
        self.viewer, self.session = viewer, session
        self.layers = SlideLayers(viewer)
        self.tool: Tool | None = None
        self.class_value = 1
        self.brush_size = 8
        self._clock = clock
        self._window: EditWindow | None = None
        self._drawing = False
        self._stroke_done = False
        self._stale: Region | None = None
        self._redraw_at: float | None = None
        self._moved_at: float | None = None
        self._adopting: Image | None = None
        self._model_shown: str | None = None
        events = session.events
        self._connections: list[tuple[Any, Callable[..., None]]] = [
            (events.slide_changed, self._on_slide),
            (events.task_changed, self._on_task),
            (events.annotations_changed, self._on_annotations),
            (events.tile_done, self._on_tile),
            (events.predicting_changed, self._on_predicting),
            (events.refining_changed, self._on_refining),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)
        viewer.mouse_drag_callbacks.append(self._on_drag)
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
        if self._on_drag in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_drag)
        self.layers.clear()

    def tick(self) -> None:
        """Do what waits: reports of the workers, strokes to save, layers to draw anew."""
        self.session.poll()
        if self._stroke_done and not self._drawing:
            self._stroke_done = False
            self.save()
        if self._stale is not None and not self._drawing:
            self._show_stale()
        now = self._clock()
        if self._redraw_at is not None and now >= self._redraw_at and not self._drawing:
            self._redraw_at = None
            self.layers.refresh_annotations()
        if self._moved_at is not None and now - self._moved_at >= SETTLED_S and not self._drawing:
            self._moved_at = None
            self._follow_view()
            self.events.view_changed.emit()

    # -- the view -------------------------------------------------------------------------------

    def visible(self) -> Region | None:
        """What is on screen of the slide, in level-0 pixels."""
        slide = self.layers.slide
        return None if slide is None else visible_region(self.viewer, slide)

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
        self.save()
        with self.session.attempt():
            self.session.accept(self.visible(), self.pixel_on_screen())

    def clear_view(self) -> None:
        """Make everything visible unknown again."""
        self.save()
        with self.session.attempt():
            self.session.clear_to_unknown(self.visible())

    def undo(self) -> None:
        """Undo the last change of the annotations."""
        self.save()
        with self.session.attempt():
            self.session.undo()

    def redo(self) -> None:
        """Redo what was undone."""
        self.save()
        with self.session.attempt():
            self.session.redo()

    def refine(self) -> None:
        """Refine the model on what was checked."""
        self.save()
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

    # -- tools ----------------------------------------------------------------------------------

    @property
    def edit_window(self) -> EditWindow | None:
        """What is being edited."""
        return self._window

    def pick_tool(self, tool: Tool | None) -> None:
        """Start a tool on the visible region; None or the same tool again puts it away."""
        if tool is None or tool == self.tool:
            self.leave()
            return
        with self.session.attempt():
            self._take(tool)

    def leave(self) -> None:
        """Put the tool away and save."""
        self.save()
        self.layers.close_edit()
        self._window = None
        if self.tool is not None:
            self.tool = None
            self._redraw_soon(0)
            self.events.tool_changed.emit()

    def pick_class(self, value: int) -> None:
        """Paint with another class of the task."""
        if value in {spec.value for spec in self.session.task.classes}:
            self.class_value = value
            self.events.class_changed.emit()

    def pick_class_by_key(self, key: str) -> None:
        """Paint with the class that has this key."""
        for spec in self.session.task.classes:
            if spec.key == key:
                self.pick_class(spec.value)

    def set_brush(self, size: int) -> None:
        """Set the brush's width in pixels of the task's grid."""
        self.brush_size = min(max(size, BRUSH[0]), BRUSH[1])
        if self.layers.edit is not None:
            self.layers.edit.brush_size = self.brush_size
        self.events.class_changed.emit()

    def delete_here(self) -> None:
        """Delete the object under the pointer; with none there, take the Delete tool."""
        self.save()
        with self.session.attempt():
            pixel = self._grid_pixel(self.viewer.cursor.position)
            if pixel is None or not self.session.delete_object(*pixel):
                self.pick_tool("delete")

    def save(self) -> None:
        """Put what was painted into the annotations; if that fails it stays on screen, unsaved."""
        window, layer = self._window, self.layers.edit
        if window is None or layer is None or self._drawing:
            return
        with self.session.attempt():
            what = "Brush" if self.tool is None else _NAMES[self.tool]
            if window.save(layer.data, what):
                self._show(window.region)
                self.session.say(f"{what}: saved.")

    def _take(self, tool: Tool) -> None:
        """Make the visible region editable and arm a tool."""
        visible = self.visible()
        if self._window is None or not self._covers(visible):
            self.save()
            self._window = self.session.take_window(visible)
            layer = self.layers.open_edit(
                self._window.region, self._window.values(), self._colors(self._window)
            )
            layer.events.paint.connect(self._on_paint)
        self.tool = tool
        self.layers.arm(_MODES[tool], self.brush_size)
        self.events.tool_changed.emit()

    def _covers(self, visible: Region | None) -> bool:
        return self._window is not None and self._window.region.contains(
            self.session.on_grid(visible)
        )

    def _colors(self, window: EditWindow) -> dict[int | None, str | None]:
        """Colours of the values to paint."""
        task = self.session.task
        by_class = {spec.value: spec.color for spec in task.classes}
        if task.kind != "objects":
            return {None: None} | dict(by_class.items())
        if task.n_classes == 1:
            return {None: task.classes[0].color, NOTHING: None}
        ids = window.class_of_values.items()
        return {None: None, **{object_id: by_class.get(value) for object_id, value in ids}}

    def _follow_view(self) -> None:
        """While a tool is in hand, keep the visible region editable."""
        tool = self.tool
        if tool is None:
            return
        with self.session.attempt():
            if not self._covers(self.visible()):
                self._take(tool)

    # -- the mouse ------------------------------------------------------------------------------

    def _on_drag(self, _viewer: Any, event: Any) -> Iterator[None]:
        tool, layer = self.tool, self.layers.edit
        if tool is None or layer is None or self.viewer.layers.selection.active is not layer:
            return
        pixel = self._grid_pixel(event.position)
        if _MODES[tool] != "pan_zoom":
            self._drawing = event.button == 1
            self._arm_stroke(tool, pixel, "Alt" in event.modifiers)
            yield
            while event.type == "mouse_move":
                yield
            self._drawing = False
            return
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved and pixel is not None and event.button == 1:
            self._click(tool, *pixel)

    def _arm_stroke(self, tool: Tool, pixel: tuple[int, int] | None, alt: bool) -> None:
        """Choose what the stroke paints, before napari begins to paint."""
        window, layer = self._window, self.layers.edit
        if window is None or layer is None:
            return
        if tool == "erase" or alt:
            layer.preserve_labels = False
            layer.selected_label = NOTHING
            return
        value, class_value = (0, 0) if pixel is None else window.at(*pixel)
        if tool == "lasso" and self.layers.is_drawing_polygon():
            return
        extends = tool == "brush" and value and class_value == self.class_value
        objects = self.session.task.kind == "objects"
        layer.selected_label = value if extends else window.new_value(self.class_value)
        # A new object never eats a neighbour; areas are painted over.
        layer.preserve_labels = objects
        if objects and self.session.task.n_classes > 1 and not extends:
            self.layers.recolor(self._colors(window))

    def _click(self, tool: Tool, y: int, x: int) -> None:
        self.save()
        with self.session.attempt():
            if tool == "delete" and not self.session.delete_object(y, x):
                self.session.say("There is no object here; click inside an outline.")
            if tool == "fill":
                self._fill(y, x)

    def _fill(self, y: int, x: int) -> None:
        window, layer = self._window, self.layers.edit
        if window is None or layer is None:
            return
        after = window.filled(layer.data, y, x, self.class_value)
        if window.save(after, _NAMES["fill"]):
            self._show(window.region)
            self.session.say("Filled and saved.")

    def _grid_pixel(self, position: tuple[float, ...]) -> tuple[int, int] | None:
        """Pixel of the task's grid under a point in world units, if it is on the slide."""
        session, slide = self.session, self.layers.slide
        if session.store is None or slide is None:
            return None
        downsample = session.store.downsample(session.task.name)
        y0, x0 = slide.world_to_data(position)[-2:]
        y, x = int((y0 + 0.5) // downsample), int((x0 + 0.5) // downsample)
        height, width = session.store.shape(session.task.name)
        return (y, x) if 0 <= y < height and 0 <= x < width else None

    # -- what the session tells -----------------------------------------------------------------

    def _on_slide(self) -> None:
        slide = self.session.slide
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
        self.class_value = session.task.classes[0].value
        store, name = session.store, session.task.name
        if store is None or self.layers.slide is None or name not in store.tasks:
            self.layers.hide_annotations()
            return
        has_objects = session.task.kind == "objects"
        self.layers.show_annotations(
            session.task,
            store.downsample(name),
            store.levels(name, "classes"),
            store.levels(name, "objects") if has_objects else None,
            store.levels(name, "provenance"),
        )
        self.events.class_changed.emit()

    def _on_annotations(self, region: Region) -> None:
        self._stale = region if self._stale is None else _around(self._stale, region)

    def _show_stale(self) -> None:
        stale, self._stale = self._stale, None
        if stale is None:
            return
        self._show(stale)
        inside = self._window is not None and self._window.region.contains(stale)
        # Where one edits the edit layer is shown; the rest can wait until the hand rests.
        self._redraw_soon(IDLE_S if inside else 0)

    def _show(self, region: Region) -> None:
        """Show in the edit window what the store holds now."""
        if self._window is None or self._drawing:
            return
        fresh = self._window.reread(region)
        if fresh is not None:
            self.layers.put(*fresh)
            if self.session.task.n_classes > 1:
                self.layers.recolor(self._colors(self._window))

    def _redraw_soon(self, delay: float) -> None:
        self._redraw_at = self._clock() + delay

    def _on_tile(self, tile: TilePreview) -> None:
        self.layers.show_tile(tile.region, tile.core, tile.downsample, tile.classes)

    def _on_predicting(self) -> None:
        if self.session.predicting.activity is None:
            self.layers.close_preview()
            self._redraw_soon(0)

    def _on_refining(self) -> None:
        """Predict the last view anew when Refine, or the way back, changed the model in use."""
        outcome, model = self.session.refining.outcome, self.session.model
        if outcome is None or model is None:
            self._model_shown = None
            return
        shown = self._model_shown or outcome.old.hash
        self._model_shown = model.hash
        if model.hash != shown:
            self.predict_again()

    # -- what the viewer tells ------------------------------------------------------------------

    def _on_paint(self, _event: Any = None) -> None:
        self._stroke_done = True

    def _on_camera(self, _event: Any = None) -> None:
        self._moved_at = self._clock()

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
            with self.session.attempt():
                self._window.save(event.value.data, "Brush")
            self._window, self.tool = None, None
        if self.layers.forget(layer):
            self.session.close_slide()
        self.events.tool_changed.emit()


def _around(one: Region, other: Region) -> Region:
    return Region.from_bounds(
        min(one.y, other.y), min(one.x, other.x), max(one.y1, other.y1), max(one.x1, other.x1)
    )
