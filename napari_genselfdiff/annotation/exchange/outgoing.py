"""Annotations into a file of whatever kind its name asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from napari_genselfdiff.annotation.exchange.geojson import write_geojson
from napari_genselfdiff.annotation.exchange.label_tiff import write_label_tiff
from napari_genselfdiff.annotation.exchange.table import write_table
from napari_genselfdiff.annotation.exchange.watching import nobody
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_genselfdiff.annotation.exchange.origin import Frame
    from napari_genselfdiff.annotation.exchange.watching import Watch
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

Kind = Literal["shapes", "table", "labels"]

KINDS: dict[str, Kind] = {
    ".geojson": "shapes",
    ".geojson.gz": "shapes",
    ".csv": "table",
    ".parquet": "table",
    ".ome.tif": "labels",
    ".ome.tiff": "labels",
}


def export_kind(path: Path) -> Kind:
    """What the name of a file asks for.

    Raises
    ------
    ConfigError
        If it ends like nothing we write.
    """
    name = path.name.lower()
    for suffix, kind in KINDS.items():
        if name.endswith(suffix):
            return kind
    raise ConfigError(f"{path.name} cannot be written; name it {', '.join(KINDS)}")


def export_file(  # noqa: PLR0913  (choices, each given by its name)
    store: AnnotationStore,
    task_name: str,
    path: Path,
    *,
    frame: Frame = "level0",
    bounds: Region | None = None,
    slide: Slide | None = None,
    provenance: Mapping[str, Any] | None = None,
    roi: str | None = None,
    watch: Watch = nobody,
) -> str:
    """Write a task's annotations; the folder is made where there is none.

    Parameters
    ----------
    frame, bounds
        ``qupath`` counts from the corner of the slide's ``bounds``.
    slide
        Where tables and shapes get the densities of stains from; None leaves them out.
    provenance
        What else GeoJSON and label files should say of their origin; plain JSON values.
    roi
        Name of a region of interest to which shapes and tables are restricted.
    watch
        Hears how far it is, and may end it; then there is no file, or the older one.

    Returns
    -------
    str
        What was written, such as ``"12 shapes"``.

    Raises
    ------
    ConfigError
        If the name, the task, the frame or the region of interest is unknown, or labels are to be
        restricted.
    StoreError
        If the file cannot be written; an older one is then still there.
    """
    kind = export_kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "labels":
        return _labels(store, task_name, path, frame, bounds, provenance, roi, watch)
    if kind == "table":
        number = write_table(
            store, task_name, path, frame=frame, bounds=bounds, slide=slide, roi=roi, watch=watch
        )
        return f"{number} rows"
    number = write_geojson(
        store,
        task_name,
        path,
        frame=frame,
        bounds=bounds,
        provenance=provenance,
        slide=slide,
        roi=roi,
        watch=watch,
    )
    return f"{number} shapes"


def _labels(
    store: AnnotationStore,
    task_name: str,
    path: Path,
    frame: Frame,
    bounds: Region | None,
    provenance: Mapping[str, Any] | None,
    roi: str | None,
    watch: Watch,
) -> str:
    if roi is not None:
        raise ConfigError(
            f"{path.name} would hold labels, which are always of the whole slide; restrict "
            "GeoJSON or a table"
        )
    height, width = write_label_tiff(
        store, task_name, path, frame=frame, bounds=bounds, provenance=provenance, watch=watch
    )
    return f"labels, {height} x {width} pixels,"
