"""The only code that touches napari's layers: previews and the edit window, over the slide.

``shown_slide`` has the slide and its annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_genselfdiff.slides.geometry import grid_shape
from napari_genselfdiff.widgets.hatching import UNSURE_COLOR, hatched
from napari_genselfdiff.widgets.overlay import Overlay, colormap
from napari_genselfdiff.widgets.preview import Preview
from napari_genselfdiff.widgets.shown_slide import AREA_OPACITY, MINE, PANEL, ShownSlide
from napari_genselfdiff.widgets.view import slide_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

    from napari_genselfdiff.slides.geometry import Region

_MANY: Final = 100_000  # pixels; more than this are drawn by drawing everything
_ZOOM: Final = "double_click_to_zoom"  # what napari calls it


class SlideLayers(ShownSlide):
    """Adds previews, the hatching and the edit window.

    Parameters
    ----------
    viewer
        napari's viewer or a ``ViewerModel``.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self._is_held = False
        self._held: list[Layer] = []
        self._zooming: Any = None  # napari's double click, while it is ours
        self._preview = Preview(Overlay(self._add_preview))
        self._unsure = Overlay(self._add_unsure)

    @property
    def _overlays(self) -> tuple[Overlay, Overlay]:
        return self._unsure, self._preview.overlay

    @property
    def preview(self) -> Labels | None:
        """The tiles of a running prediction, once one has come."""
        overlay = self._preview.overlay
        return None if overlay.region is None else overlay.layer

    @property
    def unsure(self) -> Labels | None:
        """The hatching, while there is one."""
        return None if self._unsure.region is None else self._unsure.layer

    def clear(self) -> None:
        """Remove every layer of ours."""
        super().clear()
        self._held = []

    def hide_classes(self, values: frozenset[int]) -> None:
        """Draw all classes but these."""
        super().hide_classes(values)
        self._preview.overlay.recolor(self._class_colors())

    # -- a prediction while it runs -------------------------------------------------------------

    def expect_tiles(self) -> None:
        """Do beforehand what the first tile would wait for."""
        if self._preview.overlay.layer is None and self.slide is not None:
            self._preview.overlay.prepare()

    def show_tile(self, region: Region, core: Region, downsample: float, classes: Any) -> None:
        """Take in a finished tile for :meth:`draw_tiles`; ``region`` is the whole job.

        Both are in the model's grid.
        """
        if self.slide is None:
            return
        if self._preview.overlay.region != region:
            shape = grid_shape(slide_shape(self.slide), downsample)
            self._preview.begin(region, shape, lambda y, x: self._placing(downsample, y, x))
        self._preview.take(core, classes)

    def draw_tiles(self) -> None:
        """Draw the tiles that came since."""
        if not self._is_held:
            self._preview.draw()

    def close_preview(self) -> None:
        """Take away the tiles; the store shows the result."""
        self._preview.end()

    def _add_preview(self, values: NDArray[np.uint8]) -> Labels:
        self._preview.outlined = self._task is not None and self._task.kind == "objects"
        layer = self._add_overlay(values, "predicting", self._class_colors())
        layer.opacity = 0.8 if self._preview.outlined else AREA_OPACITY
        return layer

    # -- where the model is not sure ------------------------------------------------------------

    def show_unsure(self, region: Region, mask: NDArray[np.bool_]) -> None:
        """Hatch the places of a rectangle of the task's grid where the mask is True."""
        if self.slide is None:
            return
        values = hatched(mask, region.y, region.x)
        now = self._unsure.values
        if region != self._unsure.region or now is None or not np.array_equal(now, values):
            shape = grid_shape(slide_shape(self.slide), self._downsample)
            place = self._unsure.place(
                region, shape, lambda y, x: self._placing(self._downsample, y, x)
            )
            place[...] = values
            if not self._is_held:
                self._unsure.show()

    def close_unsure(self) -> None:
        """Hatch nothing."""
        self._unsure.hide()

    def _add_unsure(self, values: NDArray[np.uint8]) -> Labels:
        return self._add_overlay(values, "unsure", {None: None, 1: UNSURE_COLOR})

    def _add_overlay(
        self, values: NDArray[np.uint8], name: str, colors: Mapping[int | None, str | None]
    ) -> Labels:
        """Add a hidden layer on top; what was selected stays so."""
        active = self._viewer.layers.selection.active
        layer = self._viewer.add_labels(
            values,
            name=name,
            visible=False,
            colormap=colormap(colors),
            metadata={MINE: {PANEL: True}},
            **self._placing(self._downsample),
        )
        self._viewer.layers.selection.active = active
        return layer

    # -- editing --------------------------------------------------------------------------------

    def open_edit(
        self, region: Region, values: NDArray[np.uint16], colors: Mapping[int | None, str | None]
    ) -> Labels:
        """Make a rectangle of the task's grid editable; always a new layer, with its own history.

        ``values`` as in ``session.editing.EditWindow``.
        """
        self.close_edit()
        task = self._task
        name = "editing" if task is None else f"{task.name}: editing"
        layer = self._viewer.add_labels(
            values,
            name=name,
            colormap=colormap(colors),
            metadata={MINE: {PANEL: True}},
            **self._placing(self._downsample, region.y, region.x),
        )
        outlined = task is not None and task.kind == "objects"
        layer.contour = 1 if outlined else 0
        layer.opacity = 1.0 if outlined else AREA_OPACITY
        layer.n_edit_dimensions = 2
        self._hide(region)
        self.edit = layer
        self._viewer.layers.selection.active = layer
        return layer

    def arm(self, cursor: str, brush_size: int, *, pan: bool) -> None:
        """Prepare the edit window for a tool of ours: its cursor, and whether a drag pans."""
        layer = self.edit
        if layer is None:
            return
        # When napari hides its brush's circle the box behind it stays: a small black square at the
        # pointer's last place.
        self._viewer.canvas.overlays._brush_circle.box = False
        # In this mode napari itself does nothing to the pixels, and no double click zooms.
        layer.mode = "pick"
        layer.brush_size = brush_size
        layer.cursor = cursor
        layer.mouse_pan = pan

    def zoom_by_double_click(self, on: bool) -> None:
        """Whether a double click on the slide zooms, as napari has it, or ends an outline.

        While it does not, the slide is the selected layer, so that no other is painted on.
        """
        callbacks = self._viewer.mouse_double_click_callbacks
        if on and self._zooming is not None:
            callbacks.insert(0, self._zooming)  # behind the present one it would act at once
            self._zooming = None
        elif not on:
            for one in [one for one in callbacks if getattr(one, "__name__", "") == _ZOOM]:
                callbacks.remove(one)
                self._zooming = one
            if self.slide is not None:
                self._viewer.layers.selection.active = self.slide

    def paint(self, rows: NDArray[np.intp], columns: NDArray[np.intp], value: int) -> None:
        """Give pixels of the edit window a value and draw them."""
        if self.edit is not None and len(rows):
            self.edit.data_setitem((rows, columns), value)

    def put(self, values: NDArray[np.uint16], y: int, x: int) -> None:
        """Overwrite a rectangle of the edit window, from its row ``y`` and column ``x``."""
        layer = self.edit
        if layer is None:
            return
        part = layer.data[y : y + values.shape[0], x : x + values.shape[1]]
        rows, columns = np.nonzero(part != values)
        if len(rows) > _MANY:
            part[...] = values
            layer.refresh(extent=False)
        elif len(rows):
            layer.data_setitem((rows + y, columns + x), values[rows, columns])
        layer._reset_history()  # undo is ours; napari's keeps copies of every stroke

    def recolor(self, colors: Mapping[int | None, str | None]) -> None:
        """Give the values of the edit window new colours."""
        if self.edit is not None:
            self.edit.colormap = colormap(colors)

    # -- looking --------------------------------------------------------------------------------

    def hold_overlay(self, hide: bool) -> None:
        """Hide everything drawn on the slide, or show again what was hidden."""
        self._is_held = hide
        if hide:
            drawn = [layer for layer in self._all() if layer is not self.slide]
            self._held = [layer for layer in drawn if layer.visible]
        for layer in self._held:
            layer.visible = not hide
        if hide:
            return
        self._held = []
        for overlay in self._overlays:  # what came or went meanwhile
            overlay.show() if overlay.region is not None else overlay.hide()
