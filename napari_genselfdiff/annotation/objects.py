"""Edits of whole objects: split, merge, fill holes, smooth, and what lies inside a line.

Every function leaves its window alone and gives a new one; the window must hold the objects whole.
A person who edits an object as a whole vouches for all of it, so all its pixels become HUMAN. No
edit takes a pixel from another object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import ndimage

from napari_genselfdiff.annotation.edit import new_object_id
from napari_genselfdiff.annotation.labelling import compact, counts
from napari_genselfdiff.annotation.paths import crossed, lengthened
from napari_genselfdiff.annotation.window import HUMAN, Window
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.labelling import Ids
    from napari_genselfdiff.annotation.paths import Mask, Point

BRIDGE: Final = 8
"""Objects at most this many pixels apart are merged across the gap."""
SMOOTH_SIGMAS: Final = (2.0, 1.5, 1.0)
"""Pixels over which an outline is smoothed; the first that leaves the object in one piece."""
_SPECK = 6  # pixels; less than this cut off by a shaky line is no part of its own
_OVERSHOOT = 2.0  # pixels: an outline is drawn this wide, and people end a line on it
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True)
class Split:
    """What a line did: ids it cut, the number of parts they have now, and ids it did not cut."""

    cut: tuple[int, ...]
    parts: int
    missed: tuple[int, ...]


def on_line(window: Window, points: Sequence[Point]) -> list[int]:
    """Ids of the objects a line meets, in the order in which it meets them."""
    found: dict[int, None] = {}
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        mask = crossed([start, end], window.region)
        rows, columns = np.nonzero(mask)
        along = (rows + window.region.y - start[0]) * (end[0] - start[0])
        along += (columns + window.region.x - start[1]) * (end[1] - start[1])
        order = np.argsort(along, kind="stable")
        ids = window.ids[rows[order], columns[order]].tolist()
        found.update((object_id, None) for object_id in ids if object_id)
    return list(found)


def split_objects(window: Window, points: Sequence[Point]) -> tuple[Window, Split]:
    """Cut objects along a line.

    The largest part keeps the id, the others get new ones; a pixel of the line goes to the part it
    is nearest to, within the object. An object the line does not cut through stays as it is.
    """
    after = window.copy()
    line = crossed(lengthened(points, _OVERSHOOT), window.region)
    cut, parts, fresh = [], 0, new_object_id(window)
    missed = []
    for object_id in on_line(window, points):
        box = _around(window.ids == object_id)
        mask = window.ids[box] == object_id
        pieces = _pieces(mask, line[box])
        number = int(pieces.max())
        if number < 2:
            missed.append(object_id)
            continue
        sizes = np.bincount(pieces.ravel(), minlength=number + 1)[1:]
        names = np.arange(fresh, fresh + number + 1, dtype=np.uint32)
        names[int(sizes.argmax()) + 1] = object_id
        after.ids[box][mask] = names[pieces[mask]]
        after.provenance[box][mask] = HUMAN
        fresh += number + 1
        cut.append(object_id)
        parts += number
    return after, Split(tuple(cut), parts, tuple(missed))


def _pieces(mask: Mask, line: Mask) -> NDArray[np.intp]:
    """Number the parts of an object that a line leaves, from 1; 1 everywhere if it cuts nothing."""
    from skimage.segmentation import watershed

    seeds, n = ndimage.label(mask & ~line)
    sizes = np.bincount(seeds.ravel(), minlength=n + 1)
    keeps = np.flatnonzero(sizes >= _SPECK)
    keeps = keeps[keeps > 0]
    _, before = ndimage.label(mask)
    if len(keeps) <= max(before, 1):
        return np.asarray(mask, np.intp)
    numbers = np.zeros(n + 1, np.intp)
    numbers[keeps] = np.arange(1, len(keeps) + 1)
    # Growing inside the object keeps every part in one piece.
    flat = np.zeros(mask.shape, np.uint8)
    grown = watershed(flat, numbers[seeds], mask=mask)  # type: ignore[no-untyped-call]
    pieces = np.asarray(grown, np.intp)
    lonely = mask & (pieces == 0)  # touches no part: stays with the largest
    pieces[lonely] = 1 + int(sizes[keeps].argmax())
    return pieces


def merge_objects(window: Window, ids: Sequence[int]) -> Window:
    """Make several objects one, with the id and the class of the first.

    Gaps of at most :data:`BRIDGE` pixels are closed where nothing else lies.

    Raises
    ------
    ConfigError
        If there are not two of them, they lie further apart, or another object lies between.
    """
    if len(set(ids)) < 2:
        raise ConfigError("one object alone cannot be merged; draw from one across to the other")
    mask = np.isin(window.ids, np.asarray(ids, np.uint32))
    box = _around(mask, BRIDGE + 2)
    joined = _bridged(mask[box], window.ids[box] == 0)
    first = window.ids == ids[0]
    value = int(np.bincount(window.classes[first], minlength=1).argmax())
    after = window.copy()
    after.ids[box][joined], after.classes[box][joined] = ids[0], value
    after.provenance[box][joined] = HUMAN
    return after


def _bridged(whole: Mask, free: Mask) -> Mask:
    """Mask in one piece, its gaps closed by bands over free pixels; errors as `merge_objects`."""
    pieces, n = ndimage.label(whole, _EIGHT)
    while n > 1:
        to_first = ndimage.distance_transform_edt(pieces != 1)
        to_others = ndimage.distance_transform_edt(pieces <= 1)
        both = np.where(pieces > 0, np.inf, to_first + to_others)
        apart = float(both.min()) - 1
        if apart > BRIDGE:
            raise ConfigError(
                f"these objects lie {apart:.0f} pixels apart, and up to {BRIDGE} are bridged; "
                "close the gap with the brush first"
            )
        whole = whole | (free & (both <= both.min() + 1))
        pieces, left = ndimage.label(whole, _EIGHT)
        if left >= n:
            raise ConfigError("another object lies between them; merge or delete that one as well")
        n = left
    return whole


def fill_holes(window: Window, object_id: int) -> Window:
    """Give an object the background it encloses; objects inside stay."""
    mask = window.ids == object_id
    box = _around(mask, 1)
    own = mask[box]
    return _reshaped(window, object_id, box, own | (_filled(own) & (window.ids[box] == 0)))


def smooth(window: Window, object_id: int) -> Window:
    """Round off an object's outline over about 2 pixels; its size stays about the same.

    One step of curvature flow (Merriman, Bence & Osher 1992): the mask is blurred and cut at one
    half. What is added comes from the background only.

    Raises
    ------
    ConfigError
        If the object is so small or thin that little would be left.
    """
    mask = window.ids == object_id
    box = _around(mask, 8)
    own, free = mask[box], window.ids[box] == 0
    _, before = ndimage.label(own, _EIGHT)
    for sigma in SMOOTH_SIGMAS:
        # Neighbours count half: an outline that follows one is not pulled away from it.
        outside = np.where(own, 1.0, np.where(free, 0.0, 0.5))
        rounded = ndimage.gaussian_filter(outside, sigma, mode="nearest") > 0.5
        result = rounded & (own | free)
        _, n = ndimage.label(result, _EIGHT)
        if n == before and 2 * int(result.sum()) >= int(own.sum()):
            return _reshaped(window, object_id, box, result)
    raise ConfigError("this object is too small or too thin to be smoothed")


def vouch(window: Window, object_id: int) -> Window:
    """Say of a whole object that a person stands behind it."""
    after = window.copy()
    after.provenance[window.ids == object_id] = HUMAN
    return after


def mostly_inside(ids: NDArray[np.uint32], inside: Mask, areas: dict[int, int]) -> Ids:
    """Ids of objects more than half of whose pixels lie inside a mask; ``areas`` are whole."""
    found, codes = compact(ids)
    within = counts(codes, len(found), inside)
    whole = np.array([areas.get(object_id, 0) for object_id in found.tolist()], np.int64)
    chosen = 2 * within > whole
    chosen[0] = False
    return found[chosen]


def _reshaped(window: Window, object_id: int, box: tuple[slice, slice], shape: Mask) -> Window:
    """Give an object another shape; what it loses is background a person vouches for."""
    after = window.copy()
    ids, classes, provenance = after.ids[box], after.classes[box], after.provenance[box]
    own = ids == object_id
    value = int(np.bincount(classes[own], minlength=1).argmax())
    lost = own & ~shape
    ids[lost], classes[lost] = 0, 0
    ids[shape], classes[shape] = object_id, value
    provenance[lost | shape] = HUMAN
    return after


def _filled(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_fill_holes(mask), bool)


def _around(mask: Mask, margin: int = 1) -> tuple[slice, slice]:
    """Slices around the True pixels, which must exist, with a margin within the array."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )
