"""QuPath GeoJSON out and in: the polygons of a task, pixel by pixel the same in both directions.

Coordinates are QuPath's: level-0 pixel corners, (x, y), 0 at the outer edge of the first pixel.
What napari shows at y (the centre of pixel row y) has the coordinate y + 0.5 here. ``level0``
counts from the first pixel of the whole file; ``qupath`` from the first pixel QuPath shows, which
crops some slides to their stated bounds.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4, uuid5

import numpy as np

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.exchange.geojson_in import ROI_MARK, read_geojson
from napari_genselfdiff.annotation.exchange.measured import object_measurer
from napari_genselfdiff.annotation.exchange.origin import Frame, frame_offset, origin
from napari_genselfdiff.annotation.exchange.shapes import shapes
from napari_genselfdiff.annotation.rois import ROI_COLOR, pick_roi
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.exchange.shapes import Shape
    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.registry.card import ClassSpec
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

__all__ = ["Frame", "read_geojson", "write_geojson"]

_NAMES = (
    "Perimeter µm",
    "Circularity",
    "Eccentricity",
    "Haematoxylin OD mean",
    "Eosin OD mean",
    "Confidence",
)
"""What QuPath shows instead of the names of ``measured.MEASURED``."""
_SOURCES = ("model", "accepted", "human")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def write_geojson(
    store: AnnotationStore,
    task_name: str,
    path: Path,
    *,
    frame: Frame = "level0",
    bounds: Region | None = None,
    provenance: Mapping[str, Any] | None = None,
    slide: Slide | None = None,
    roi: str | None = None,
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
    number, separator = 0, "\n"
    with disk_errors(f"write {path}"), _new_text_file(path) as file:
        file.write(f'{{"type":"FeatureCollection",\n"genselfdiff":{_json(about)},\n"features":[')
        writer = _FeatureWriter(store, task_name, offset)
        for region in store.rois if within is None else [within]:
            file.write(separator + _json(writer.roi(region)))
            separator = ",\n"
        measurer = object_measurer(store, task_name, slide)
        for shape in shapes(store, task_name, measurer, within=within):
            file.write(separator + _json(writer.feature(shape)))
            number, separator = number + 1, ",\n"
        file.write("\n]}\n")
    return number


class _FeatureWriter:
    def __init__(self, store: AnnotationStore, task_name: str, offset: tuple[int, int]) -> None:
        task = store.tasks[task_name]
        self._task_name, self._offset = task_name, np.array(offset)
        self._scale = store.downsample(task_name)
        self._limits = np.array([store.slide.width, store.slide.height])
        self._pixel_um2 = (store.mpp * self._scale) ** 2
        self._kind = "detection" if task.kind == "objects" else "annotation"
        self._classes = {spec.value: _classification(spec) for spec in task.classes}
        self._namespace = UUID(store.store_id)

    def feature(self, shape: Shape) -> dict[str, Any]:
        """One GeoJSON feature."""
        rings = [
            [self._ring(ring) for ring in (polygon.exterior, *polygon.holes)]
            for polygon in shape.polygons
        ]
        geometry = (
            {"type": "Polygon", "coordinates": rings[0]}
            if len(rings) == 1
            else {"type": "MultiPolygon", "coordinates": rings}
        )
        mostly, shares = _provenance(shape)
        return {
            "type": "Feature",
            "id": self._uuid(shape),
            "geometry": geometry,
            "properties": {
                "objectType": self._kind,
                "classification": self._classes[shape.value],
                "measurements": {
                    "Area µm^2": round(shape.pixels * self._pixel_um2, 4),
                    **_measurements(shape.measured),
                    **shares,
                },
                "metadata": {"genselfdiff provenance": mostly},
            },
        }

    def roi(self, roi: Roi) -> dict[str, Any]:
        """A region of interest as one GeoJSON feature."""
        parts = [
            [(np.asarray(part.exterior.coords) - self._offset).tolist()] for part in roi.shape.geoms
        ]
        geometry = (
            {"type": "Polygon", "coordinates": parts[0]}
            if len(parts) == 1
            else {"type": "MultiPolygon", "coordinates": parts}
        )
        return {
            "type": "Feature",
            "id": str(uuid5(self._namespace, f"roi/{roi.name}")),
            "geometry": geometry,
            "properties": {
                "objectType": "annotation",
                "name": roi.name,
                "color": list(bytes.fromhex(ROI_COLOR[1:])),
                "isLocked": True,
                "metadata": {"genselfdiff": ROI_MARK},
            },
        }

    def _uuid(self, shape: Shape) -> str:
        """Stable: the same object of the same store has it in every export."""
        name = f"{self._task_name}/{shape.id}"
        if not shape.id:
            ring = shape.polygons[0].exterior
            first = min(map(tuple, ring.tolist()))
            name = f"{self._task_name}/area/{shape.value}/{first}"
        return str(uuid5(self._namespace, name))

    def _ring(self, ring: NDArray[Any]) -> list[list[int]]:
        """Closed ring in level-0 corners; the grid's last pixel may end beyond the slide."""
        points = np.minimum(ring * self._scale, self._limits) - self._offset
        closed: list[list[int]] = points.tolist()
        closed.append(closed[0])
        return closed


def _classification(spec: ClassSpec) -> dict[str, Any]:
    # QuPath refuses a classification that has a name but no colour.
    return {"name": spec.name, "color": list(bytes.fromhex(spec.color[1:]))}


def _measurements(measured: tuple[float, ...]) -> dict[str, float]:
    """What is known of an object's form, stain and confidence, by the names QuPath shows."""
    if not measured:
        return {}
    pairs = zip(_NAMES, measured, strict=True)
    return {name: round(value, 4) for name, value in pairs if not math.isnan(value)}


def _provenance(shape: Shape) -> tuple[str, dict[str, float]]:
    """Who stands behind most of a shape, and the shares of its pixels."""
    total = max(sum(shape.provenance), 1)
    shares = {
        f"{name} share": round(pixels / total, 4)
        for name, pixels in zip(_SOURCES, shape.provenance, strict=True)
    }
    return _SOURCES[max(range(3), key=lambda level: (shape.provenance[level], level))], shares


def _json(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"the provenance of an export must be plain JSON: {err}") from err


@contextmanager
def _new_text_file(path: Path) -> Iterator[io.TextIOBase]:
    """Write a UTF-8 file that appears under its name when it is complete."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with partial.open("wb") as raw:
            if path.suffix == ".gz":
                packed = gzip.GzipFile("", "wb", 5, raw, mtime=0)
                with packed, io.TextIOWrapper(packed, "utf-8", newline="\n") as file:
                    yield file
            else:
                with io.TextIOWrapper(raw, "utf-8", newline="\n") as file:
                    yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
