"""The mouse over the slide while a tool is in hand: strokes, lines, corners, clicks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

from napari_genselfdiff.widgets.sketch import Sketch
from napari_genselfdiff.widgets.tool_kinds import HANDLING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari.components import ViewerModel

    from napari_genselfdiff.widgets.tool_kinds import Tool

    Point = tuple[float, float]

_STEP: Final = 0.25  # pixels of the grid; a finer line is not more exact


class Workshop(Protocol):
    """What gestures are made for."""

    tool: Tool | None

    def is_ready(self) -> bool:
        """Whether the tool may act: its window is open and chosen, and Space is not held."""
        ...

    def grid_point(self, position: Sequence[float]) -> Point | None:
        """Point of the task's grid under a world position; None without a slide."""
        ...

    def world_point(self, point: Point) -> tuple[float, ...]:
        """World position of a point of the task's grid."""
        ...

    def begin_stroke(self, tool: Tool, point: Point, modifiers: Sequence[str]) -> bool:
        """Begin to paint; False if that is not possible."""
        ...

    def stroke_to(self, start: Point, end: Point) -> None:
        """Paint from one point to the next."""
        ...

    def end_stroke(self) -> None:
        """Nothing more is painted."""
        ...

    def use_line(self, tool: Tool, points: list[Point], modifiers: Sequence[str]) -> None:
        """Act on a drawn line."""
        ...

    def use_click(self, tool: Tool, point: Point) -> None:
        """Act on a click."""
        ...


class Gestures:
    """Turns napari's mouse events into strokes, lines and clicks on the task's grid.

    Parameters
    ----------
    viewer
        Whose mouse is meant.
    workshop
        Who acts.
    """

    def __init__(self, viewer: ViewerModel, workshop: Workshop) -> None:
        self._viewer, self._shop = viewer, workshop
        self._sketch = Sketch(viewer)
        self._points: list[Point] = []
        self._tool: Tool | None = None  # whose line is being drawn
        self._modifiers: tuple[str, ...] = ()
        self._stroke = 0  # number of the stroke that is painted, 0 for none
        self._strokes = 0
        viewer.mouse_drag_callbacks.append(self._on_drag)
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.mouse_double_click_callbacks.append(self._on_double_click)

    def cleanup(self) -> None:
        """Let go of the mouse."""
        self.drop()
        self._sketch.remove()
        for callbacks, mine in (
            (self._viewer.mouse_drag_callbacks, self._on_drag),
            (self._viewer.mouse_move_callbacks, self._on_move),
            (self._viewer.mouse_double_click_callbacks, self._on_double_click),
        ):
            if mine in callbacks:
                callbacks.remove(mine)

    @property
    def is_stroking(self) -> bool:
        """Whether a stroke is being painted."""
        return self._stroke > 0

    @property
    def has_line(self) -> bool:
        """Whether a line or outline was begun and not ended."""
        return self._tool is not None

    def finish(self) -> None:
        """End what is being drawn as if the button had been released, or the outline closed."""
        if self._stroke:
            self._end_stroke(self._stroke)
        tool, points, modifiers = self._tool, self._points, self._modifiers
        self.drop()
        if tool is not None and len(points) > (2 if _has_corners(tool) else 1):
            self._shop.use_line(tool, points, modifiers)

    def close(self) -> None:
        """Close the outline that was begun; with too few corners it goes on."""
        if _has_corners(self._tool) and len(self._points) > 2:
            self.finish()

    def drop(self) -> bool:
        """Forget the line that is being drawn; False if there is none."""
        had = self._tool is not None
        self._tool, self._points = None, []
        self._sketch.clear()
        return had

    def take_back(self) -> bool:
        """Forget the last corner of an outline; False if none was begun."""
        if not _has_corners(self._tool):
            return False
        self._points.pop()
        if self._points:
            self._draw()
        else:
            self.drop()
        return True

    # -- what napari tells ----------------------------------------------------------------------

    def _on_drag(self, _viewer: Any, event: Any) -> Iterator[None]:
        tool = self._shop.tool
        point = self._shop.grid_point(event.position)
        if tool is None or point is None or event.button != 1 or not self._shop.is_ready():
            return
        gesture = HANDLING[tool].gesture
        if gesture == "stroke":
            yield from self._paint(tool, point, event)
        elif gesture == "line":
            yield from self._trace(tool, point, event)
        else:
            yield
            moved = False
            while event.type == "mouse_move":
                moved = True
                yield
            if not moved and self._shop.tool == tool:
                self._clicked(tool, point, event)

    def _paint(self, tool: Tool, point: Point, event: Any) -> Iterator[None]:
        if not self._shop.begin_stroke(tool, point, tuple(event.modifiers)):
            return
        self._strokes += 1
        mine = self._stroke = self._strokes
        self._shop.stroke_to(point, point)
        yield
        while event.type == "mouse_move" and self._stroke == mine:
            here = self._shop.grid_point(event.position)
            if here is not None:
                self._shop.stroke_to(point, here)
                point = here
            yield
        self._end_stroke(mine)

    def _end_stroke(self, number: int) -> None:
        if self._stroke == number:
            self._stroke = 0
            self._shop.end_stroke()

    def _trace(self, tool: Tool, point: Point, event: Any) -> Iterator[None]:
        self._tool, self._modifiers = tool, tuple(event.modifiers)
        points = self._points = [point]
        yield
        while event.type == "mouse_move" and self._points is points:
            here = self._shop.grid_point(event.position)
            if here is not None and math.dist(here, points[-1]) >= _STEP:
                points.append(here)
                self._draw()
            yield
        if self._points is points:  # not ended meanwhile by a key
            self.finish()

    def _clicked(self, tool: Tool, point: Point, event: Any) -> None:
        if HANDLING[tool].gesture == "click":
            self._shop.use_click(tool, point)
            return
        if self._tool is None:
            self._tool, self._points, self._modifiers = tool, [], tuple(event.modifiers)
        if not self._points or math.dist(self._points[-1], point) >= _STEP:
            self._points.append(point)
        self._draw()

    def _on_move(self, _viewer: Any, event: Any) -> None:
        if _has_corners(self._tool):
            self._draw(self._shop.grid_point(event.position))

    def _on_double_click(self, _viewer: Any, event: Any) -> None:
        tool = self._shop.tool
        point = self._shop.grid_point(event.position)
        if tool is None or point is None or event.button != 1 or not self._shop.is_ready():
            return
        if HANDLING[tool].gesture == "corners":
            self.finish()  # the first of the two clicks was the last corner
        elif HANDLING[tool].gesture == "click":
            self._shop.use_click(tool, point)  # two quick clicks are two clicks

    def _draw(self, pointer: Point | None = None) -> None:
        points = list(self._points)
        if _has_corners(self._tool):
            corners = [self._shop.world_point(point) for point in points]
            points += ([] if pointer is None else [pointer]) + points[:1]
            self._sketch.show([self._shop.world_point(p) for p in points], corners=corners)
        else:
            self._sketch.show([self._shop.world_point(point) for point in points])


def _has_corners(tool: Tool | None) -> bool:
    """Whether a tool's line is made of clicked corners."""
    return tool is not None and HANDLING[tool].gesture == "corners"
