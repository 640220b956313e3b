"""The slide and what is annotated on it, as layers of napari.

Layers live in micrometres, so the scale bar is right; a slide of unknown size lives in pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN
from napari_genselfdiff.widgets.look import PROVENANCE
from napari_genselfdiff.widgets.outlines import UNSEEN, Hidden, checked_levels, shown_levels
from napari_genselfdiff.widgets.overlay import colormap, redraw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide
    from napari_genselfdiff.widgets.outlines import LevelView, Readable
    from napari_genselfdiff.widgets.overlay import Overlay

AREA_OPACITY: Final = 0.35
VEIL_COLOR: Final = "#000000A6"
"""Drawn over what is unknown, when asked for."""
_RIMS: Final[dict[int | None, str | None]] = {
    value: PROVENANCE[value] for value in (ACCEPTED, HUMAN)
}
MINE: Final = "genselfdiff"
PANEL: Final = "panel"  # says that the panel itself added a slide, not the reader


class ShownSlide:
    """Puts slide and annotations into a viewer, and out again.

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
        self._hidden_classes: frozenset[int] = frozenset()
        self._veiled, self._rims_shown = False, True
        self.slide: Image | None = None
        self.shown: Labels | None = None
        self.checked: Labels | None = None
        self.edit: Labels | None = None

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
                metadata={MINE: {"path": str(slide.path), PANEL: True}},
            )
            self.slide = layer
        else:
            self.slide = layer
            if slide.colors != "stored":
                self.show_colors(slide)
        self._mpp = slide.mpp
        size = 1.0 if slide.mpp is None else slide.mpp
        layer.scale = (size, size)
        layer.translate = (0.0, 0.0)
        layer.units = ("pixel" if slide.mpp is None else "micrometer",) * 2
        bar = self._viewer.canvas.overlays.scale_bar
        bar.visible = True
        bar.box = True  # legible on tissue and on glass
        return layer

    def show_colors(self, slide: Slide) -> None:
        """Show the same slide in the colours it is read with now; the view stays."""
        if self.slide is not None:
            levels = list(slide.levels)
            self.slide.data = levels if len(levels) > 1 else levels[0]

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
        mine = layer.metadata.get(MINE)
        path = mine.get("path") if isinstance(mine, dict) else None
        return str(path) if path else None

    @staticmethod
    def is_ours(layer: Layer) -> bool:
        """Tell whether our reader or panel made a layer, shown at present or not."""
        return MINE in layer.metadata

    def is_foreign_slide(self, layer: Layer) -> bool:
        """Tell whether our reader added a slide that the panel does not show yet."""
        mine = layer.metadata.get(MINE)
        return isinstance(mine, dict) and not mine.get(PANEL) and not self.owns(layer)

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
        self._task = None

    @property
    def _overlays(self) -> tuple[Overlay, ...]:
        """Pictures over the annotations, the lowest first."""
        return ()

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
            metadata={MINE: {PANEL: True}},
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
