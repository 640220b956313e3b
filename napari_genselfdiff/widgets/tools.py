"""Tools in the hand: what a stroke, a click or a key does to the part of the slide being edited."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal

from psygnal import Signal, SignalGroup

from napari_genselfdiff.session.editing import NOTHING, EditWindow
from napari_genselfdiff.widgets.layers import SlideLayers
from napari_genselfdiff.widgets.view import visible_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.geometry import Region

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
BRUSH: Final = (1, 64)
"""Smallest and largest brush in pixels of the task's grid."""


class ControllerEvents(SignalGroup):
    """What the blocks need to know beyond the session."""

    tool_changed = Signal()
    class_changed = Signal()
    view_changed = Signal()


class Tools:
    """The tool in the hand and the window it edits.

    Parameters
    ----------
    viewer
        napari's viewer, or a ``ViewerModel``.
    session
        What is open.
    clock
        Seconds.
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
        self._redraw_at: float | None = None
        viewer.mouse_drag_callbacks.append(self._on_drag)

    def visible(self) -> Region | None:
        """What is on screen of the slide, in level-0 pixels."""
        slide = self.layers.slide
        return None if slide is None else visible_region(self.viewer, slide)

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

    def show_colors(self) -> None:
        """Draw what is being edited in the colours of the classes that are shown."""
        if self._window is not None:
            self.layers.recolor(self._colors(self._window))

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
            if pixel is None or not self.session.correcting.delete_object(*pixel):
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
            self._window = self.session.correcting.take_window(visible)
            layer = self.layers.open_edit(
                self._window.region, self._window.values(), self._colors(self._window)
            )
            layer.events.paint.connect(self._on_paint)
        self.tool = tool
        self.layers.arm(_MODES[tool], self.brush_size)
        self.events.tool_changed.emit()

    def _covers(self, visible: Region | None) -> bool:
        return self._window is not None and self._window.region.contains(
            self.session.correcting.on_grid(visible)
        )

    def _colors(self, window: EditWindow) -> dict[int | None, str | None]:
        """Colours of the values to paint."""
        task = self.session.task
        hidden = self.layers.hidden_classes
        by_class = {c.value: None if c.value in hidden else c.color for c in task.classes}
        if task.kind != "objects":
            return {None: None} | dict(by_class.items())
        if task.n_classes == 1:
            return {None: by_class[task.classes[0].value], NOTHING: None}
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
            if tool == "delete" and not self.session.correcting.delete_object(y, x):
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

    def _on_paint(self, _event: Any = None) -> None:
        self._stroke_done = True
