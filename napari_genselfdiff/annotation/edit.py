"""Edits of a window in memory: what tools do, and how an edited label layer becomes a window.

Every function leaves its window alone and gives a new one. Points are (y, x) pixels of the task's
grid, as in :class:`~napari_genselfdiff.annotation.window.Window`. Pixels that change get HUMAN;
erasing and deleting means "there is nothing here" (class 0, HUMAN), not unknown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_genselfdiff.annotation.labelling import compact, majority_class
from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, UNKNOWN, Window
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.slides.geometry import Region

    Mask = NDArray[np.bool_]
    Point = tuple[float, float]


def paint_stroke(
    window: Window, points: Sequence[Point], radius: float, value: int, object_id: int | None = None
) -> Window:
    """Draw a round brush along points; ``value`` 0 erases.

    Parameters
    ----------
    window
        What to draw on.
    points
        Path of the brush; one point gives a disk.
    radius
        Of the brush in pixels, at least 0 (a single pixel).
    value
        Class to draw.
    object_id
        Object the pixels belong to; needed for objects, unless they are erased.

    Raises
    ------
    ConfigError
        If there is no point, the radius is no length, or an object is needed.
    """
    if not points or not (math.isfinite(radius) and radius >= 0):
        raise ConfigError(
            f"a brush of radius {radius!r} along {len(points)} points; "
            "at least one point and a radius of 0 or more are needed"
        )
    mask = np.zeros(window.region.shape, bool)
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        part, near = capsule(start, end, radius, window.region)
        mask[part] |= near
    return set_pixels(window, mask, value, object_id)


def fill(window: Window, point: Point, value: int, object_id: int | None = None) -> Window:
    """Fill the connected patch of one object (for areas: one class) under a point.

    Edges of the window end the patch; corners do not connect. Errors as for `paint_stroke`, and
    ConfigError for a point outside the window.
    """
    y, x = math.floor(point[0] + 0.5), math.floor(point[1] + 0.5)
    y, x = y - window.region.y, x - window.region.x
    labels = window.classes if window.objects is None else window.ids
    if not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
        raise ConfigError(f"the point {point} is not inside {window.region}")
    patches, _ = ndimage.label(labels == labels[y, x])
    return set_pixels(window, patches == patches[y, x], value, object_id)


def set_pixels(window: Window, mask: Mask, value: int, object_id: int | None = None) -> Window:
    """Give the pixels of a mask a class and an object; 0 for what a person says is nothing."""
    if not 0 <= value <= 255:
        raise ConfigError(f"class {value}; 0 (background) to 255 is needed")
    if window.objects is not None and value > 0 and not object_id:
        raise ConfigError("drawing objects needs the id of one")
    after = window.copy()
    changed = mask & (window.classes != value)
    if after.objects is not None:
        number = object_id if value > 0 and object_id else 0
        changed |= mask & (window.ids != number)
        after.objects[changed] = number
    after.classes[changed] = value
    after.provenance[changed] = HUMAN
    if value == 0:  # erasing where nobody looked says that nothing is there
        after.provenance[mask & (after.provenance < ACCEPTED)] = HUMAN
    return after


def delete_object(window: Window, object_id: int) -> Window:
    """Say that there is no object where this one is; nothing happens if it is not in view."""
    return set_pixels(window, window.ids == object_id, 0) if object_id > 0 else window.copy()


def change_class(window: Window, object_id: int, value: int) -> Window:
    """Give an object another class; ConfigError for class 0."""
    if value < 1:
        raise ConfigError("an object needs a class of 1 or more; delete it instead")
    return set_pixels(window, window.ids == object_id, value, object_id)


def new_object_id(window: Window) -> int:
    """Give an id no object of the window has; the store replaces it by one of its own."""
    return int(window.ids.max(initial=0)) + 1


def accept_window(window: Window) -> Window:
    """Vouch for everything in the window that is not drawn by hand, background included."""
    after = window.copy()
    after.provenance[after.provenance < ACCEPTED] = ACCEPTED
    return after


def clear_pixels(window: Window, mask: Mask) -> Window:
    """Forget what is known of the pixels of a mask."""
    after = window.copy()
    after.classes[mask], after.provenance[mask] = 0, UNKNOWN
    if after.objects is not None:
        after.objects[mask] = 0
    return after


def from_labels(
    before: Window, labels: NDArray[Any], new_classes: Mapping[int, int] | int = 1
) -> Window:
    """Turn an edited label layer into the window for :meth:`AnnotationStore.write_edit`.

    Parameters
    ----------
    before
        The window the layer was made from.
    labels
        (h, w) integers: for objects the edited ids, for areas the edited classes.
    new_classes
        Class of each object that ``before`` lacks, by its id, or one for all; objects that were
        there keep theirs. Not used for areas.

    Raises
    ------
    ConfigError
        If a label cannot be stored or a new object has no class.
    """
    shown = np.asarray(labels)
    kind = before.classes if before.objects is None else before.ids
    limit = int(np.iinfo(kind.dtype).max)
    if shown.shape != kind.shape or shown.dtype.kind not in "biu":
        raise ConfigError(f"labels {shown.shape} of {shown.dtype}; {kind.shape} whole numbers fit")
    if shown.size and (int(shown.min()) < 0 or int(shown.max()) > limit):
        raise ConfigError(f"labels from {shown.min()} to {shown.max()}; 0..{limit} can be stored")
    after = before.copy()
    changed = shown != kind
    after.provenance[changed] = HUMAN
    if before.objects is None:
        after.classes[changed] = shown[changed]
        return after
    after.ids[changed] = shown[changed]
    after.classes[changed] = _classes_of(before, shown[changed], new_classes)
    return after


def _classes_of(
    before: Window, drawn: NDArray[Any], new_classes: Mapping[int, int] | int
) -> NDArray[np.uint8]:
    """Class of each drawn pixel, from its object."""
    known, codes = compact(before.ids)
    classes = majority_class(codes, before.classes, len(known))
    ids, at = compact(drawn)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    found = known[place] == ids
    lookup = np.where(found, classes[place], 0).astype(np.uint8)
    for code in np.flatnonzero(~found).tolist():
        number = int(ids[code])
        value = new_classes if isinstance(new_classes, int) else new_classes.get(number, 0)
        if not 1 <= value <= 255:
            raise ConfigError(f"the new object {number} has no class; choose one before drawing")
        lookup[code] = value
    return lookup[at]


def capsule(
    start: Point, end: Point, radius: float, region: Region
) -> tuple[tuple[slice, slice], Mask]:
    """Pixels of a region within a distance of a line: where they are in it, and which.

    A radius below half a pixel still takes the pixel under each end.
    """
    (y0, x0), (y1, x1) = start, end
    reach = max(radius, 0.5)
    low = [math.floor(min(a, b) - reach) for a, b in ((y0, y1), (x0, x1))]
    high = [math.ceil(max(a, b) + reach) + 1 for a, b in ((y0, y1), (x0, x1))]
    rows = slice(max(low[0] - region.y, 0), min(max(high[0] - region.y, 0), region.height))
    columns = slice(max(low[1] - region.x, 0), min(max(high[1] - region.x, 0), region.width))
    y = np.arange(rows.start, max(rows.stop, rows.start))[:, None] + region.y
    x = np.arange(columns.start, max(columns.stop, columns.start))[None, :] + region.x
    length = (y1 - y0) ** 2 + (x1 - x0) ** 2
    along = ((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / length if length else np.zeros((1, 1))
    along = np.clip(along, 0.0, 1.0)
    distance = (y - y0 - along * (y1 - y0)) ** 2 + (x - x0 - along * (x1 - x0)) ** 2
    near = distance <= radius**2
    if radius < reach:
        near |= distance < reach**2
    return (rows, columns), near
