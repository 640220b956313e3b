"""QuPath GeoJSON out and in: the polygons of a task, pixel by pixel the same in both directions.

Coordinates are QuPath's: level-0 pixel corners, (x, y), 0 at the outer edge of the first pixel.
What napari shows at y (the centre of pixel row y) has the coordinate y + 0.5 here. ``level0``
counts from the first pixel of the whole file; ``qupath`` from the first pixel QuPath shows, which
crops some slides to their stated bounds.
"""

from __future__ import annotations

import gzip
import io
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.annotation.disk import disk_errors, new_file
from napari_genselfdiff.annotation.exchange.features import SEPARATOR, FeatureWriter, as_json
from napari_genselfdiff.annotation.exchange.geojson_in import read_geojson
from napari_genselfdiff.annotation.exchange.measured import area_forms, object_measurer
from napari_genselfdiff.annotation.exchange.origin import Frame, frame_offset, origin
from napari_genselfdiff.annotation.exchange.shapes import shapes
from napari_genselfdiff.annotation.exchange.watching import nobody
from napari_genselfdiff.annotation.rois import pick_roi

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_genselfdiff.annotation.exchange.watching import Watch
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

__all__ = ["Frame", "read_geojson", "write_geojson"]


def write_geojson(  # noqa: PLR0913  (choices, each given by its name)
    store: AnnotationStore,
    task_name: str,
    path: Path,
    *,
    frame: Frame = "level0",
    bounds: Region | None = None,
    provenance: Mapping[str, Any] | None = None,
    slide: Slide | None = None,
    roi: str | None = None,
    watch: Watch = nobody,
) -> int:
    """Write all objects (detections) or areas (annotations) of a task for QuPath.

    Regions of interest come first, as locked annotations with their names.

    Parameters
    ----------
    path
        File to write; a name ending in ``.gz`` is compressed.
    frame, bounds
        ``qupath`` subtracts the corner of the slide's ``bounds`` (None: nothing to subtract).
    provenance
        What else the file should say of its origin (models, settings); plain JSON values.
    slide
        Where the densities of stains are measured; None leaves them out.
    roi
        Name of a region of interest to which everything is restricted: objects whose centroid
        lies inside, areas cut at its border.
    watch
        Hears how far it is.

    Returns
    -------
    int
        Number of objects or areas.

    Raises
    ------
    ConfigError
        If the task, the frame or the region of interest is unknown.
    StoreError
        If the file cannot be written; an older one is then still there.
    """
    offset = frame_offset(frame, bounds)
    about = origin(store, task_name, frame=frame, offset=offset, provenance=provenance)
    within = None if roi is None else pick_roi(store.rois, roi)
    writer = FeatureWriter(store, task_name, offset)
    measurer = object_measurer(store, task_name, slide)
    new_form = area_forms(store, task_name, slide)
    found = shapes(store, task_name, measurer, new_form=new_form, within=within, watch=watch)
    features = ((as_json(writer.feature(shape)), 1) for shape in found)
    rois = [writer.roi(region) for region in (store.rois if within is None else [within])]
    return write_features(path, about, rois, features)


def write_features(
    path: Path,
    about: Mapping[str, Any],
    rois: Sequence[Mapping[str, Any]],
    features: Iterable[tuple[str, int]],
) -> int:
    """Write a collection whose features come as JSON, with how many they are; give their number.

    StoreError if the file cannot be written; an older one is then still there.
    """
    number, separator = 0, "\n"
    with disk_errors(f"write {path}"), _new_text_file(path) as file:
        file.write(f'{{"type":"FeatureCollection",\n"genselfdiff":{as_json(about)},\n"features":[')
        for text, more in chain(((as_json(roi), 0) for roi in rois), features):
            file.write(separator + text)
            number, separator = number + more, SEPARATOR
        file.write("\n]}\n")
    return number


@contextmanager
def _new_text_file(path: Path) -> Iterator[io.TextIOBase]:
    """Write a UTF-8 file that appears under its name when it is complete."""
    with new_file(path) as partial, partial.open("wb") as raw:
        if path.suffix == ".gz":
            packed = gzip.GzipFile("", "wb", 5, raw, mtime=0)
            with packed, io.TextIOWrapper(packed, "utf-8", newline="\n") as file:
                yield file
        else:
            with io.TextIOWrapper(raw, "utf-8", newline="\n") as file:
                yield file
