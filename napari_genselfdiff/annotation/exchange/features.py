"""One feature of a GeoJSON file as QuPath reads it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import numpy as np

from napari_genselfdiff.annotation.exchange.roi_in import ROI_MARK
from napari_genselfdiff.annotation.rois import ROI_COLOR
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.exchange.shapes import Shape
    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.registry.card import ClassSpec

_NAMES = (
    "Perimeter µm",
    "Circularity",
    "Eccentricity",
    "Haematoxylin OD mean",
    "Eosin OD mean",
    "Confidence",
)
"""What QuPath shows instead of the names of ``measured.MEASURED``."""
SEPARATOR = ",\n"  # between the features of a collection
_SOURCES = ("model", "accepted", "human")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class FeatureWriter:
    """Writes objects, areas and regions of interest of a task as GeoJSON features.

    ``offset`` is the (x, y) of what counts as the slide's first corner.
    """

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
        parts = [
            [self._ring(ring) for ring in (polygon.exterior, *polygon.holes)]
            for polygon in shape.polygons
        ]
        mostly, shares = _provenance(shape)
        return {
            "type": "Feature",
            "id": self._uuid(shape),
            "geometry": _geometry(parts),
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
        return {
            "type": "Feature",
            "id": str(uuid5(self._namespace, f"roi/{roi.name}")),
            "geometry": _geometry(parts),
            "properties": {
                "objectType": "annotation",
                "name": roi.name,
                "color": _rgb(ROI_COLOR),
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


def _geometry(parts: list[list[list[list[Any]]]]) -> dict[str, Any]:
    """Polygons, each an exterior ring and its holes."""
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _classification(spec: ClassSpec) -> dict[str, Any]:
    # QuPath refuses a classification that has a name but no colour.
    return {"name": spec.name, "color": _rgb(spec.color)}


def _rgb(color: str) -> list[int]:
    """``#rrggbb`` as QuPath has it."""
    return list(bytes.fromhex(color[1:]))


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


def as_json(value: Any) -> str:
    """Compact JSON; ConfigError for what JSON cannot say."""
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"the provenance of an export must be plain JSON: {err}") from err
