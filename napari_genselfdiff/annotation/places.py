"""How much of each class there is on the slide and in each region of interest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from napari_genselfdiff.annotation.pyramid import split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.object_table import ObjectTable
    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.annotation.store import AnnotationStore

WHOLE: Final = "Whole slide"
_BLOCK: Final = 2048


class TissueMap(Protocol):
    """Where the tissue is: a mask on the grid of a downsample."""

    @property
    def mask(self) -> NDArray[np.bool_]: ...
    @property
    def downsample(self) -> float: ...


@dataclass(frozen=True, slots=True)
class ClassInPlace:
    """One class in one place; None where something is not known or cannot be.

    ``of_tissue`` and ``of_place`` are shares, 0..1; ``per_mm2_tissue`` and ``per_mm2`` are objects
    per mm², of tissue and of the place.
    """

    name: str
    area_mm2: float
    of_tissue: float | None
    of_place: float | None
    objects: int | None
    per_mm2_tissue: float | None
    per_mm2: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """The slide as far as anything is known of it, or a region of interest.

    ``area_mm2`` is, of the whole slide, what is annotated (background included); of a region of
    interest all of it that lies on the slide. ``known`` is the share of the place anything is
    known of, 0..1, which is 1 for the whole slide. ``tissue_mm2`` is None where nobody looked for
    tissue.
    """

    name: str
    area_mm2: float
    tissue_mm2: float | None
    known: float
    classes: tuple[ClassInPlace, ...]


def measure_places(
    store: AnnotationStore,
    task_name: str,
    rois: Sequence[Roi],
    table: ObjectTable | None,
    tissue: TissueMap | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Place, ...]:
    """Measure the slide, and each region of interest.

    Parameters
    ----------
    table
        The task's objects with these regions of interest, by which they are counted there; an
        object belongs to where its centroid is. None counts none.
    tissue
        Of the slide; None leaves out what refers to it.
    should_stop
        Asked before every block; the rest is left out when it says yes.
    """
    places = [_whole(store, task_name, tissue)]
    for roi in rois:
        if should_stop():
            break
        places.append(_in_roi(store, task_name, roi, table, tissue))
    return tuple(places)


def _whole(store: AnnotationStore, task_name: str, tissue: TissueMap | None) -> Place:
    summary = store.summary(task_name)
    known = sum(summary["pixels"].values()) - summary["pixels"]["unknown"]
    slide_mm2 = store.slide.height * store.slide.width * (store.mpp / 1000) ** 2
    tissue_mm2 = None if tissue is None else float(tissue.mask.mean()) * slide_mm2
    pixel_mm2 = (store.mpp * store.downsample(task_name) / 1000) ** 2
    objects = summary["objects"] if store.tasks[task_name].kind == "objects" else None
    return _place(WHOLE, known * pixel_mm2, tissue_mm2, 1.0, pixel_mm2, summary["classes"], objects)


def _in_roi(
    store: AnnotationStore,
    task_name: str,
    roi: Roi,
    table: ObjectTable | None,
    tissue: TissueMap | None,
) -> Place:
    task, pixel_um = store.tasks[task_name], store.mpp * store.downsample(task_name)
    pixels, known = _count(store, task_name, roi)
    names = {spec.name: int(pixels[spec.value]) for spec in task.classes}
    objects = None
    if task.kind == "objects" and table is not None:
        values = np.bincount(table.values[table.in_roi(roi.name)], minlength=256)
        objects = {spec.name: int(values[spec.value]) for spec in task.classes}
    area = roi.area((store.slide.height, store.slide.width)) * (store.mpp / 1000) ** 2
    pixel_mm2 = (pixel_um / 1000) ** 2
    covered = min(known * pixel_mm2 / area, 1.0) if area else 0.0
    inside = None if tissue is None else min(_tissue_mm2(roi, tissue, store.mpp), area)
    return _place(roi.name, area, inside, covered, pixel_mm2, names, objects)


def _count(store: AnnotationStore, task_name: str, roi: Roi) -> tuple[NDArray[np.int64], int]:
    """Pixels of each class value (256,), and pixels anything is known of, inside."""
    downsample = store.downsample(task_name)
    reach = roi.region0.to_grid(downsample).clipped(store.shape(task_name))
    pixels, known = np.zeros(256, np.int64), 0
    for block in store.annotated_blocks(task_name, _BLOCK):
        part = None if reach is None else block.intersection(reach)
        mask = None if part is None else roi.mask(part, downsample)
        if part is None or mask is None:
            continue
        window = store.read(task_name, part)
        inside = mask & (window.provenance > 0)
        pixels += np.bincount(window.classes[inside], minlength=256)
        known += int(inside.sum())
    return pixels, known


def _tissue_mm2(roi: Roi, tissue: TissueMap, mpp: float) -> float:
    reach = roi.region0.to_grid(tissue.downsample).clipped(tissue.mask.shape)
    total = 0
    for block in [] if reach is None else split(reach, _BLOCK):
        mask = roi.mask(block, tissue.downsample)
        if mask is not None:
            total += int((mask & tissue.mask[block.slices]).sum())
    return total * (mpp * tissue.downsample / 1000) ** 2


def _place(
    name: str,
    area_mm2: float,
    tissue_mm2: float | None,
    known: float,
    pixel_mm2: float,
    pixels: Mapping[str, int],
    objects: Mapping[str, int] | None,
) -> Place:
    rows = []
    for class_name, n in pixels.items():
        area, count = n * pixel_mm2, None if objects is None else objects.get(class_name, 0)
        rows.append(
            ClassInPlace(
                class_name,
                area,
                _share(area, tissue_mm2),  # above 1 where the tissue was not all found
                _share(min(area, area_mm2), area_mm2),
                count,
                _per(count, tissue_mm2),
                _per(count, area_mm2),
            )
        )
    return Place(name, area_mm2, tissue_mm2, known, tuple(rows))


def _share(part: float, whole: float | None) -> float | None:
    return None if not whole else part / whole


def _per(count: int | None, area_mm2: float | None) -> float | None:
    return None if count is None or not area_mm2 else count / area_mm2
