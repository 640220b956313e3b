"""The outline of the tissue over the whole slide, as it will be segmented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_genselfdiff.prediction.plan import Tissue
    from napari_genselfdiff.widgets.layers import SlideLayers

COLOR: Final = "#E69F00"
_NAME: Final = "tissue"


class TissueOutline:
    """Shows and hides the outline; a layer of its own, never edited.

    Parameters
    ----------
    viewer, layers
        The viewer, and what the slide's layer is taken from.
    """

    def __init__(self, viewer: ViewerModel, layers: SlideLayers) -> None:
        self._viewer, self._layers = viewer, layers
        self.layer: Labels | None = None

    def show(self, tissue: Tissue) -> None:
        """Outline the tissue on the slide that is open."""
        slide = self._layers.slide
        if slide is None:
            return
        size = float(slide.scale[-1]) * tissue.downsample
        shift = float(slide.scale[-1]) * (tissue.downsample - 1) / 2  # centres, not corners
        values = tissue.mask.astype(np.uint8)
        if self.layer is not None and self.layer in self._viewer.layers:
            if self.layer.data.shape == values.shape:
                self.layer.data = values
                return
            self.hide()
        active = self._viewer.layers.selection.active
        self.layer = self._viewer.add_labels(
            values,
            name=_NAME,
            colormap=DirectLabelColormap(color_dict={None: None, 0: None, 1: COLOR}),
            scale=(size, size),
            translate=(shift, shift),
            units=slide.units,
            metadata={"genselfdiff": {"panel": True}},
        )
        self.layer.contour = 2
        self.layer.editable = False
        self._viewer.layers.selection.active = active

    def hide(self) -> None:
        """Take the outline away."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
