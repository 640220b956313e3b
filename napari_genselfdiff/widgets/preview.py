"""The tiles of a prediction that runs: taken in one by one, drawn once a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.commit import bounding_box
from napari_genselfdiff.widgets.outlines import OUTLINE_PIXELS, border

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.widgets.overlay import Overlay, Placing


class Preview:
    """Classes of the tiles that have come, drawn as outlines of objects or as areas.

    Parameters
    ----------
    overlay
        Where they are drawn.
    """

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.outlined = True
        self._classes = np.zeros((1, 1), np.uint8)
        self._lines = self._classes
        self._fresh: Region | None = None

    def begin(self, region: Region, shape: tuple[int, int], placing: Placing) -> None:
        """Get ready for the tiles of another prediction; see :meth:`Overlay.place`."""
        self._lines = self.overlay.place(region, shape, placing)
        self._classes = np.zeros(region.shape, np.uint8)
        self._fresh = None

    def take(self, core: Region, classes: NDArray[np.uint8]) -> None:
        """Take in a tile; ``classes`` has the shape of ``core``, in the same grid as the region."""
        region = self.overlay.region
        part = None if region is None else core.intersection(region)
        if region is None or part is None:
            return
        inside = part.shifted(-region.y, -region.x)
        self._classes[inside.slices] = classes[part.shifted(-core.y, -core.x).slices]
        self._fresh = inside if self._fresh is None else bounding_box([self._fresh, inside])

    def draw(self) -> None:
        """Draw the tiles that came since; outlines are traced again only around them."""
        region, fresh, self._fresh = self.overlay.region, self._fresh, None
        if region is None or fresh is None:
            return
        box = fresh.padded(OUTLINE_PIXELS).clipped(self._classes.shape) or fresh
        around = box.padded(OUTLINE_PIXELS).clipped(self._classes.shape) or box
        values = self._classes[around.slices]
        if self.outlined:
            values = np.where(border(values), values, 0).astype(np.uint8)
        inside = box.shifted(-around.y, -around.x).slices
        self._lines[box.slices] = values[inside]
        self.overlay.patch(box.shifted(region.y, region.x))

    def end(self) -> None:
        """Show nothing any more."""
        self._fresh = None
        self.overlay.hide()
