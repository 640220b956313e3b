"""A mouse for a viewer without a window: napari's own events, one by one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_genselfdiff.widgets.controller import Controller

Point = tuple[float, float]


class Mouse:
    """Presses, moves and releases over pixels of level 0."""

    def __init__(self, controller: Controller, *modifiers: str) -> None:
        self._controller = controller
        self._running: list[Any] = []
        self._event: Any = SimpleNamespace(
            button=1,
            modifiers=modifiers,
            view_direction=None,
            dims_displayed=[0, 1],
            handled=False,
            pos=np.zeros(2),
        )

    def press(self, point: Point) -> None:
        """Press the left button."""
        event = self._to("mouse_press", point)
        viewer = self._controller.viewer
        made = [callback(viewer, event) for callback in viewer.mouse_drag_callbacks]
        self._running = [generator for generator in made if generator is not None]
        self._go_on()

    def move(self, point: Point) -> None:
        """Move with the button held, or without."""
        event = self._to("mouse_move", point)
        if self._running:
            self._go_on()
        else:
            for callback in self._controller.viewer.mouse_move_callbacks:
                callback(self._controller.viewer, event)

    def release(self, point: Point) -> None:
        """Release the button."""
        self._to("mouse_release", point)
        self._go_on()
        self._running = []

    def drag(self, *points: Point) -> None:
        """Press at the first point, move along the others, release at the last; then a turn."""
        self.press(points[0])
        for point in points[1:]:
            self.move(point)
        self.release(points[-1])
        self._controller.tick()

    def double_click(self, point: Point) -> None:
        """Click, and once more at once."""
        self.drag(point)
        event = self._to("mouse_double_click", point)
        for callback in self._controller.viewer.mouse_double_click_callbacks:
            callback(self._controller.viewer, event)
        self._controller.tick()

    def _to(self, kind: str, point: Point) -> Any:
        slide = self._controller.layers.slide
        if slide is not None:
            self._event.position = tuple(slide.data_to_world(point))
        self._event.type = kind
        return self._event

    def _go_on(self) -> None:
        for generator in self._running:
            next(generator, None)
