"""The line one is drawing, over everything else, as long as it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_genselfdiff.widgets.canvas_lines import (
    hide,
    put_above,
    rimmed_line,
    scene_of,
    take_out,
)

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
        hide(self._visuals)

    def remove(self) -> None:
        """Take the line out of the window."""
        take_out(self._visuals)
        self._lines, self._corners = [], None

    @property
    def _visuals(self) -> list[Any]:
        return [*self._lines, *([] if self._corners is None else [self._corners])]

    def _make(self) -> bool:
        scene = scene_of(self._viewer)
        if scene is None:
            return False
        from vispy.scene.visuals import Markers  # type: ignore[import-untyped]

        self._lines = rimmed_line(scene, (_DARK, 4), (_BRIGHT, 1.6))
        self._corners = Markers(parent=scene)
        put_above(self._visuals, _ORDER)
        return True


def _flat(points: Sequence[Point]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Points as vispy has them: columns before rows."""
    return np.array([point[-2:][::-1] for point in points], np.float32).reshape(-1, 2)
