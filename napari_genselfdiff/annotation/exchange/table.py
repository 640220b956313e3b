"""A table of all objects of a task as CSV or Parquet."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.disk import disk_errors, new_file
from napari_genselfdiff.annotation.exchange.origin import Frame, frame_offset, origin
from napari_genselfdiff.annotation.exchange.watching import nobody
from napari_genselfdiff.annotation.object_table import NUMBERS, ObjectTable, joined, object_tables
from napari_genselfdiff.annotation.rois import pick_roi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import pandas as pd

    from napari_genselfdiff.annotation.exchange.watching import Watch
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

COLUMNS = (
    "id",
    "class",
    *NUMBERS,
    "rois",
    "mpp",
    "mpp_assumed",
    "models",
    "app",
    "checked_by",
)
_TYPES = {
    "id": "UInt32",
    "class": "string",
    "rois": "string",
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
    roi: str | None = None,
    watch: Watch = nobody,
) -> int:
    """Write a row for every object (for areas: every connected area, without id).

    A name ending in ``.parquet`` gives Parquet, with everything on its origin in the file's own
    metadata under ``genselfdiff``; any other CSV. Centroids are level-0 pixels, the centre of the
    slide's first pixel being (0, 0); shares are of the object's pixels, 0..1; perimeter,
    circularity and eccentricity as scikit-image has them. ``rois`` are the regions of interest the
    centroid lies in. What is not known is empty: the stains without the slide, the confidence of
    what a person drew or a model of an older version made.

    Parameters
    ----------
    frame, bounds
        ``qupath`` counts pixels from the corner of the slide's ``bounds`` (None: the slide's).
    slide
        Where the mean optical densities of haematoxylin and eosin are measured; empty if None.
    roi
        Name of a region of interest to which the rows are restricted.
    watch
        Hears how far it is.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ConfigError
        If the task, the frame or the region of interest is unknown.
    StoreError
        If the file cannot be written; an older one is then still there.
    """
    about = origin(store, task_name, frame=frame, offset=frame_offset(frame, bounds))
    rois = store.rois
    within = None if roi is None else pick_roi(rois, roi)
    tables = object_tables(store, task_name, slide=slide, rois=rois, within=within, watch=watch)
    return write_rows(store, tables, path, about)


def write_rows(
    store: AnnotationStore, tables: Iterable[ObjectTable], path: Path, about: dict[str, Any]
) -> int:
    """Write rows that were measured already; ``about`` is what ``origin.origin`` says of them.

    Errors and result as for :func:`write_table`.
    """
    names, number = {spec.value: spec.name for spec in store.tasks[about["task"]].classes}, 0
    empty = _frame(joined([]), names, about)
    with disk_errors(f"write {path}"), _new_table(path, about, empty) as write:
        for table in tables:
            number += len(table)
            write(_frame(table, names, about))
    return number


@contextmanager
def _new_table(
    path: Path, about: dict[str, Any], empty: pd.DataFrame
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write tables one below the other into a file that appears when it is complete."""
    write_all = _parquet if path.suffix.lower() == ".parquet" else _csv
    with new_file(path) as partial, write_all(partial, about, empty) as write:
        yield write


@contextmanager
def _csv(
    path: Path, _about: dict[str, Any], empty: pd.DataFrame
) -> Iterator[Callable[[pd.DataFrame], None]]:
    empty.to_csv(path, index=False)
    yield lambda table: table.to_csv(path, index=False, header=False, mode="a")


@contextmanager
def _parquet(
    path: Path, about: dict[str, Any], empty: pd.DataFrame
) -> Iterator[Callable[[pd.DataFrame], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.Schema.from_pandas(empty, preserve_index=False)
    schema = schema.with_metadata({**(schema.metadata or {}), b"genselfdiff": json.dumps(about)})
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda table: writer.write_table(
            pa.Table.from_pandas(table, schema=schema, preserve_index=False)
        )


def _frame(table: ObjectTable, names: Mapping[int, str], about: dict[str, Any]) -> pd.DataFrame:
    """Rows as they are written; ``about`` is what :func:`origin.origin` says."""
    import pandas as pd

    columns: dict[str, Any] = {
        "id": pd.array(table.ids, "UInt32"),
        "class": [names[value] for value in table.values.tolist()],
    }
    columns["id"][table.ids == 0] = pd.NA
    columns |= {name: np.round(column, 4) for name, column in table.numbers.items()}
    x, y = about["offset"]
    for name, corner in (("centroid_y", y), ("centroid_x", x)):
        columns[name] = np.round(table.numbers[name] - corner, 2)
    columns["rois"] = ["; ".join(compress(table.roi_names, row)) for row in table.inside.tolist()]
    columns |= {
        "mpp": about["mpp"],
        "mpp_assumed": about["mpp_assumed"],
        "models": " ".join(about["models"]),
        "app": f"{about['app']}, {about['use'].lower()}",
        "checked_by": about["checked_by"],
    }
    frame = pd.DataFrame(columns, index=range(len(table)))[list(COLUMNS)]
    return frame.astype({name: _TYPES.get(name, "float64") for name in COLUMNS})
