"""Editing a rectangle: take it from the store, give back what the user changed, and only that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from napari_genselfdiff.annotation.edit import capsule
from napari_genselfdiff.annotation.labelling import compact
from napari_genselfdiff.annotation.window import HUMAN, UNKNOWN, Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.registry.card import TaskSpec

NOTHING: Final = 2**16 - 1
"""Painted value: there is nothing here (background, vouched for by a person)."""
FORGOTTEN: Final = NOTHING - 1
"""Painted value: unknown again, as if nobody had looked."""
_CLEAR: Final = (0, FORGOTTEN, NOTHING)  # values without an object or a class
MAX_SIDE: Final = 4096
"""Longest side of an edit window in pixels of the task's grid."""


Brush = Literal["paint", "erase", "forget"]


@dataclass(frozen=True)
class Stroke:
    """What a brush paints: a value, and over which ones (a flag for each of the 65,536)."""

    value: int
    over: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Saved:
    """What saving did: changed pixels, and where (of the task's grid; None where nothing was)."""

    pixels: int
    region: Region | None


class EditWindow:
    """One rectangle of a task while it is edited.

    The editor paints *values* (uint16: what napari colours fast): numbers of objects within this
    window, or classes for areas; 0 is background as it was found, :data:`NOTHING` background
    somebody vouches for, :data:`FORGOTTEN` what is to be unknown again. ``save`` compares them with
    what was taken, so nothing is lost however they were painted.

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
    def store(self) -> AnnotationStore:
        """Where the rectangle was taken from."""
        return self._store

    @property
    def task(self) -> TaskSpec:
        """The task that is edited, with the classes it has now."""
        return self._store.tasks.get(self._task.name, self._task)

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

    def stroke(
        self, brush: Brush, class_value: int, at: tuple[int, int] | None, *, protect: bool = False
    ) -> Stroke:
        """Begin a stroke at a pixel of the task's grid.

        Parameters
        ----------
        brush
            "paint": begun inside an object of the class the stroke extends it, elsewhere it draws
            a new one, and never over other objects; areas are painted over. "erase": there is
            nothing here. "forget": unknown again.
        class_value
            The class in hand.
        protect
            Leave pixels of other classes as they are.
        """
        objects = self._task.kind == "objects"
        value = {"erase": NOTHING, "forget": FORGOTTEN}.get(brush, 0)
        if not value:
            found, of = (0, 0) if at is None else self.at(*at)
            value = found if found and of == class_value else self.new_value(class_value)
        if brush == "paint" and (objects or protect):
            over = np.zeros(NOTHING + 1, bool)
            over[[*_CLEAR, value]] = True
            return Stroke(value, over)
        over = np.ones(NOTHING + 1, bool)
        if protect:
            others = [number for number, of in self._of_values().items() if of != class_value]
            over[others] = False
        return Stroke(value, over)

    def dab(
        self,
        painted: NDArray[np.uint16],
        start: tuple[float, float],
        end: tuple[float, float],
        radius: float,
        stroke: Stroke,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the window that a round brush changes on its way.

        ``start`` and ``end`` are (y, x) of the task's grid, ``radius`` is in its pixels.
        """
        part, near = capsule(start, end, radius, self.region)
        there = painted[part]
        rows, columns = np.nonzero(near & (there != stroke.value) & stroke.over[there])
        return rows + part[0].start, columns + part[1].start

    def filled(
        self,
        painted: NDArray[np.uint16],
        y: int,
        x: int,
        class_value: int,
        *,
        protect: bool = False,
    ) -> NDArray[np.uint16]:
        """Values after a click of the Fill tool at a pixel of the task's grid.

        Background that a line encloses becomes part of the object that encloses it (of areas: gets
        the class); an object that is clicked gets the class. ``protect`` leaves other classes.

        Raises
        ------
        ConfigError
            If the background is open towards the window's border, or the class is protected.
        """
        if not self.region.contains(Region(y, x, 1, 1)):
            raise ConfigError("that place is not on screen; click inside the view")
        seed = (y - self.region.y, x - self.region.x)
        old = int(painted[seed])
        after = painted.copy()
        if protect and self._of_values().get(old, class_value) != class_value:
            raise ConfigError("this has another class, which is protected at present")
        if self._task.kind != "objects":
            after[_connected(painted, seed)] = class_value
            return after
        if old not in _CLEAR:
            after[painted == old] = self.new_value(class_value)
            return after
        mask = _connected(_without_marks(painted), seed)
        if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
            raise ConfigError("that background is open; draw a closed line around it first")
        after[mask] = self._enclosing(painted, mask, class_value)
        return after

    def save(self, painted: NDArray[np.uint16], what: str) -> Saved:
        """Write what differs from what was taken, and read it again.

        Parameters
        ----------
        painted
            Values, (h, w) uint16. New objects keep the values they were painted with.
        what
            Name of the operation in the history, as people read it.
        """
        changed = painted != self._shown
        if not changed.any():
            return Saved(0, None)
        box = _box(changed)
        strange = np.setdiff1d(painted[box.slices], self._shown[box.slices])
        known = [value for value in strange.tolist() if value in self._numbers.values()]
        if self._task.kind == "objects" and known:
            # Objects reached from elsewhere: without a pixel of theirs the store sees new ones.
            box = _box(changed | np.isin(self._shown, known))
        part = box.slices
        before = self._window.cropped(box.shifted(self.region.y, self.region.x)).copy()
        after = before.copy()
        self._apply(after, painted[part], changed[part])
        pixels = self._store.write_edit(self._task.name, before, after, what=what)
        self._learn_ids(painted[part], before.region)
        self.reread(before.region)
        return Saved(pixels, before.region)

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

    def _of_values(self) -> dict[int, int]:
        """Class of every value that has one."""
        if self._task.kind == "objects":
            return self._classes
        return {value: value for value in range(1, 256)}

    def _apply(
        self, after: Window, painted: NDArray[np.uint16], changed: NDArray[np.bool_]
    ) -> None:
        """Turn painted values into ids and classes, where they changed."""
        values = _without_marks(painted)[changed]
        if after.objects is None:
            known = [0, *(spec.value for spec in self.task.classes)]
            good = np.isin(values, known)  # napari's own brush knows no classes
            changed[changed] = good
            after.classes[changed] = values[good].astype(np.uint8)
        else:
            for stranger in np.unique(values[values >= len(self._ids)]).tolist():
                values[values == stranger] = self._number(None, self.task.classes[0].value)
            ids = np.array(self._ids, np.uint32)
            # An object without an id gets one no object here has; the store numbers it anew.
            fresh = np.flatnonzero(ids == 0)[1:]
            ids[fresh] = np.uint32(2**32 - 2) - np.arange(len(fresh), dtype=np.uint32)
            classes = [self._classes.get(value, 0) for value in range(len(self._ids))]
            after.objects[changed] = ids[values]
            after.classes[changed] = np.array(classes, np.uint8)[values]
        after.provenance[changed] = HUMAN
        after.provenance[changed & (painted == FORGOTTEN)] = UNKNOWN

    def _learn_ids(self, painted: NDArray[np.uint16], region: Region) -> None:
        """Note which ids the store gave to what was new, so that its values stay."""
        if self._task.kind != "objects":
            return
        now = self._store.read(self._task.name, region).ids
        for value in np.unique(painted[(painted > 0) & (painted < len(self._ids))]).tolist():
            if self._ids[value] == 0:
                given = now[painted == value]
                object_id = int(given.max(initial=0))
                if object_id and object_id not in self._numbers:
                    self._ids[value], self._numbers[object_id] = object_id, value

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
            if number >= FORGOTTEN:
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
        values, counts = np.unique(rim[(rim > 0) & (rim < FORGOTTEN)], return_counts=True)
        return int(values[counts.argmax()]) if values.size else self.new_value(class_value)


def with_surroundings(view: Region, shape: tuple[int, int]) -> Region:
    """Half a view more on each side, so that small moves need no new window; within ``shape``."""
    spare = (MAX_SIDE - max(view.shape)) // 2
    wide = view.padded(max(0, min(max(view.shape) // 2, spare))).clipped(shape)
    return wide or view


def _without_marks(painted: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Values with plain background for what is marked as nothing or as unknown."""
    return np.where(painted >= FORGOTTEN, np.uint16(0), painted)


def _connected(values: NDArray[np.uint16], seed: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of one value that hang together with the seed."""
    from skimage import segmentation

    found = segmentation.flood(values, seed, connectivity=1)  # type: ignore[no-untyped-call]
    return np.asarray(found != 0)


def _box(mask: NDArray[np.bool_]) -> Region:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Region.from_bounds(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
