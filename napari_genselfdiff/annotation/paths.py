"""Drawn paths as pixels: what a closed path encloses, and which pixels a line crosses.

Points are (y, x) in pixels of the task's grid, pixel i is centred on i.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.exchange.outlines import rasterize
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    import shapely
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Point = tuple[float, float]

_LIMIT = 2**31  # pixels: no slide is larger


def bounds(points: Sequence[Point]) -> Region:
    """Smallest region with every pixel a path touches; ConfigError if it is no path."""
    if not points or not all(abs(value) < _LIMIT for point in points for value in point):
        raise ConfigError(f"a path of {len(points)} points; at least one, all on the slide")
    rows, columns = ([_pixel(point[axis]) for point in points] for axis in (0, 1))
    return Region.from_bounds(min(rows), min(columns), max(rows) + 1, max(columns) + 1)


def enclosed(points: Sequence[Point], region: Region) -> Mask:
    """Pixels of a region whose centres a closed path encloses, loops and all.

    Parameters
    ----------
    points
        Corners; the last one is joined with the first. Where the path crosses itself every part
        that it goes around counts, so a freehand line need not meet its beginning exactly.
    region
        What is asked for; the path may leave it.
    """
    rings = [np.asarray(part.exterior.coords) for part in outer_parts(points)]
    return rasterize(rings, region.y, region.x, region.shape)


def outer_parts(points: Sequence[Point]) -> list[shapely.Polygon]:
    """Everything a closed path goes around, in pixel corners (x, y); as for :func:`enclosed`."""
    import shapely

    if len(points) < 3:
        return []
    corners = [(x + 0.5, y + 0.5) for y, x in [*points, points[0]]]
    ring = shapely.Polygon(corners)
    return [ring] if ring.is_valid and ring.area > 0 else crossing_parts(corners)


def crossing_parts(corners: Sequence[Point]) -> list[shapely.Polygon]:
    """Everything a closed path (x, y) goes around that may cross itself, which takes far longer."""
    import shapely

    faces = shapely.polygonize([shapely.node(shapely.LineString(corners))])
    whole = shapely.union_all(list(faces.geoms))
    parts = [] if whole.is_empty else getattr(whole, "geoms", [whole])
    return [shapely.Polygon(part.exterior) for part in parts]


def crossed(points: Sequence[Point], region: Region) -> Mask:
    """Pixels of a region on a line: a chain in which neighbours share at least a corner.

    Nothing that hangs together by its sides leads from one side of the line to the other.
    """
    mask = np.zeros(region.shape, bool)
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        steps = math.ceil(max(abs(end[0] - start[0]), abs(end[1] - start[1]))) + 1
        y, x = (np.linspace(start[axis], end[axis], steps + 1) for axis in (0, 1))
        rows = np.floor(y + 0.5).astype(np.int64) - region.y
        columns = np.floor(x + 0.5).astype(np.int64) - region.x
        inside = (rows >= 0) & (rows < region.height) & (columns >= 0) & (columns < region.width)
        mask[rows[inside], columns[inside]] = True
    return mask


def lengthened(points: Sequence[Point], by: float) -> list[Point]:
    """Draw a line ``by`` pixels further at both ends, straight on."""
    if len(points) < 2:
        return list(points)
    return [_beyond(points[1], points[0], by), *points, _beyond(points[-2], points[-1], by)]


def _beyond(before: Point, end: Point, by: float) -> Point:
    dy, dx = end[0] - before[0], end[1] - before[1]
    length = math.hypot(dy, dx)
    return end if length == 0 else (end[0] + by * dy / length, end[1] + by * dx / length)


def _pixel(value: float) -> int:
    return math.floor(value + 0.5)
