"""Drawn outlines: lasso and polygon, and the lasso that deletes; each one step of the history.

Points are (y, x) pixels of the task's grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from napari_genselfdiff.annotation import edit, objects
from napari_genselfdiff.annotation.labelling import among, compact
from napari_genselfdiff.annotation.paths import enclosed
from napari_genselfdiff.annotation.window import HUMAN
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session.objects import holding, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.annotation.paths import Mask, Point
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.registry.card import TaskSpec

How = Literal["new", "extend", "erase"]
"""What an outline makes: something new, more of the object it begins in, or nothing."""


def draw(
    store: AnnotationStore,
    task: TaskSpec,
    points: Sequence[Point],
    class_value: int,
    *,
    how: How = "new",
    protect: bool = False,
    what: str = "Lasso",
) -> int:
    """Fill a drawn outline; give the number of changed pixels.

    Parameters
    ----------
    class_value
        Class to draw.
    how
        For areas "new" and "extend" are the same.
    protect
        Leave pixels of other classes as they are. Other objects are never drawn over.
    what
        Name in the history.

    Raises
    ------
    ConfigError
        If nothing is enclosed, everything inside belongs to other objects, or the outline is too
        large.
    """
    before = reading(store, task, points)
    mask = enclosed(points, before.region)
    if not mask.any():
        raise ConfigError("this outline encloses nothing; draw around something")
    if protect:
        mask &= (before.classes == 0) | (before.classes == class_value)
    if how == "erase":
        after = edit.set_pixels(before, mask, 0)
    elif before.objects is None:
        after = edit.set_pixels(before, mask, class_value)
        after.provenance[mask] = HUMAN
    else:
        after = _object(before, mask, points[0], class_value, how)
    return store.write_edit(task.name, before, after, what=what)


def _object(before: Window, mask: Mask, first: Point, class_value: int, how: How) -> Window:
    """Draw one object over background: in one piece, or grown out of the one it begins in."""
    y, x = (int(np.floor(value + 0.5)) for value in first)
    row = min(max(y - before.region.y, 0), before.region.height - 1)
    column = min(max(x - before.region.x, 0), before.region.width - 1)
    grown = int(before.ids[row, column]) if how == "extend" else 0
    if how == "extend" and not grown:
        raise ConfigError("begin inside the object that is to grow")
    free = mask & (before.ids == 0)
    if not free.any():
        raise ConfigError("there is an object here already; with Alt the outline erases")
    if grown:
        own = before.ids == grown
        pieces, _ = ndimage.label(free | own)
        free &= np.isin(pieces, np.unique(pieces[own]))
        value = int(before.classes[row, column])
        return edit.set_pixels(before, free, value, grown)
    pieces, n = ndimage.label(free)
    if n > 1:  # slivers beyond a neighbour are not meant
        free = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    return edit.set_pixels(before, free, class_value, edit.new_object_id(before))


def delete_inside(
    store: AnnotationStore,
    task: TaskSpec,
    points: Sequence[Point],
    *,
    only: int | None = None,
    what: str = "Lasso delete",
) -> int:
    """Delete the objects that lie mostly inside an outline; of areas everything inside.

    Parameters
    ----------
    only
        Delete this class only.

    Returns
    -------
    int
        Number of objects, or of pixels of areas.

    Raises
    ------
    ConfigError
        If there is nothing to delete.
    """
    before = reading(store, task, points)
    inside = enclosed(points, before.region)
    if before.objects is None:
        mask = inside & ((before.classes > 0) if only is None else (before.classes == only))
        if not mask.any():
            raise ConfigError("there is nothing to delete inside this outline")
        return store.write_edit(task.name, before, edit.set_pixels(before, mask, 0), what=what)
    ids = _doomed(store, task, before, inside, only)
    if not ids:
        raise ConfigError("no object lies mostly inside this outline; draw further around it")
    whole = holding(store, task, before.region, ids)
    gone = among(whole.ids, np.array(ids, np.uint32))
    store.write_edit(task.name, whole, edit.set_pixels(whole, gone, 0), what=what)
    return len(ids)


def _doomed(
    store: AnnotationStore, task: TaskSpec, window: Window, inside: Mask, only: int | None
) -> list[int]:
    """Ids of the objects, whole or not in this window, that lie mostly inside the mask."""
    found = compact(window.ids)[0]
    rows = store.object_rows(task.name, found)
    areas = dict(zip(found.tolist(), rows[:, 1].tolist(), strict=True))
    classes = dict(zip(found.tolist(), rows[:, 0].tolist(), strict=True))
    ids = objects.mostly_inside(window.ids, inside, areas).tolist()
    return [i for i in ids if only is None or classes[i] == only]
