"""What is measured of every object: form, stain, and how sure the model was that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.annotation.forms import (
    circularities,
    eccentricities,
    perimeters,
    stain_densities,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.exchange.shapes import Measurer
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region
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
            columns += stain_densities(slide.read(region, downsample), codes, n)
        columns.append(store.object_confidences(task_name, ids))
        return np.stack(columns, axis=1)

    return measured
