"""Editing a rectangle: take it from the store, give back what the user changed, and only that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.annotation.labelling import compact
from napari_genselfdiff.annotation.window import HUMAN, Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.registry.card import TaskSpec

NOTHING: Final = 2**16 - 1
"""Painted value: there is nothing here (background, vouched for by a person)."""
MAX_SIDE: Final = 4096
"""Longest side of an edit window in pixels of the task's grid."""


class EditWindow:
    """One rectangle of a task while it is edited.

    The editor paints *values* (uint16: what napari colours fast): numbers of objects within this
    window, or classes for areas; 0 is background as it was found, :data:`NOTHING` background
    somebody vouches for. ``save`` compares them with what was taken, so nothing is lost however
    they were painted.

    Parameters
    ----------
    store
        The open annotations; must be writable.
    task
        The task to edit.
    region
        Pixels of the task's grid, inside it.
    """

    def __init__(self, store: AnnotationStore, task: TaskSpec, region: Region) -> None:
        if max(region.shape) > MAX_SIDE:
            raise ConfigError(
                f"{region.height} x {region.width} pixels on screen are too many to edit at once "
                f"(at most {MAX_SIDE} a side); zoom in"
            )
        self._store, self._task = store, task
        self._window = store.read(task.name, region)
        self._ids = [0]  # of the store, by number
        self._numbers = {0: 0}  # the other way round
        self._classes: dict[int, int] = {}  # by number
        self._shown = self._values(self._window)

    @property
    def region(self) -> Region:
        """The rectangle, in pixels of the task's grid."""
        return self._window.region

    @property
    def class_of_values(self) -> dict[int, int]:
        """Class of every value, also of objects painted but not saved."""
        return dict(self._classes)

    def values(self) -> NDArray[np.uint16]:
        """Values to paint on, (h, w) uint16, a copy."""
        return self._shown.copy()

    def new_value(self, class_value: int) -> int:
        """Value to paint something new of a class with: a new object, or the area's class."""
        if self._task.kind != "objects":
            return class_value
        return self._number(None, class_value)

    def at(self, y: int, x: int) -> tuple[int, int]:
        """Value and class at a pixel of the task's grid; (0, 0) outside."""
        if not self.region.contains(Region(y, x, 1, 1)):
            return 0, 0
        value = int(self._shown[y - self.region.y, x - self.region.x])
        return value, self._classes.get(value, 0)

    def filled(
        self, painted: NDArray[np.uint16], y: int, x: int, class_value: int
    ) -> NDArray[np.uint16]:
        """Values after a click of the Fill tool at a pixel of the task's grid.

        Background that a line encloses becomes part of the object that encloses it (of areas: gets
        the class); an object that is clicked gets the class.

        Raises
        ------
        ConfigError
            If the background is open towards the window's border.
        """
        if not self.region.contains(Region(y, x, 1, 1)):
            raise ConfigError("that place is not on screen; click inside the view")
        seed = (y - self.region.y, x - self.region.x)
        old = int(painted[seed])
        after = painted.copy()
        if self._task.kind != "objects":
            after[_connected(painted, seed)] = class_value
            return after
        if old not in (0, NOTHING):
            after[painted == old] = self.new_value(class_value)
            return after
        mask = _connected(np.where(painted == NOTHING, 0, painted), seed)
        if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
            raise ConfigError("that background is open; draw a closed line around it first")
        after[mask] = self._enclosing(painted, mask, class_value)
        return after

    def save(self, painted: NDArray[np.uint16], what: str) -> int:
        """Write what differs from what was taken; give the number of changed pixels.

        Parameters
        ----------
        painted
            Values, (h, w) uint16.
        what
            Name of the operation in the history, as people read it.
        """
        changed = painted != self._shown
        if not changed.any():
            return 0
        box = _box(changed | self._shares_object(painted[changed]))
        part = box.slices
        before = self._window.cropped(box.shifted(self.region.y, self.region.x)).copy()
        after = before.copy()
        self._apply(after, painted[part], changed[part])
        pixels = self._store.write_edit(self._task.name, before, after, what=what)
        self.reread(before.region)
        return pixels

    def reread(self, region: Region) -> tuple[NDArray[np.uint16], int, int] | None:
        """Read again what the store holds in ``region``.

        Returns
        -------
        tuple or None
            Values, and the row and column of the window where they begin; None if the window does
            not reach there.
        """
        part = self.region.intersection(region)
        if part is None:
            return None
        now = self._store.read(self._task.name, part)
        mine = self._window.cropped(part)
        mine.classes[...], mine.provenance[...] = now.classes, now.provenance
        if mine.objects is not None and now.objects is not None:
            mine.objects[...] = now.objects
        y, x = part.y - self.region.y, part.x - self.region.x
        values = self._values(now)
        self._shown[y : y + part.height, x : x + part.width] = values
        return values, y, x

    def _shares_object(self, painted: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Pixels of objects that were painted on; without them the store would see new objects."""
        extended = np.zeros(NOTHING + 1, bool)
        extended[painted] = self._task.kind == "objects"
        extended[[0, NOTHING]] = False
        return np.asarray(extended[self._shown])

    def _apply(
        self, after: Window, painted: NDArray[np.uint16], changed: NDArray[np.bool_]
    ) -> None:
        """Turn painted values into ids and classes, where they changed."""
        values = np.where(painted == NOTHING, 0, painted)
        if after.objects is None:
            after.classes[changed] = values[changed].astype(np.uint8)
        else:
            size = len(self._ids)
            ids = np.array(self._ids, np.uint32)
            # An object without an id gets one no object here has; the store numbers it anew.
            fresh = np.flatnonzero(ids == 0)[1:]
            ids[fresh] = np.uint32(2**32 - 2) - np.arange(len(fresh), dtype=np.uint32)
            classes = np.array([self._classes.get(value, 0) for value in range(size)], np.uint8)
            after.objects[changed] = ids[values[changed]]
            after.classes[changed] = classes[values[changed]]
        after.provenance[changed] = HUMAN

    def _values(self, window: Window) -> NDArray[np.uint16]:
        """Values of what the store holds."""
        if window.objects is None:
            return window.classes.astype(np.uint16)
        ids, codes = compact(window.objects)
        classes = np.zeros(len(ids), np.uint8)
        classes[codes] = window.classes  # every pixel of an object has its class
        pairs = zip(ids.tolist(), classes.tolist(), strict=True)
        table = np.array([self._number(i, c) if i else 0 for i, c in pairs], np.uint16)
        return np.asarray(table[codes])

    def _number(self, object_id: int | None, class_value: int) -> int:
        """Number of an object of the store, or of a new one."""
        number = None if object_id is None else self._numbers.get(object_id)
        if number is None:
            number = len(self._ids)
            if number >= NOTHING:
                raise ConfigError(
                    "too many objects to edit at once; zoom in and take the tool again"
                )
            self._ids.append(object_id or 0)
            if object_id is not None:
                self._numbers[object_id] = number
        self._classes[number] = class_value
        return number

    def _enclosing(
        self, painted: NDArray[np.uint16], mask: NDArray[np.bool_], class_value: int
    ) -> int:
        """The object with most pixels along the mask, or a new one."""
        from scipy.ndimage import binary_dilation

        rim = painted[binary_dilation(mask) & ~mask]
        values, counts = np.unique(rim[(rim > 0) & (rim < NOTHING)], return_counts=True)
        return int(values[counts.argmax()]) if values.size else self.new_value(class_value)


def with_surroundings(view: Region, shape: tuple[int, int]) -> Region:
    """Half a view more on each side, so that small moves need no new window; within ``shape``."""
    spare = (MAX_SIDE - max(view.shape)) // 2
    wide = view.padded(max(0, min(max(view.shape) // 2, spare))).clipped(shape)
    return wide or view


def delete_object(store: AnnotationStore, task: TaskSpec, y: int, x: int) -> int:
    """Delete the object at a pixel of the task's grid; give its id, 0 if there is none."""
    shape = store.shape(task.name)
    spot = Region(y, x, 1, 1).clipped(shape)
    if spot is None or task.kind != "objects":
        return 0
    object_id = int(store.read(task.name, spot).ids[0, 0])
    if not object_id:
        return 0
    before = _whole_object(store, task, spot, object_id)
    after = before.copy()
    mask = before.ids == object_id
    after.classes[mask], after.ids[mask], after.provenance[mask] = 0, 0, HUMAN
    store.write_edit(task.name, before, after, what="Delete")
    return object_id


def _whole_object(store: AnnotationStore, task: TaskSpec, spot: Region, object_id: int) -> Window:
    """Read a window the object does not leave, or the largest one."""
    margin = 64
    while True:
        window = store.read(task.name, spot.padded(margin))
        mask = window.ids == object_id
        rim = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        if not rim or margin >= MAX_SIDE // 2:
            return window
        margin *= 2


def _connected(values: NDArray[np.uint16], seed: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of one value that hang together with the seed."""
    from skimage import segmentation

    found = segmentation.flood(values, seed, connectivity=1)  # type: ignore[no-untyped-call]
    return np.asarray(found != 0)


def _box(mask: NDArray[np.bool_]) -> Region:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Region.from_bounds(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
