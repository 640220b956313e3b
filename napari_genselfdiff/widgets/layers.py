"""The only code that touches napari's layers: the slide, what is annotated, what is being edited.

Layers live in micrometres, so the scale bar is right; a slide of unknown size lives in pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN
from napari_genselfdiff.slides.geometry import grid_shape
from napari_genselfdiff.widgets.hatching import UNSURE_COLOR, hatched
from napari_genselfdiff.widgets.look import PROVENANCE
from napari_genselfdiff.widgets.outlines import UNSEEN, Hidden, checked_levels, shown_levels
from napari_genselfdiff.widgets.overlay import Overlay, colormap, redraw
from napari_genselfdiff.widgets.preview import Preview
from napari_genselfdiff.widgets.view import slide_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide
    from napari_genselfdiff.widgets.outlines import LevelView, Readable

AREA_OPACITY: Final = 0.35
VEIL_COLOR: Final = "#000000A6"
"""Drawn over what is unknown, when asked for."""
_RIMS: Final[dict[int | None, str | None]] = {
    value: PROVENANCE[value] for value in (ACCEPTED, HUMAN)
}
_MANY: Final = 100_000  # pixels; more than this are drawn by drawing everything
_MINE: Final = "genselfdiff"
_PANEL: Final = "panel"  # says that the panel itself added a slide, not the reader


class SlideLayers:
    """Puts slide, annotations, previews and the edit window into a viewer, and out again.

    Parameters
    ----------
    viewer
        napari's viewer or a ``ViewerModel``.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._hidden = [Hidden()]
        self._mpp: float | None = None
        self._task: TaskSpec | None = None
        self._downsample = 1
        self._held: list[Layer] = []
        self._hidden_classes: frozenset[int] = frozenset()
        self._veiled, self._rims_shown = False, True
        self._is_held = False
        self.slide: Image | None = None
        self.shown: Labels | None = None
        self.checked: Labels | None = None
        self.edit: Labels | None = None
        self._preview = Preview(Overlay(self._add_preview))
        self._unsure = Overlay(self._add_unsure)

    @property
    def preview(self) -> Labels | None:
        """The tiles of a running prediction, once one has come."""
        overlay = self._preview.overlay
        return None if overlay.region is None else overlay.layer

    @property
    def unsure(self) -> Labels | None:
        """The hatching, while there is one."""
        return None if self._unsure.region is None else self._unsure.layer

    # -- the slide ------------------------------------------------------------------------------

    def show_slide(self, slide: Slide, layer: Image | None = None) -> Image:
        """Add the slide, or take over a layer that already shows it."""
        self.clear()
        if layer is None:
            levels = list(slide.levels)
            layer = self._viewer.add_image(
                levels if len(levels) > 1 else levels[0],
                name=slide.path.name,
                rgb=True,
                multiscale=len(levels) > 1,
                interpolation2d="linear",
                metadata={_MINE: {"path": str(slide.path), _PANEL: True}},
            )
        self.slide = layer
        self._mpp = slide.mpp
        size = 1.0 if slide.mpp is None else slide.mpp
        layer.scale = (size, size)
        layer.translate = (0.0, 0.0)
        layer.units = ("pixel" if slide.mpp is None else "micrometer",) * 2
        bar = self._viewer.canvas.overlays.scale_bar
        bar.visible = True
        bar.box = True  # legible on tissue and on glass
        return layer

    def shows(self, slide: Slide) -> bool:
        """Tell whether the slide's layer is there already, with its size."""
        return (
            self.slide is not None
            and self.path_of(self.slide) == str(slide.path)
            and self._mpp == slide.mpp
        )

    @staticmethod
    def path_of(layer: Layer) -> str | None:
        """File of a slide's layer that our reader or panel made."""
        mine = layer.metadata.get(_MINE)
        path = mine.get("path") if isinstance(mine, dict) else None
        return str(path) if path else None

    @staticmethod
    def is_ours(layer: Layer) -> bool:
        """Tell whether our reader or panel made a layer, shown at present or not."""
        return _MINE in layer.metadata

    def is_foreign_slide(self, layer: Layer) -> bool:
        """Tell whether our reader added a slide that the panel does not show yet."""
        mine = layer.metadata.get(_MINE)
        return isinstance(mine, dict) and not mine.get(_PANEL) and not self.owns(layer)

    def owns(self, layer: Layer) -> bool:
        """Tell whether a layer is one of ours."""
        return any(layer is mine for mine in self._all())

    def forget(self, layer: Layer) -> bool:
        """Let go of a layer that was removed by hand; True if it was the slide."""
        was_slide = layer is self.slide
        for name in ("slide", "shown", "checked", "edit"):
            if getattr(self, name) is layer:
                setattr(self, name, None)
        for overlay in self._overlays:
            if overlay.layer is layer:
                overlay.forget()
        return was_slide

    def clear(self) -> None:
        """Remove every layer of ours."""
        layers = self._all()
        # Let go first: what is removed from here on was not removed by hand.
        self.slide = self.shown = self.checked = self.edit = None
        for overlay in self._overlays:
            overlay.forget()
        for layer in reversed(layers):
            self._remove(layer)
        self._hidden[0] = Hidden()
        self._task, self._held = None, []

    @property
    def _overlays(self) -> tuple[Overlay, Overlay]:
        return self._unsure, self._preview.overlay

    def _all(self) -> list[Layer]:
        overlays = [overlay.layer for overlay in self._overlays]
        layers = (self.slide, self.checked, self.shown, *overlays, self.edit)
        return [layer for layer in layers if layer is not None]

    def _remove(self, layer: Layer | None) -> None:
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    # -- what is annotated ----------------------------------------------------------------------

    def show_annotations(
        self,
        task: TaskSpec,
        downsample: int,
        classes: Sequence[Readable],
        objects: Sequence[Readable] | None,
        provenance: Sequence[Readable],
    ) -> None:
        """Show a task's annotations over the whole slide, read only where looked at."""
        self.hide_annotations()
        if self._task is None or self._task.name != task.name:
            self._hidden_classes = frozenset()
        self._task, self._downsample = task, downsample
        checked = checked_levels(provenance)
        self.checked = self._add_levels(
            checked, f"{task.name}: checked by you", self._checked_colors()
        )
        self.checked.opacity = 1.0
        shown = shown_levels(classes, objects, self._hidden)
        self.shown = self._add_levels(shown, task.name, self._class_colors())
        self.shown.opacity = 1.0 if objects is not None else AREA_OPACITY
        self._select_slide()

    @property
    def hidden_classes(self) -> frozenset[int]:
        """Classes of the task that are not drawn; what is stored stays."""
        return self._hidden_classes

    def hide_classes(self, values: frozenset[int]) -> None:
        """Draw all classes but these."""
        self._hidden_classes = values
        if self.shown is not None:
            self.shown.colormap = colormap(self._class_colors())
        self._preview.overlay.recolor(self._class_colors())

    def veil_unknown(self, is_on: bool) -> None:
        """Darken what is unknown, so that what was looked at, background too, stands out."""
        self._veiled = is_on
        self._color_checked()

    def show_rims(self, is_on: bool) -> None:
        """Draw the lines around what was checked, or not."""
        self._rims_shown = is_on
        self._color_checked()

    def _color_checked(self) -> None:
        if self.checked is not None:
            self.checked.colormap = colormap(self._checked_colors())

    def _class_colors(self) -> dict[int | None, str | None]:
        classes = () if self._task is None else self._task.classes
        hidden = self._hidden_classes
        return {None: None, **{c.value: None if c.value in hidden else c.color for c in classes}}

    def _checked_colors(self) -> dict[int | None, str | None]:
        veil = VEIL_COLOR if self._veiled else None
        return {None: None, UNSEEN: veil, **(_RIMS if self._rims_shown else {})}

    def hide_annotations(self) -> None:
        """Show the slide alone."""
        self.close_edit()
        layers = [self.shown, self.checked, *(overlay.layer for overlay in self._overlays)]
        self.shown = self.checked = None
        for overlay in self._overlays:  # layers are drawn in their order: these come last
            overlay.forget()
        for layer in layers:
            self._remove(layer)

    def refresh_annotations(self) -> None:
        """Show what the store holds now."""
        for layer in (self.shown, self.checked):
            if layer is not None:
                layer._reset_thumbnail_level_data()  # napari keeps the coarsest level as it was
                redraw(layer)

    def _add_levels(
        self, levels: Sequence[LevelView], name: str, colors: Mapping[int | None, str | None]
    ) -> Labels:
        layer = self._viewer.add_labels(
            list(levels),
            multiscale=True,
            name=name,
            colormap=colormap(colors),
            metadata={_MINE: {_PANEL: True}},
            **self._placing(self._downsample / levels[0].repeat),
        )
        layer.editable = False
        return layer

    def _placing(self, downsample: float, y: float = 0, x: float = 0) -> dict[str, Any]:
        """Place pixel (y, x) of a grid whose pixel i covers level-0 pixels [i d, (i + 1) d)."""
        size = 1.0 if self._mpp is None else self._mpp
        shift = (downsample - 1) / 2  # napari places pixel centres, grids share their corner
        return {
            "scale": (size * downsample,) * 2,
            "translate": (size * (y * downsample + shift), size * (x * downsample + shift)),
            "units": self.slide.units if self.slide is not None else None,
        }

    def _select_slide(self) -> None:
        if self.slide is not None:
            self._viewer.layers.selection.active = self.slide

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
            metadata={_MINE: {_PANEL: True}},
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
            metadata={_MINE: {_PANEL: True}},
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
        # In this mode napari itself does nothing to the pixels, and no double click zooms.
        layer.mode = "pick"
        layer.brush_size = brush_size
        layer.cursor = cursor
        layer.mouse_pan = pan

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

    def close_edit(self) -> None:
        """Take the edit window away; the caller has saved it."""
        if self.edit is None:
            return
        layer, self.edit = self.edit, None
        self._hide(None)
        self._remove(layer)
        self._select_slide()

    def _hide(self, region: Region | None) -> None:
        self._hidden[0] = Hidden(region)
        if self.shown is not None:
            self.shown.refresh(extent=False)

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
