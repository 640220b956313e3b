"""A hand for the demo and for tests: real clicks, keys and drags in a real window."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_genselfdiff.errors import JobFailedError
from napari_genselfdiff.widgets.view import canvas_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_genselfdiff.widgets.panel import AnnotateSlide

Point = tuple[float, float]
_TEST: Any = QTest  # PyQt's stubs take its static functions for methods
_MODIFIERS: Final[dict[str, Any]] = {
    "Ctrl": Qt.KeyboardModifier.ControlModifier,
    "Shift": Qt.KeyboardModifier.ShiftModifier,
    "Alt": Qt.KeyboardModifier.AltModifier,
}


class Hand:
    """Does what a user does, through Qt's events; points are level-0 pixels (y, x).

    Parameters
    ----------
    viewer, panel
        A window on a screen, and the panel docked in it.
    """

    def __init__(self, viewer: Viewer, panel: AnnotateSlide) -> None:
        self.viewer, self.panel = viewer, panel

    @property
    def canvas(self) -> Any:
        """The widget that draws the slide."""
        return self.viewer.window._qt_viewer.canvas.native

    def rest(self, seconds: float = 0.1) -> None:
        """Let the window work."""
        end = time.monotonic() + seconds
        while True:
            QApplication.processEvents()
            if time.monotonic() >= end:
                return
            time.sleep(0.005)

    def until(self, is_true: Callable[[], bool], what: str, seconds: float = 900) -> float:
        """Wait until something is true; give the seconds it took.

        Raises
        ------
        JobFailedError
            If it does not become true in time.
        """
        start = time.monotonic()
        while not is_true():
            if time.monotonic() - start > seconds:
                said = self.panel.session.status.text
                raise JobFailedError(f"{what} did not end within {seconds:g} s; last said: {said}")
            self.rest(0.02)
        return time.monotonic() - start

    def click(self, widget: QWidget) -> None:
        """Click a button or another part of the panel."""
        _TEST.mouseClick(widget, Qt.MouseButton.LeftButton)
        self.rest()

    def key(self, keys: str) -> None:
        """Press and release keys over the slide, such as "B" or "Ctrl+Shift+Z"."""
        *held, last = keys.split("+")
        modifiers: Any = Qt.KeyboardModifier.NoModifier
        for name in held:
            modifiers |= _MODIFIERS[name]
        _TEST.keyClick(self.canvas, getattr(Qt.Key, f"Key_{last}"), modifiers)
        self.rest()

    def hold(self, key: str, is_down: bool) -> None:
        """Press a key without releasing it, or release it."""
        act = _TEST.keyPress if is_down else _TEST.keyRelease
        act(self.canvas, getattr(Qt.Key, f"Key_{key}"))
        self.rest()

    def tap(self, point: Point) -> None:
        """Click on the slide."""
        self.drag([point])

    def double_click(self, point: Point) -> None:
        """Click twice on the slide."""
        self.tap(point)
        self._mouse(QEvent.Type.MouseButtonDblClick, point, "")
        self._mouse(QEvent.Type.MouseButtonRelease, point, "", is_down=False)
        self.rest(0.15)

    def drag(self, points: Sequence[Point], modifiers: str = "") -> None:
        """Press the left button at the first point, move along the others, release at the last."""
        self._mouse(QEvent.Type.MouseMove, points[0], modifiers, is_down=False)
        self._mouse(QEvent.Type.MouseButtonPress, points[0], modifiers)
        for point in points[1:]:
            self._mouse(QEvent.Type.MouseMove, point, modifiers)
        self._mouse(QEvent.Type.MouseButtonRelease, points[-1], modifiers, is_down=False)
        self.rest(0.15)

    def press(self, points: Sequence[Point]) -> None:
        """Press the left button at the first point and move along the others; it stays down."""
        self._mouse(QEvent.Type.MouseMove, points[0], "", is_down=False)
        self._mouse(QEvent.Type.MouseButtonPress, points[0], "")
        for point in points[1:]:
            self._mouse(QEvent.Type.MouseMove, point, "")

    def release(self, point: Point) -> None:
        """Release the left button."""
        self._mouse(QEvent.Type.MouseButtonRelease, point, "", is_down=False)
        self.rest(0.15)

    def on_canvas(self, point: Point) -> QPointF:
        """Where a level-0 pixel is on the canvas."""
        slide = self.panel.controller.layers.slide
        if slide is None:
            raise JobFailedError("no slide is open")
        camera = self.viewer.scene.camera
        world = slide.data_to_world(point)
        height, width = canvas_shape(self.viewer)
        y = (world[-2] - camera.center[-2]) * camera.zoom + height / 2
        x = (world[-1] - camera.center[-1]) * camera.zoom + width / 2
        return QPointF(float(x), float(y))

    def _mouse(self, kind: Any, point: Point, modifiers: str, *, is_down: bool = True) -> None:
        self.send(kind, point, modifiers, is_down=is_down)
        QApplication.processEvents()

    def send(self, kind: Any, point: Point, modifiers: str = "", *, is_down: bool = True) -> None:
        """Send one event of the mouse and return when it was handled, before anything is drawn."""
        where = self.on_canvas(point)
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        keys = _MODIFIERS[modifiers] if modifiers else Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(
            kind,
            where,
            QPointF(self.canvas.mapToGlobal(where.toPoint())),
            none if kind == QEvent.Type.MouseMove else left,
            left if is_down else none,
            keys,
        )
        QApplication.sendEvent(self.canvas, event)
