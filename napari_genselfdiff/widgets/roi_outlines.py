"""Regions of interest over the slide: orange outlines with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_genselfdiff.annotation.rois import ROI_COLOR
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

    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.widgets.layers import SlideLayers

_ORDER: Final = 10**6 - 10  # below the line that is being drawn
_DARK: Final = (0.0, 0.0, 0.0, 0.7)
_INK: Final = (0.2, 0.1, 0.0, 1.0)  # of the names: to be read on stained tissue and on glass


class RoiOutlines:
    """Lines as wide, and names as large on screen at any zoom.

    Parameters
    ----------
    viewer, layers
        A viewer, in which nothing is drawn without a window, and the slide's layer.
    """

    def __init__(self, viewer: ViewerModel, layers: SlideLayers) -> None:
        self._viewer, self._layers = viewer, layers
        self._lines: list[Any] = []
        self._names: Any = None

    def show(self, rois: Sequence[Roi]) -> None:
        """Show these, and no others."""
        slide = self._layers.slide
        if slide is None or not rois:
            hide(self._visuals)
            return
        if not self._lines and not self._make():
            return
        rings = [np.array([*roi.points, roi.points[0]]) for roi in rois]
        placed = [self._placed(ring) for ring in rings]
        joins = [np.r_[np.ones(len(ring) - 1, bool), False] for ring in placed]
        for line in self._lines:
            line.set_data(pos=np.concatenate(placed), connect=np.concatenate(joins))
        self._names.text = [roi.name for roi in rois]
        self._names.pos = np.array([ring[np.argmin(ring[:, 1])] for ring in placed])
        for visual in self._visuals:
            visual.visible = True

    def remove(self) -> None:
        """Take everything out of the window."""
        take_out(self._visuals)
        self._lines, self._names = [], None

    @property
    def _visuals(self) -> list[Any]:
        return [*self._lines, *([] if self._names is None else [self._names])]

    def _placed(self, ring: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Level-0 pixels (y, x) in the world, as vispy has them: columns before rows."""
        slide = self._layers.slide
        assert slide is not None
        scale, shift = np.asarray(slide.scale[-2:]), np.asarray(slide.translate[-2:])
        return np.asarray((ring * scale + shift)[:, ::-1], np.float32)

    def _make(self) -> bool:
        scene = scene_of(self._viewer)
        if scene is None:
            return False
        from vispy.scene.visuals import Text  # type: ignore[import-untyped]

        self._lines = rimmed_line(scene, (_DARK, 4.5), (ROI_COLOR, 2.2))
        self._names = Text(
            parent=scene,
            color=_INK,
            font_size=12,
            bold=True,
            anchor_x="center",
            anchor_y="top",
        )
        put_above(self._visuals, _ORDER)
        return True
