"""What is measured of objects and areas: form, stain, how sure the model was of an object."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.annotation.forms import (
    circularities,
    eccentricities,
    eccentricity,
    perimeter_inside,
    perimeters,
    stain_densities,
)
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.exchange.shapes import Measurer
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.slide import Slide

MEASURED: Final = (
    "perimeter_um",
    "circularity",
    "eccentricity",
    "haematoxylin_od",
    "eosin_od",
    "confidence",
)
"""Columns of what :func:`object_measurer` measures; NaN where something is not known."""


def object_measurer(store: AnnotationStore, task_name: str, slide: Slide | None) -> Measurer:
    """Measure the columns of :data:`MEASURED`; densities of stains are NaN without the slide."""
    downsample = store.downsample(task_name)
    pixel_um = store.mpp * downsample

    def measured(
        region: Region, ids: NDArray[np.uint32], codes: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        n = len(ids)
        lengths = perimeters(codes, n)
        areas = np.bincount(codes.ravel(), minlength=n).astype(np.float64)
        columns = [lengths * pixel_um, circularities(areas, lengths), eccentricities(codes, n)]
        if slide is None:
            columns += [np.full(n, np.nan)] * 2
        else:
            columns += _stains(slide, region, codes, n, downsample)
        columns.append(store.object_confidences(task_name, ids))
        return np.stack(columns, axis=1)

    return measured


def _stains(
    slide: Slide, region: Region, codes: NDArray[np.intp], n: int, downsample: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Densities of stains; only as much of the slide is read as holds any of the objects."""
    rows, columns = np.flatnonzero(codes.any(axis=1)), np.flatnonzero(codes.any(axis=0))
    if not len(rows):
        return np.zeros(n), np.zeros(n)
    box = Region.from_bounds(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    rgb = slide.read(box.shifted(region.y, region.x), downsample)
    return stain_densities(rgb, codes[box.slices], n)


EDGE: Final = 2
"""Pixels around a part of an area that decide on the length of the border inside."""


def area_forms(
    store: AnnotationStore, task_name: str, slide: Slide | None
) -> Callable[[], AreaForm]:
    """Give what makes an :class:`AreaForm` for an area; stains are NaN without the slide."""
    downsample = store.downsample(task_name)

    def read(region: Region) -> NDArray[np.uint8]:
        assert slide is not None
        return slide.read(region, downsample)

    pixel_um = store.mpp * downsample
    return lambda: AreaForm(pixel_um, None if slide is None else read)


class AreaForm:
    """Form and stain of one area, put together from its parts; it may be as large as the slide.

    Parameters
    ----------
    pixel_um
        Side of a pixel of the grid.
    read
        Gives the slide's pixels in a region of the grid; None if the slide is not there.
    """

    def __init__(self, pixel_um: float, read: Callable[[Region], NDArray[np.uint8]] | None) -> None:
        self._pixel_um, self._read = pixel_um, read
        self._length, self._stains = 0.0, np.zeros(2)
        self._moments = np.zeros(6)  # of 1, y, x, yy, xx, xy about the first part's corner
        self._corner: tuple[int, int] | None = None

    def add(self, part: Region, mask: NDArray[np.bool_]) -> None:
        """Take in a part: which pixels of it, with EDGE more on each side, are of the area."""
        self._length += perimeter_inside(mask, EDGE)
        inside = mask[EDGE:-EDGE, EDGE:-EDGE]
        if self._corner is None:
            self._corner = part.y, part.x
        rows, columns = np.nonzero(inside)
        if not len(rows):
            return
        y = (rows + (part.y - self._corner[0])).astype(np.float64)
        x = (columns + (part.x - self._corner[1])).astype(np.float64)
        self._moments += [len(y), y.sum(), x.sum(), y @ y, x @ x, y @ x]
        if self._read is not None:
            means = stain_densities(self._read(part), inside.astype(np.intp), 2)
            self._stains += len(y) * np.array([mean[1] for mean in means])

    def row(self) -> tuple[float, ...]:
        """Columns of :data:`MEASURED`; no model says how sure it is of an area."""
        n, y, x, yy, xx, xy = self._moments / max(self._moments[0], 1)
        pixels = self._moments[0]
        if not n:
            return (nan,) * len(MEASURED)
        spread = (np.array([value]) for value in (yy - y * y, xx - x * x, xy - x * y))
        round_ = circularities(np.array([pixels]), np.array([self._length]))
        stains = (nan, nan) if self._read is None else self._stains / pixels
        return (
            self._length * self._pixel_um,
            float(round_[0]),
            float(eccentricity(*spread)[0]),
            float(stains[0]),
            float(stains[1]),
            nan,
        )
