"""Edits of whole objects of the annotations, wherever they reach; each is one step of history.

Points and pixels are (y, x) of the task's grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.annotation import edit, objects
from napari_genselfdiff.annotation.labelling import among
from napari_genselfdiff.annotation.paths import bounds
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.annotation.objects import Split
    from napari_genselfdiff.annotation.paths import Mask, Point
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.registry.card import TaskSpec

MAX_REACH: Final = 4096
"""Longest side, in pixels of the grid, of what one edit may read and write."""
_AROUND: Final = 12  # pixels around an object in which smoothing and merging look for neighbours


def split(store: AnnotationStore, task: TaskSpec, points: Sequence[Point]) -> Split:
    """Cut the objects under a line.

    Raises
    ------
    ConfigError
        If there is no object under it, or it cuts through none.
    """
    ids = _under(store, task, points)
    if not ids:
        raise ConfigError("there is no object under this line; draw it across one")
    before = holding(store, task, bounds(points), ids)
    after, done = objects.split_objects(before, points)
    if not done.cut:
        raise ConfigError(
            "the line does not cut through the object; begin and end it outside of the outline"
        )
    store.write_edit(task.name, before, after, what="Split")
    return done


def merge(store: AnnotationStore, task: TaskSpec, points: Sequence[Point]) -> int:
    """Make the objects under a line one, that of its beginning; how many they were.

    Errors as for :func:`~napari_genselfdiff.annotation.objects.merge_objects`.
    """
    ids = _under(store, task, points)
    if not ids:
        raise ConfigError("there is no object under this line; draw from one across to another")
    before = holding(store, task, bounds(points), ids)
    store.write_edit(task.name, before, objects.merge_objects(before, ids), what="Merge")
    return len(ids)


def fill_holes(store: AnnotationStore, task: TaskSpec, y: int, x: int) -> bool:
    """Fill the holes of the object at a pixel; False if there are none."""
    before, object_id = object_at(store, task, y, x)
    after = objects.fill_holes(before, object_id)
    if np.array_equal(after.ids, before.ids):
        return False
    store.write_edit(task.name, before, after, what="Fill holes")
    return True


def smooth(store: AnnotationStore, task: TaskSpec, y: int, x: int) -> bool:
    """Round off the outline of the object at a pixel; False if it is smooth already."""
    before, object_id = object_at(store, task, y, x)
    after = objects.smooth(before, object_id)
    if np.array_equal(after.ids, before.ids):
        return False
    store.write_edit(task.name, before, after, what="Smooth")
    return True


def change_class(store: AnnotationStore, task: TaskSpec, y: int, x: int, value: int) -> bool:
    """Give the object at a pixel a class; False if it has it already."""
    before, object_id = object_at(store, task, y, x)
    after = objects.vouch(edit.change_class(before, object_id, value), object_id)
    if np.array_equal(after.classes, before.classes):
        return False
    store.write_edit(task.name, before, after, what="Change class")
    return True


def delete_object(store: AnnotationStore, task: TaskSpec, y: int, x: int) -> int:
    """Delete the object at a pixel of the task's grid; give its id, 0 if there is none."""
    object_id = _id_at(store, task, y, x)
    if object_id:
        before = holding(store, task, Region(y, x, 1, 1), [object_id])
        after = edit.delete_object(before, object_id)
        store.write_edit(task.name, before, after, what="Delete")
    return object_id


def object_at(store: AnnotationStore, task: TaskSpec, y: int, x: int) -> tuple[Window, int]:
    """Window that holds the object at a pixel whole, and its id; ConfigError if there is none."""
    object_id = _id_at(store, task, y, x)
    if not object_id:
        raise ConfigError("there is no object here; click inside an outline")
    return holding(store, task, Region(y, x, 1, 1), [object_id]), object_id


def holding(store: AnnotationStore, task: TaskSpec, region: Region, ids: Sequence[int]) -> Window:
    """Read a window around a region that holds these objects whole, and their surroundings.

    Raises
    ------
    ConfigError
        If they reach further than :data:`MAX_REACH`.
    """
    wanted = np.array(sorted(ids), np.uint32)
    area = int(store.object_rows(task.name, wanted)[:, 1].sum())
    margin = 64
    while True:
        window = store.read(task.name, region.padded(margin))
        mask = among(window.ids, wanted)
        if int(mask.sum()) >= area:
            return _trimmed(window, mask)
        if margin >= MAX_REACH:
            raise ConfigError(
                f"this object reaches further than {MAX_REACH:,} pixels; use brush and eraser"
            )
        margin *= 2


def reading(store: AnnotationStore, task: TaskSpec, points: Sequence[Point]) -> Window:
    """Read the window a path lies in; ConfigError if it is too large or off the slide."""
    region = bounds(points).padded(_AROUND)
    if max(region.shape) > MAX_REACH:
        raise ConfigError(
            f"a path over {max(region.shape):,} pixels; up to {MAX_REACH:,} fit, draw it in pieces"
        )
    return store.read(task.name, region)


def _trimmed(window: Window, mask: Mask) -> Window:
    """Leave out what lies far from the mask; edits would only copy it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return window
    y, x = window.region.y, window.region.x
    box = Region.from_bounds(y + rows[0], x + columns[0], y + rows[-1] + 1, x + columns[-1] + 1)
    part = box.padded(_AROUND).intersection(window.region)
    return window if part is None else window.cropped(part).copy()


def _under(store: AnnotationStore, task: TaskSpec, points: Sequence[Point]) -> list[int]:
    """Ids of the objects under a path, in its order; none for areas."""
    if task.kind != "objects":
        raise ConfigError(f"{task.name} has areas, not objects; draw with brush, fill or lasso")
    return objects.on_line(reading(store, task, points), points)


def _id_at(store: AnnotationStore, task: TaskSpec, y: int, x: int) -> int:
    spot = Region(y, x, 1, 1).clipped(store.shape(task.name))
    if spot is None or task.kind != "objects":
        return 0
    return int(store.read(task.name, spot).ids[0, 0])
