"""A table of all objects of a task as CSV."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.exchange.shapes import shapes
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.annotation.exchange.shapes import Shape
    from napari_genselfdiff.annotation.store import AnnotationStore

COLUMNS = (
    "id",
    "class",
    "centroid_y",
    "centroid_x",
    "area_um2",
    "model_share",
    "accepted_share",
    "human_share",
)
_ROWS = 10_000  # written at once


def write_table(store: AnnotationStore, task_name: str, path: Path) -> int:
    """Write a row for every object (for areas: every connected area, without an id).

    Centroids are level-0 pixels, the centre of the slide's first pixel being (0, 0); shares are
    of the object's pixels, 0..1.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ConfigError
        If the task is unknown.
    StoreError
        If the file cannot be written; an older one is then still there.
    """
    import pandas as pd

    if task_name not in store.tasks:
        raise ConfigError(f"no task {task_name!r} to export, only {sorted(store.tasks)}")
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    rows, number = (_row(store, task_name, shape) for shape in shapes(store, task_name)), 0
    with disk_errors(f"write {path}"):
        try:
            pd.DataFrame(columns=list(COLUMNS)).to_csv(partial, index=False)
            while batch := list(islice(rows, _ROWS)):
                number += len(batch)
                table = pd.DataFrame(batch, columns=list(COLUMNS))
                table.to_csv(partial, index=False, header=False, mode="a")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return number


def _row(store: AnnotationStore, task_name: str, shape: Shape) -> tuple[object, ...]:
    downsample = store.downsample(task_name)
    names = {spec.value: spec.name for spec in store.tasks[task_name].classes}
    centroid = ((c + 0.5) * downsample - 0.5 for c in shape.centroid)
    total = max(sum(shape.provenance), 1)
    return (
        shape.id or None,
        names[shape.value],
        *(round(c, 2) for c in centroid),
        round(shape.pixels * (store.mpp * downsample) ** 2, 4),
        *(round(pixels / total, 4) for pixels in shape.provenance),
    )
