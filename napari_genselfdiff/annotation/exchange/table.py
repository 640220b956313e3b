"""A table of all objects of a task as CSV or Parquet."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.exchange.origin import Frame, frame_offset, origin
from napari_genselfdiff.annotation.exchange.shapes import shapes
from napari_genselfdiff.annotation.forms import (
    circularities,
    eccentricities,
    perimeters,
    stain_densities,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.exchange.shapes import Measurer, Shape
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

COLUMNS = (
    "id",
    "class",
    "centroid_y",
    "centroid_x",
    "area_um2",
    "model_share",
    "accepted_share",
    "human_share",
    "perimeter_um",
    "circularity",
    "eccentricity",
    "haematoxylin_od",
    "eosin_od",
    "mpp",
    "mpp_assumed",
    "models",
    "app",
    "checked_by",
)
_ROWS = 10_000  # written at once
_TYPES = {
    "id": "UInt32",
    "class": "string",
    "mpp_assumed": "bool",
    "models": "string",
    "app": "string",
    "checked_by": "string",
}


def write_table(
    store: AnnotationStore,
    task_name: str,
    path: Path,
    *,
    frame: Frame = "level0",
    bounds: Region | None = None,
    slide: Slide | None = None,
) -> int:
    """Write a row for every object (for areas: every connected area, without id and form).

    A name ending in ``.parquet`` gives Parquet, with everything on its origin in the file's own
    metadata under ``genselfdiff``; any other CSV. Centroids are level-0 pixels, the centre of the
    slide's first pixel being (0, 0); shares are of the object's pixels, 0..1; perimeter,
    circularity and eccentricity as scikit-image has them.

    Parameters
    ----------
    frame, bounds
        ``qupath`` counts pixels from the corner of the slide's ``bounds`` (None: the slide's).
    slide
        Where the mean optical densities of haematoxylin and eosin are measured; empty if None.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ConfigError
        If the task or the frame is unknown.
    StoreError
        If the file cannot be written; an older one is then still there.
    """
    offset = frame_offset(frame, bounds)
    about, number = origin(store, task_name, frame=frame, offset=offset), 0
    measurer = _measurer(store, task_name, slide)
    rows = (_row(store, task_name, s, about) for s in shapes(store, task_name, measurer))
    with disk_errors(f"write {path}"), _new_table(path, about) as write:
        while batch := list(islice(rows, _ROWS)):
            number += len(batch)
            write(_frame(batch))
    return number


@contextmanager
def _new_table(path: Path, about: dict[str, Any]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write tables one below the other into a file that appears when it is complete."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    write_all = _parquet if path.suffix.lower() == ".parquet" else _csv
    try:
        with write_all(partial, about) as write:
            yield write
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _csv(path: Path, _about: dict[str, Any]) -> Iterator[Callable[[pd.DataFrame], None]]:
    _frame([]).to_csv(path, index=False)
    yield lambda table: table.to_csv(path, index=False, header=False, mode="a")


@contextmanager
def _parquet(path: Path, about: dict[str, Any]) -> Iterator[Callable[[pd.DataFrame], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.Schema.from_pandas(_frame([]), preserve_index=False)
    schema = schema.with_metadata({**(schema.metadata or {}), b"genselfdiff": json.dumps(about)})
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda table: writer.write_table(
            pa.Table.from_pandas(table, schema=schema, preserve_index=False)
        )


def _frame(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({name: _TYPES.get(name, "float64") for name in COLUMNS})


def _measurer(store: AnnotationStore, task_name: str, slide: Slide | None) -> Measurer:
    """Measure perimeter (µm), circularity, eccentricity and the two stains of each object."""
    downsample = store.downsample(task_name)
    pixel_um = store.mpp * downsample

    def measured(region: Region, codes: NDArray[np.intp], n: int) -> NDArray[np.float64]:
        lengths = perimeters(codes, n)
        areas = np.bincount(codes.ravel(), minlength=n).astype(np.float64)
        columns = [lengths * pixel_um, circularities(areas, lengths), eccentricities(codes, n)]
        if slide is None:
            columns += [np.full(n, np.nan)] * 2
        else:
            columns += stain_densities(slide.read(region, downsample), codes, n)
        return np.stack(columns, axis=1)

    return measured


def _row(
    store: AnnotationStore, task_name: str, shape: Shape, about: dict[str, Any]
) -> tuple[object, ...]:
    downsample = store.downsample(task_name)
    names = {spec.value: spec.name for spec in store.tasks[task_name].classes}
    places = zip(shape.centroid, reversed(about["offset"]), strict=True)  # the offset is (x, y)
    centroid = ((c + 0.5) * downsample - 0.5 - corner for c, corner in places)
    total = max(sum(shape.provenance), 1)
    return (
        shape.id or None,
        names[shape.value],
        *(round(c, 2) for c in centroid),
        round(shape.pixels * (store.mpp * downsample) ** 2, 4),
        *(round(pixels / total, 4) for pixels in shape.provenance),
        *(round(value, 4) for value in shape.measured or (np.nan,) * 5),
        store.mpp,
        store.mpp_assumed,
        " ".join(about["models"]),
        f"{about['app']}, {about['use'].lower()}",
        about["checked_by"],
    )
