"""What an edit of a window means for the store: who vouches for it, which objects it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.labelling import among, compact, counts, majority_class
from napari_genselfdiff.annotation.window import HUMAN, UNKNOWN, Window
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.labelling import Ids
    from napari_genselfdiff.annotation.merge import Allocate, Rows


@dataclass(frozen=True)
class Outside:
    """What an edit asks of the parts of objects outside its window.

    ``recolored`` maps ids to the class of the whole object; ``deleted`` are ids of objects that
    vanished from the window and lay mostly inside.
    """

    recolored: dict[int, int]
    deleted: Ids

    @property
    def ids(self) -> Ids:
        """Ids of all objects concerned."""
        return np.union1d(self.deleted, np.array(list(self.recolored), np.uint32))


def edited(current: Window, before: Window, after: Window, allocate: Allocate) -> Window:
    """Apply the difference of two windows to what is stored now; all three have one region.

    Pixels that ``after`` leaves alone keep what is stored. A pixel with another class or object
    becomes HUMAN, unless ``after`` gives it another provenance than ``before``. Where that is
    UNKNOWN, nothing remains. Ids that ``before`` did not hold are new objects, whatever else has
    that number meanwhile, and get ids from ``allocate``, which reserves n and gives the first.
    """
    content = before.classes != after.classes
    if before.objects is not None:
        content |= before.ids != after.ids
    stated = before.provenance != after.provenance
    result = current.copy()
    result.provenance[content] = HUMAN
    result.provenance[stated] = after.provenance[stated]
    result.classes[content] = after.classes[content]
    cleared = stated & (after.provenance == UNKNOWN)
    result.classes[cleared] = 0
    if result.objects is not None:
        result.objects[content] = _fresh(before.ids, after.ids[content], allocate)
        result.objects[cleared] = 0
        result.classes[result.objects == 0] = 0
    return result


def _fresh(known: NDArray[np.uint32], drawn: NDArray[np.uint32], allocate: Allocate) -> Ids:
    """Ids of drawn pixels, those unknown so far replaced by new ones."""
    ids, codes = compact(drawn)
    new = np.flatnonzero(~np.isin(ids, compact(known)[0]))
    ids[new] = np.arange(len(new), dtype=np.int64) + allocate(len(new))
    return ids[codes]


def settle_objects(current: Window, result: Window, rows: Rows) -> Outside:
    """Give every object of an edited window one class, in place: that of most of its pixels.

    Raises
    ------
    ConfigError
        If an object has no class.
    """
    ids, codes = compact(result.ids)
    changed = (result.ids != current.ids) | (result.classes != current.classes)
    touched = counts(codes, len(ids), changed) > 0
    touched[0] = False
    classes = majority_class(codes, result.classes, len(ids))
    if np.any(touched & (classes == 0)):
        raise ConfigError("an object without a class; give its pixels one of the task's classes")
    paint = (touched & (classes > 0))[codes]
    differs = paint & (result.classes != classes[codes])
    result.provenance[differs & (result.provenance != UNKNOWN)] = HUMAN
    result.classes[paint] = classes[codes][paint]
    table = rows(ids)
    crosses = table[:, 1] > _sizes(ids, current.ids)
    recolored = touched & crosses & (table[:, 0] != classes)
    return Outside(
        {int(ids[code]): int(classes[code]) for code in np.flatnonzero(recolored)},
        _deleted(current, result, rows),
    )


def _sizes(ids: Ids, labels: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Pixels of each id in the labels."""
    found, codes = compact(labels)
    sizes = counts(codes, len(found))
    at = np.minimum(np.searchsorted(found, ids), len(found) - 1)
    return np.where(found[at] == ids, sizes[at], 0)


def settle_outside(around: Window, window: Window, outside: Outside) -> Window:
    """Window ``around`` after ``window`` inside it was edited, with what that asks of the rest."""
    after = around.copy()
    gone = among(after.ids, outside.deleted)
    after.ids[gone], after.classes[gone], after.provenance[gone] = 0, 0, HUMAN
    for object_id, value in outside.recolored.items():
        part = after.ids == object_id
        after.classes[part], after.provenance[part] = value, HUMAN
    inner = after.cropped(window.region)
    inner.classes[...], inner.provenance[...] = window.classes, window.provenance
    inner.ids[...] = window.ids
    return after


def _deleted(current: Window, result: Window, rows: Rows) -> NDArray[np.uint32]:
    """Objects that vanished from the window by hand and lay mostly, but not wholly, inside."""
    ids, codes = compact(current.ids)
    inside = counts(codes, len(ids))
    by_hand = counts(codes, len(ids), result.provenance == HUMAN)
    vanished = ~np.isin(ids, compact(result.ids)[0])
    area = rows(ids)[:, 1].astype(np.int64)
    chosen = vanished & (area > inside) & (2 * inside >= area) & (2 * by_hand > inside)
    chosen[0] = False
    return ids[chosen]
