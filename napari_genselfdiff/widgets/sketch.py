"""The line one is drawing, over everything else, as long as it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    Point = tuple[float, ...]

_ORDER: Final = 10**6  # drawn after every layer
_DARK, _BRIGHT = (0.0, 0.0, 0.0, 0.75), (1.0, 1.0, 1.0, 1.0)


class Sketch:
    """A white line with a dark rim, as wide on screen at any zoom; points are in world units.

    Parameters
    ----------
    viewer
        A viewer; without a window nothing is drawn.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._lines: list[Any] = []
        self._corners: Any = None

    def show(self, points: Sequence[Point], *, corners: Sequence[Point] = ()) -> None:
        """Show a line, and squares at its fixed corners."""
        if not self._lines and not self._make():
            return
        where = _flat(points)
        for line in self._lines:
            line.visible = len(where) > 1
            if line.visible:
                line.set_data(pos=where)
        self._corners.visible = bool(corners)
        if corners:
            self._corners.set_data(
                _flat(corners), size=7, face_color=_BRIGHT, edge_color=_DARK, symbol="square"
            )

    def clear(self) -> None:
        """Show nothing."""
        for visual in (*self._lines, self._corners):
            if visual is not None:
                visual.visible = False

    def remove(self) -> None:
        """Take the line out of the window."""
        for visual in (*self._lines, self._corners):
            if visual is not None:
                visual.parent = None
        self._lines, self._corners = [], None

    def _make(self) -> bool:
        window = getattr(self._viewer, "window", None)
        if window is None:
            return False
        from vispy.scene.visuals import Line, Markers  # type: ignore[import-untyped]

        scene = window._qt_viewer.canvas.view.scene
        self._lines = [
            Line(parent=scene, color=color, width=width, method="gl", antialias=True)
            for color, width in ((_DARK, 4), (_BRIGHT, 1.6))
        ]
        self._corners = Markers(parent=scene)
        for number, visual in enumerate((*self._lines, self._corners)):
            visual.order = _ORDER + number
            visual.set_gl_state("translucent", depth_test=False)
            visual.visible = False
        return True


def _flat(points: Sequence[Point]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Points as vispy has them: columns before rows."""
    return np.array([point[-2:][::-1] for point in points], np.float32).reshape(-1, 2)
