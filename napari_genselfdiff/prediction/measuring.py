"""Everything that is measured of a task: its objects, its classes, the slide and its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.object_table import ObjectTable, joined, object_tables
from napari_genselfdiff.annotation.places import Place, measure_places
from napari_genselfdiff.prediction.plan import find_tissue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.slide import Slide


@dataclass(frozen=True, slots=True)
class MeasuringDone:
    """How far it is: share of the objects, 0..1, and the expected rest in seconds."""

    share: float
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a task amounts to; ``places`` begins with the whole slide."""

    task: str
    table: ObjectTable
    places: tuple[Place, ...]
    seconds: float


def measure_task(
    store: AnnotationStore,
    task_name: str,
    slide: Slide | None,
    *,
    threshold: float | None = None,
    stains: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[MeasuringDone | Measured]:
    """Measure a task; the last thing given is :class:`Measured`, unless it was stopped.

    Parameters
    ----------
    slide
        Where tissue and stains are measured; without it what refers to them is not known.
    threshold
        Optical density above which it is tissue; None finds it.
    stains
        Whether the slide is read for the densities of stains, which takes longest.
    should_stop
        Asked after every part of the slide.

    Raises
    ------
    ConfigError
        If the task is unknown.
    """
    start, rois = time.perf_counter(), store.rois
    objects = sum(store.summary(task_name)["objects"].values())
    tables, done = [], 0
    yield MeasuringDone(0.0, None)
    for table in object_tables(store, task_name, slide=slide if stains else None, rois=rois):
        tables.append(table)
        done += len(table)
        if should_stop():
            return
        if objects:
            share = min(done / objects, 1.0)
            spent = time.perf_counter() - start
            yield MeasuringDone(share, spent / share * (1 - share) if share else None)
    tissue = None if slide is None else find_tissue(slide, threshold)
    whole = joined(tables, tuple(roi.name for roi in rois))
    places = measure_places(store, task_name, rois, whole, tissue, should_stop)
    if not should_stop():
        yield Measured(task_name, whole, places, time.perf_counter() - start)
