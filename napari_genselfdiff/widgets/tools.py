"""Tools in the hand: what a stroke, a click or a key does to the part of the slide being edited."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final, cast

from psygnal import Signal, SignalGroup

from napari_genselfdiff.session.editing import FORGOTTEN, NOTHING, Brush, EditWindow
from napari_genselfdiff.session.tool_acts import Target, along, at
from napari_genselfdiff.widgets.gestures import Gestures
from napari_genselfdiff.widgets.key_preferences import KeyBook
from napari_genselfdiff.widgets.layers import SlideLayers
from napari_genselfdiff.widgets.tool_kinds import HANDLING, Tool
from napari_genselfdiff.widgets.view import visible_region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.components import ViewerModel

    from napari_genselfdiff.session.editing import Stroke
    from napari_genselfdiff.session.outlining import How
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.session.tool_acts import ClickTool, LineTool
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.widgets.gestures import Point

__all__ = ["BRUSH", "ControllerEvents", "Tool", "Tools"]

BRUSH: Final = (1, 64)
"""Smallest and largest brush in pixels of the task's grid."""
_BRUSHES: Final[dict[Tool, Brush]] = {"brush": "paint", "erase": "erase", "forget": "forget"}
_WORDS: Final[dict[Brush, str]] = {
    "paint": "Brush",
    "erase": "Erase",
    "forget": "Clear to unknown",
}


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
        self.protect = False
        self.keys = KeyBook()
        self._clock = clock
        self._window: EditWindow | None = None
        self._stroke: Stroke | None = None
        self._stroke_done = False
        self._what = "Brush"
        self._redraw_at: float | None = None
        self.gestures = Gestures(viewer, self)

    def visible(self) -> Region | None:
        """What is on screen of the slide, in level-0 pixels."""
        slide = self.layers.slide
        return None if slide is None else visible_region(self.viewer, slide)

    @property
    def edit_window(self) -> EditWindow | None:
        """What is being edited."""
        return self._window

    @property
    def _drawing(self) -> bool:
        """Whether a stroke is being painted: nothing may change under the brush."""
        return self.gestures.is_stroking

    # -- what buttons and keys do ---------------------------------------------------------------

    def pick_tool(self, tool: Tool | None) -> None:
        """Start a tool on the visible region; None or the same tool again puts it away."""
        if tool is None or tool == self.tool:
            self.leave()
            return
        self.settle()
        with self.session.attempt():
            self._take(tool)

    def settle(self) -> bool:
        """End what is half drawn, and save; False if that failed."""
        self.gestures.finish()
        return self.save()

    def leave(self) -> None:
        """Save and put the tool away; what cannot be saved stays in hand as long as it is shown."""
        if not self.settle() and self._is_shown():
            return
        self.layers.close_edit()
        self._window = self._stroke = None
        if self.tool is not None:
            self.tool = None
            self.layers.zoom_by_double_click(True)
            self._redraw_soon(0)
            self.events.tool_changed.emit()

    def escape(self) -> None:
        """Forget the outline that was begun; with none, put the tool away."""
        if not self.gestures.drop():
            self.leave()

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

    def set_protect(self, on: bool) -> None:
        """Leave pixels and objects of other classes as they are while drawing, or not."""
        self.protect = on
        self.events.class_changed.emit()

    def delete_here(self) -> None:
        """Delete the object under the pointer; with none there, take the Delete tool."""
        self.settle()
        with self.session.attempt():
            pixel = self._grid_pixel(self.viewer.cursor.position)
            if pixel is None or not self.session.correcting.delete_object(*pixel):
                self.pick_tool("delete")

    def save(self) -> bool:
        """Put what was painted into the annotations; if that fails it stays on screen: False."""
        window, layer = self._window, self.layers.edit
        if window is None or layer is None or self._drawing:
            return True
        self._stroke_done, problem = False, True
        with self.session.attempt():
            saved = window.save(layer.data, self._what)
            if saved.pixels:
                self.session.say(f"{self._what}: saved.")
            elif saved.region is not None:  # marks on what was so already
                self._show(saved.region)
            problem = False
        return not problem

    def _is_shown(self) -> bool:
        """Whether the annotations that are edited are those on screen."""
        window, session = self._window, self.session
        return (
            window is not None
            and window.store is session.store
            and window.task.name == session.task.name
        )

    # -- the window -----------------------------------------------------------------------------

    def _take(self, tool: Tool) -> None:
        """Make the visible region editable and arm a tool."""
        if HANDLING[tool].objects_only and self.session.task.kind != "objects":
            self.session.say("This tool is for single objects; this task has areas.", "warning")
            return
        if not HANDLING[tool].edits:
            self._take_outline(tool)
            return
        self.layers.zoom_by_double_click(True)
        visible = self.visible()
        if self._window is None or not self._covers(visible):
            if not self.save():
                return
            self._window = self.session.correcting.take_window(visible)
            layer = self.layers.open_edit(
                self._window.region, self._window.values(), self._colors(self._window)
            )
            layer.events.paint.connect(self._on_paint)
            layer.events.mode.connect(self._on_mode)
        self.tool = tool
        self._arm()
        self.events.tool_changed.emit()

    def _take_outline(self, tool: Tool) -> None:
        """Take a tool that draws over the slide, and changes no pixel, at any zoom."""
        self.session.open_store()
        self.leave()
        self.tool = tool
        self.layers.zoom_by_double_click(False)
        self.session.say("Click the corners; a double click or Enter closes, Esc gives it up.")
        self.events.tool_changed.emit()

    def _arm(self) -> None:
        if self.tool is not None:
            handling = HANDLING[self.tool]
            self.layers.arm(handling.cursor, self.brush_size, pan=handling.pans)

    def _covers(self, visible: Region | None) -> bool:
        return self._window is not None and self._window.region.contains(
            self.session.correcting.on_grid(visible)
        )

    def _colors(self, window: EditWindow) -> dict[int | None, str | None]:
        """Colours of the values to paint."""
        task = window.task
        hidden = self.layers.hidden_classes
        by_class = {c.value: None if c.value in hidden else c.color for c in task.classes}
        if task.kind != "objects":
            return {None: None} | dict(by_class.items())
        if task.n_classes == 1:
            return {None: by_class[task.classes[0].value], NOTHING: None, FORGOTTEN: None}
        ids = window.class_of_values.items()
        return {None: None, **{object_id: by_class.get(value) for object_id, value in ids}}

    def _follow_view(self) -> None:
        """While a tool is in hand, keep the visible region editable."""
        tool = self.tool
        if tool is None or not HANDLING[tool].edits:
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
            if self._window.task.n_classes > 1 and self._window.task.kind == "objects":
                self.layers.recolor(self._colors(self._window))
            self.layers.put(*fresh)

    def _redraw_soon(self, delay: float) -> None:
        self._redraw_at = self._clock() + delay

    def _on_paint(self, _event: Any = None) -> None:
        self._stroke_done = True

    def _on_mode(self, _event: Any = None) -> None:
        """Space lends the mouse to panning; back in our mode the cursor is ours again."""
        if self.layers.edit is not None and self.layers.edit.mode == "pick":
            self._arm()

    # -- what the gestures ask for --------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether the tool may act: its window is open and chosen, and Space is not held."""
        if self.tool is not None and not HANDLING[self.tool].edits:
            return self.layers.slide is not None
        layer = self.layers.edit
        return (
            self._window is not None
            and layer is not None
            and layer.mode == "pick"
            and self.viewer.layers.selection.active is layer
        )

    def grid_point(self, position: Sequence[float]) -> Point | None:
        """Point of the task's grid (pixel i is centred on i) under a world position."""
        slide, store = self.layers.slide, self.session.store
        if slide is None or store is None:
            return None
        downsample = store.downsample(self.session.task.name)
        y0, x0 = slide.world_to_data(position)[-2:]
        return float((y0 + 0.5) / downsample - 0.5), float((x0 + 0.5) / downsample - 0.5)

    def world_point(self, point: Point) -> tuple[float, ...]:
        """World position of a point of the task's grid."""
        slide, store = self.layers.slide, self.session.store
        if slide is None or store is None:
            return point
        downsample = store.downsample(self.session.task.name)
        return tuple(slide.data_to_world([(value + 0.5) * downsample - 0.5 for value in point]))

    def begin_stroke(self, tool: Tool, point: Point, modifiers: Sequence[str]) -> bool:
        """Choose what the stroke paints."""
        if self._stroke_done:
            self.save()  # the stroke before this one is a step of its own
        window = self._window
        brush = "erase" if "Alt" in modifiers and tool == "brush" else _BRUSHES[tool]
        self._stroke = None
        with self.session.attempt():
            if window is not None:
                pixel = self._pixel(point)
                self._stroke = window.stroke(brush, self.class_value, pixel, protect=self.protect)
                self._what = _WORDS[brush]
                several = window.task.kind == "objects" and window.task.n_classes > 1
                if brush == "paint" and several and self._stroke.value != window.at(*pixel)[0]:
                    self.layers.recolor(self._colors(window))
        return self._stroke is not None

    def stroke_to(self, start: Point, end: Point) -> None:
        """Paint from one point of the grid to the next."""
        window, layer, stroke = self._window, self.layers.edit, self._stroke
        if window is not None and layer is not None and stroke is not None:
            rows, columns = window.dab(layer.data, start, end, self.brush_size / 2, stroke)
            self.layers.paint(rows, columns, stroke.value)

    def end_stroke(self) -> None:
        """Have the stroke saved as soon as the event is over."""
        self._stroke_done = True

    def use_line(self, tool: Tool, points: list[Point], modifiers: Sequence[str]) -> None:
        """Act on a drawn line: Shift extends what it begins in, Alt erases."""
        how: How = "erase" if "Alt" in modifiers else "extend" if "Shift" in modifiers else "new"
        if not HANDLING[tool].edits:
            self._keep_roi(points)
            return
        self.save()
        with self.session.attempt():
            if self._window is not None:
                self.session.say(along(self._target(), cast("LineTool", tool), points, how))

    def _keep_roi(self, points: list[Point]) -> None:
        store = self.session.store
        if store is not None:
            downsample = store.downsample(self.session.task.name)
            places = [tuple((v + 0.5) * downsample - 0.5 for v in point) for point in points]
            self.leave()
            with self.session.attempt():
                self.session.measuring.add_roi([(y, x) for y, x in places])

    def use_click(self, tool: Tool, point: Point) -> None:
        """Act on a click."""
        self.save()
        y, x = self._pixel(point)
        with self.session.attempt():
            if tool == "fill":
                self._fill(y, x)
            elif self._window is not None:
                self.session.say(at(self._target(), cast("ClickTool", tool), y, x))

    def _target(self) -> Target:
        """What is being edited, also while another task is being chosen."""
        assert self._window is not None
        window = self._window
        return Target(window.store, window.task, self.class_value, self.protect)

    def _fill(self, y: int, x: int) -> None:
        window, layer = self._window, self.layers.edit
        if window is None or layer is None:
            return
        after = window.filled(layer.data, y, x, self.class_value, protect=self.protect)
        if window.save(after, "Fill").pixels:
            self.session.say("Filled and saved.")

    @staticmethod
    def _pixel(point: Point) -> tuple[int, int]:
        return math.floor(point[0] + 0.5), math.floor(point[1] + 0.5)

    def _grid_pixel(self, position: Sequence[float]) -> tuple[int, int] | None:
        """Pixel of the task's grid under a point in world units, if it is on the slide."""
        point = self.grid_point(position)
        if point is None or self.session.store is None:
            return None
        y, x = self._pixel(point)
        height, width = self.session.store.shape(self.session.task.name)
        return (y, x) if 0 <= y < height and 0 <= x < width else None
