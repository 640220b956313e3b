"""All objects of a task as columns of numbers; for areas, every connected area."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.annotation.exchange.measured import MEASURED, area_forms, object_measurer
from napari_genselfdiff.annotation.exchange.shapes import object_stats, shapes
from napari_genselfdiff.annotation.exchange.watching import nobody

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.exchange.watching import Watch
    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.slide import Slide

    Column = NDArray[np.float64]

SHARES: Final = ("model_share", "accepted_share", "human_share")
NUMBERS: Final = ("centroid_y", "centroid_x", "area_um2", *SHARES, *MEASURED)
"""Columns of numbers. Centroids are level-0 pixels (the first one's centre is 0), shares 0..1."""
_AREAS: Final = 1000  # connected areas put together


@dataclass(frozen=True)
class ObjectTable:
    """A row an object.

    Parameters
    ----------
    ids, values
        Object ids (0 for areas) and class values, ``(n,)`` uint32 and uint8.
    numbers
        By name, see :data:`NUMBERS`, ``(n,)`` float64; NaN where something is not known.
    roi_names, inside
        Regions of interest, and which of them hold the centroid, ``(n, r)`` bool.
    """

    ids: NDArray[np.uint32]
    values: NDArray[np.uint8]
    numbers: Mapping[str, Column]
    roi_names: tuple[str, ...]
    inside: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)

    def chosen(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> ObjectTable:
        """Some of the rows."""
        numbers = {name: column[rows] for name, column in self.numbers.items()}
        return ObjectTable(
            self.ids[rows], self.values[rows], numbers, self.roi_names, self.inside[rows]
        )

    def in_roi(self, name: str) -> NDArray[np.bool_]:
        """Which rows lie in a region of interest of the table."""
        return np.asarray(self.inside[:, self.roi_names.index(name)])


def object_tables(
    store: AnnotationStore,
    task_name: str,
    *,
    slide: Slide | None = None,
    rois: Sequence[Roi] = (),
    within: Roi | None = None,
    watch: Watch = nobody,
) -> Iterator[ObjectTable]:
    """Measure every object of a task once, a part of the slide at a time.

    Parameters
    ----------
    slide
        Where the densities of stains are measured; they are NaN without it.
    rois
        Regions of interest for which is told what lies inside.
    within
        Objects whose centroid lies outside this one are left out, areas are cut at its border.
    watch
        Hears how far it is.
    """
    if store.tasks[task_name].kind == "areas":
        yield from _areas(store, task_name, slide, rois, within, watch)
        return
    downsample = store.downsample(task_name)
    measurer = object_measurer(store, task_name, slide)
    for stats in object_stats(store, task_name, measurer, watch):
        columns = [
            (stats.rows + 0.5) * downsample - 0.5,
            (stats.columns + 0.5) * downsample - 0.5,
            stats.pixels * (store.mpp * downsample) ** 2,
            *_shares(stats.sources).T,
            *stats.measured.T,
        ]
        table = _table(stats.ids, stats.values, columns, rois)
        if within is not None:
            places = table.numbers["centroid_y"], table.numbers["centroid_x"]
            table = table.chosen(within.holds(*places))
        yield table


def _areas(
    store: AnnotationStore,
    task_name: str,
    slide: Slide | None,
    rois: Sequence[Roi],
    within: Roi | None,
    watch: Watch,
) -> Iterator[ObjectTable]:
    """Connected areas, which have no ids, and of which no model says how sure it is."""
    downsample = store.downsample(task_name)
    new_form = area_forms(store, task_name, slide)
    found = shapes(store, task_name, new_form=new_form, within=within, watch=watch)
    while batch := list(islice(found, _AREAS)):
        places = np.array([shape.centroid for shape in batch])
        columns = [
            *((places + 0.5) * downsample - 0.5).T,
            np.array([shape.pixels for shape in batch]) * (store.mpp * downsample) ** 2,
            *_shares(np.array([shape.provenance for shape in batch])).T,
            *np.array([shape.measured for shape in batch]).T,
        ]
        values = np.array([shape.value for shape in batch], np.uint8)
        yield _table(np.zeros(len(batch), np.uint32), values, columns, rois)


def joined(tables: Sequence[ObjectTable], roi_names: tuple[str, ...] = ()) -> ObjectTable:
    """Give one table of several; ``roi_names`` are those of an empty one."""
    if not tables:
        nothing = {name: np.empty(0) for name in NUMBERS}
        empty = np.empty(0, np.uint32), np.empty(0, np.uint8), nothing
        return ObjectTable(*empty, roi_names, np.empty((0, len(roi_names)), bool))
    return ObjectTable(
        np.concatenate([table.ids for table in tables]),
        np.concatenate([table.values for table in tables]),
        {name: np.concatenate([table.numbers[name] for table in tables]) for name in NUMBERS},
        tables[0].roi_names,
        np.concatenate([table.inside for table in tables]),
    )


def _table(
    ids: NDArray[np.uint32],
    values: NDArray[np.uint8],
    columns: Sequence[NDArray[np.float64]],
    rois: Sequence[Roi],
) -> ObjectTable:
    numbers = dict(zip(NUMBERS, columns, strict=True))
    inside = np.zeros((len(ids), len(rois)), bool)
    for number, roi in enumerate(rois):
        inside[:, number] = roi.holds(numbers["centroid_y"], numbers["centroid_x"])
    return ObjectTable(ids, values, numbers, tuple(roi.name for roi in rois), inside)


def _shares(sources: NDArray[np.intp]) -> NDArray[np.float64]:
    """Shares of the pixels that are MODEL, ACCEPTED and HUMAN, (n, 3)."""
    total = np.maximum(sources.sum(axis=1, keepdims=True), 1)
    return np.asarray(sources / total)
