"""Label images over the slide that stay in the viewer and are only changed, shown and hidden.

Adding a layer to napari takes a window 0.1 s and removing one 0.2 s (it collects garbage), which is
too long for something that comes and goes with every prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.layers import Labels
    from numpy.typing import NDArray

    Colors = Mapping[int | None, str | None]
    Placing = Callable[[int, int], dict[str, Any]]

_STEP = 256  # sides of the picture are multiples of this: another view needs no other picture


class Overlay:
    """A picture of uint8 values that covers one rectangle of a grid at a time.

    Parameters
    ----------
    add
        Adds a layer with these values to the viewer; called at the first use.
    """

    def __init__(self, add: Callable[[NDArray[np.uint8]], Labels]) -> None:
        self._add = add
        self.layer: Labels | None = None
        self.region: Region | None = None
        self._corner = (0, 0)

    @property
    def values(self) -> NDArray[np.uint8] | None:
        """What is shown of ``region``, a view; None while hidden."""
        if self.layer is None or self.region is None:
            return None
        values: NDArray[np.uint8] = self.layer.data[self._inside(self.region)]
        return values

    def prepare(self, shape: tuple[int, int] = (_STEP, _STEP)) -> Labels:
        """Give the layer; the first time it is added, empty and hidden."""
        if self.layer is None:
            self.layer = self._add(np.zeros(shape, np.uint8))
            self.layer.editable = False
        return self.layer

    def place(self, region: Region, shape: tuple[int, int], placing: Placing) -> NDArray[np.uint8]:
        """Lay the picture over a region; it is all zeros, which :meth:`show` shows.

        Parameters
        ----------
        region
            Pixels of a grid of ``shape``.
        placing
            Gives scale and translation of the grid's pixel (y, x).

        Returns
        -------
        numpy.ndarray
            Values of the region, to be changed in place.
        """
        picture = _around(region, shape)
        layer = self.prepare(picture.shape)
        if layer.data.shape == picture.shape:
            layer.data[...] = 0
        else:
            layer.visible = False
            layer.data = np.zeros(picture.shape, np.uint8)
        self.region, self._corner = region, (picture.y, picture.x)
        place = placing(picture.y, picture.x)
        for name in ("scale", "translate"):  # each assignment makes napari draw anew
            if tuple(getattr(layer, name)) != tuple(place[name]):
                setattr(layer, name, place[name])
        values: NDArray[np.uint8] = layer.data[self._inside(region)]
        return values

    def show(self) -> None:
        """Show the whole picture as it is now."""
        if self.layer is None:
            return
        if self.layer.visible:
            redraw(self.layer)
        else:
            self.layer.visible = True

    def patch(self, box: Region) -> None:
        """Show what changed in a rectangle of the grid, inside ``region``."""
        if self.layer is None or self.region is None:
            return
        if not self.layer.visible:
            self.show()
            return
        rows, columns = self._inside(box)
        # The event napari's brush sends: only this part of the texture is loaded anew.
        changed = self.layer.data[rows, columns]
        self.layer.events.labels_update(data=changed, offset=(rows.start, columns.start))

    def forget(self) -> None:
        """Let go of a layer that is removed; the next use adds another."""
        self.layer = self.region = None

    def recolor(self, colors: Colors) -> None:
        """Draw the values in other colours."""
        if self.layer is not None:
            self.layer.colormap = colormap(colors)

    def hide(self) -> None:
        """Show nothing; the layer stays."""
        self.region = None
        if self.layer is not None and self.layer.visible:
            self.layer.visible = False

    def _inside(self, box: Region) -> tuple[slice, slice]:
        return box.shifted(-self._corner[0], -self._corner[1]).slices


def _around(region: Region, shape: tuple[int, int]) -> Region:
    """Rectangle for the picture: sides on multiples of a step, inside the grid where it fits."""
    sides, starts = [], []
    for start, size, limit in zip((region.y, region.x), region.shape, shape, strict=True):
        side = max(size, min(-(-size // _STEP) * _STEP, limit))
        sides.append(side)
        starts.append(max(start + size - side, min(start, limit - side)))
    return Region(starts[0], starts[1], sides[0], sides[1])


def redraw(layer: Labels) -> None:
    """Read and draw a layer again, its picture in napari's list left as it is.

    Painting that list takes longer than drawing the layer.
    """
    layer.refresh(extent=False, thumbnail=False, highlight=False)


def colormap(colors: Colors) -> DirectLabelColormap:
    """Colours by value; None as a key stands for every other value, as a colour for none."""
    clear = (0.0, 0.0, 0.0, 0.0)
    table: dict[int | None, Any] = {0: clear}
    table.update({value: clear if color is None else color for value, color in colors.items()})
    table.setdefault(None, clear)
    return DirectLabelColormap(color_dict=table)
