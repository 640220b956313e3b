"""Regions of interest that come back in a GeoJSON file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import shapely

from napari_genselfdiff.annotation.rois import MAX_POINTS, MAX_ROIS, Roi, new_roi, same_place
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore

    Ring = NDArray[np.float64]

ROI_MARK: Final = "region of interest"
"""What ``metadata.genselfdiff`` of a feature says that is one."""
_NUMBERS = {int, float}
_MOST_CORNERS = 100_000  # in one file: seconds, for the worst
_MOST_PARTS = 100  # of one region of interest; ways between them cross everything in between


def is_roi(feature: Any) -> bool:
    """Whether a feature is one of our regions of interest, in which nothing is to be drawn."""
    properties = feature.get("properties") if isinstance(feature, dict) else None
    metadata = properties.get("metadata") if isinstance(properties, dict) else None
    return isinstance(metadata, dict) and metadata.get("genselfdiff") == ROI_MARK


class RoiReader:
    """Takes in the regions of interest of a file; what cannot be used is counted in ``warnings``.

    Parameters
    ----------
    store
        Annotations of the slide they are meant for.
    warnings
        What was left out, and how often.
    """

    def __init__(self, store: AnnotationStore, warnings: Counter[str]) -> None:
        self._store, self._warnings = store, warnings
        self._found: list[Roi] = []
        self._seen = self._corners = 0

    def read(self, feature: dict[str, Any], shift: tuple[int, int]) -> None:
        """Take in a feature; ``shift`` is the (x, y) level-0 pixels to add."""
        self._seen += 1
        if self._seen > MAX_ROIS or self._corners > _MOST_CORNERS:
            self._warnings["regions of interest beyond what a slide can have were left out"] += 1
            return
        try:
            rings = [ring + shift for ring in _outer_rings(feature["geometry"])]
            self._corners += sum(map(len, rings))
            name = feature["properties"].get("name")
            roi = new_roi(name if isinstance(name, str) else "", _one_outline(rings))
        except (ConfigError, TypeError, ValueError, OverflowError, KeyError):
            self._warnings["unusable regions of interest were left out"] += 1
            return
        if roi.area((self._store.slide.height, self._store.slide.width)) < 1:
            self._warnings["regions of interest outside the slide were left out"] += 1
        else:
            self._found.append(roi)

    def keep(self, task_name: str, what: str) -> int:
        """Add those that are new, as one step of the history; how many.

        One of the same name and outline is there already; of the same name and another outline it
        is kept beside it, under another name.
        """
        there = self._store.rois
        new = [roi for roi in self._found if not any(same_place(roi, old) for old in there)]
        if already := len(self._found) - len(new):
            self._warnings["regions of interest were there already"] += already
        if beyond := max(len(there) + len(new) - MAX_ROIS, 0):
            self._warnings["regions of interest beyond what a slide can have were left out"] += (
                beyond
            )
            new = new[: len(new) - beyond]
        if new:
            self._store.add_rois(task_name, new, what)
        return len(new)


def _outer_rings(geometry: dict[str, Any]) -> list[Ring]:
    """Outer rings of a sound geometry, (n, 2) corners (x, y); ValueError for any other."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in {"Polygon", "MultiPolygon"}:
        raise ValueError("a region of interest is a polygon")
    parts: Any = [coordinates] if kind == "Polygon" else coordinates
    if len(parts) > _MOST_PARTS or sum(len(part[0]) for part in parts) > MAX_POINTS:
        raise ValueError("too many parts or corners")
    rings = []
    for part in parts:
        points = [(point[0], point[1]) for point in part[0]]
        if not all(type(n) in _NUMBERS and abs(n) < 2**31 for point in points for n in point):
            raise ValueError("coordinates are numbers")
        rings.append(np.array(points, np.float64))
    # Crossings of hostile outlines would be looked for among all pairs of their edges.
    if not shapely.MultiPolygon([shapely.Polygon(ring) for ring in rings]).is_valid:
        raise ValueError("the outline crosses itself")
    return rings


def _one_outline(rings: Sequence[Ring]) -> list[tuple[float, float]]:
    """Corners (y, x), pixel i centred on i, of a path around all of them, there and back between.

    A way there and back encloses nothing.
    """
    points: list[tuple[float, float]] = []
    for ring in rings:
        corners = [(y - 0.5, x - 0.5) for x, y in ring.tolist()]
        points += corners if (ring[0] == ring[-1]).all() else [*corners, corners[0]]
    starts = [(ring[0][1] - 0.5, ring[0][0] - 0.5) for ring in rings]
    return [*points, *reversed(starts[1:-1])] if len(rings) > 1 else points[:-1]
