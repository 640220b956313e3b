"""Annotations as napari shows them: outlines of objects, plain areas; computed where looked at.

Each class looks like an array to napari (``shape``, ``dtype``, ``ndim``, ``[rows, columns]``) and
reads from the store's levels when it is sliced, so nothing of the slide's size is ever held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.slides.geometry import Region

OUTLINE_PIXELS = 2
CHECKED_PIXELS = 2
FINER = (4, 2)
"""Levels finer than the store has, so that lines of two pixels stay thin when one is near."""
UNSEEN = 1
"""Value of :class:`CheckedView` for what nobody and no model has said anything about."""
DASH, DASHED = 6, 10
"""Length of a dash of the rim of accepted places, and of a dash with its gap, in shown pixels."""


class Readable(Protocol):
    """What is needed of a zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        ...

    def __getitem__(self, key: Any) -> Any:
        """Read a rectangle."""
        ...


def border(
    objects: NDArray[np.unsignedinteger[Any] | np.bool_], thickness: int = OUTLINE_PIXELS
) -> NDArray[np.bool_]:
    """Tell which pixels lie within ``thickness`` pixels of the border of their own object.

    The line lies inside the object, so neighbours that touch keep a line each. Pixels at the
    array's edge count as inside: read a margin of ``thickness`` pixels.
    """
    inside = objects != 0
    rest = inside.copy()  # what is no line
    rows, columns = objects[1:] != objects[:-1], objects[:, 1:] != objects[:, :-1]
    rest[1:] &= ~rows
    rest[:-1] &= ~rows
    rest[:, 1:] &= ~columns
    rest[:, :-1] &= ~columns
    for _ in range(thickness - 1):
        within = rest.copy()
        rest[1:] &= within[:-1]
        rest[:-1] &= within[1:]
        rest[:, 1:] &= within[:, :-1]
        rest[:, :-1] &= within[:, 1:]
    return np.asarray(inside & ~rest)


def enlarged_outlines(
    classes: NDArray[np.uint8],
    objects: NDArray[np.unsignedinteger[Any] | np.bool_],
    repeat: int,
    thickness: int = OUTLINE_PIXELS,
) -> NDArray[np.uint8]:
    """Classes on the borders of objects, everything enlarged ``repeat`` times (2 or more).

    The same as enlarging first and taking :func:`border` then, at a fraction of the work: which
    of an enlarged pixel's parts are line depends on its eight neighbours alone, as long as
    ``thickness`` is at most ``repeat`` (or 2).
    """
    around = _differing_neighbours(objects)
    lit = np.where(objects != 0, classes, 0).astype(np.uint8)
    height, width = objects.shape
    result = np.zeros((height * repeat, width * repeat), np.uint8)
    for a in range(repeat):
        for b in range(repeat):
            line = np.zeros(objects.shape, bool)
            for (dy, dx), differs in around.items():
                steps = sum((i + 1, repeat - i)[d > 0] for i, d in ((a, dy), (b, dx)) if d)
                if steps <= thickness:
                    line |= differs
            result[a::repeat, b::repeat] = lit * line
    return result


def _differing_neighbours(
    objects: NDArray[np.unsignedinteger[Any] | np.bool_],
) -> dict[tuple[int, int], NDArray[np.bool_]]:
    """For each direction (dy, dx): whether the neighbour there is of something else."""
    found = {}
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, -dy or None), slice(max(-dx, 0), -dx if dx > 0 else None))
        there = (slice(dy, None), slice(max(dx, 0), dx if dx < 0 else None))
        differs = objects[here] != objects[there]
        for part, direction in ((here, (dy, dx)), (there, (-dy, -dx))):
            whole = np.zeros(objects.shape, bool)
            whole[part] = differs
            found[direction] = whole
    return found


@dataclass(frozen=True)
class Hidden:
    """Where nothing is shown: the place that is being edited, in pixels of the store's grid."""

    region: Region | None = None


@dataclass(frozen=True)
class LevelView:
    """One level for napari, read from one level of the store.

    Parameters
    ----------
    classes, objects
        The store's arrays at this level; ``objects=None`` shows plain areas.
    repeat
        Every stored pixel is shown as ``repeat`` x ``repeat`` pixels: finer levels than the store
        has, so that a line of two pixels stays thin on screen.
    downsample
        Pixels of the store's grid per pixel of ``classes``; places :class:`Hidden`.
    hidden
        One-element list shared by all levels.
    """

    classes: Readable
    objects: Readable | None
    repeat: int
    downsample: int
    hidden: list[Hidden]

    ndim = 2
    dtype = np.dtype(np.uint8)
    chunks = (256, 256)
    """napari reads whole ones, so that small moves of the view need no reading."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in shown pixels."""
        height, width = self.classes.shape[:2]
        return height * self.repeat, width * self.repeat

    @property
    def size(self) -> int:
        """Number of shown pixels."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        """Rows, as arrays have it."""
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Read the whole level; napari asks for it of the coarsest one only."""
        values = self[:, :]
        return values if dtype is None else values.astype(dtype)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Give class values, 0 where nothing is drawn."""
        rows, columns = _bounds(key, self.shape)
        margin = OUTLINE_PIXELS
        top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
        bottom = min(rows[1] + margin, self.shape[0])
        right = min(columns[1] + margin, self.shape[1])
        if bottom <= top or right <= left:
            return np.zeros((max(rows[1] - rows[0], 0), max(columns[1] - columns[0], 0)), np.uint8)
        values = self._values(top, left, bottom, right)
        self._blank(values, top, left)
        return values[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]

    def _values(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        if self.objects is None:
            return np.array(self._read(self.classes, top, left, bottom, right), np.uint8)
        if self.repeat > 1:
            return self._enlarged(self.objects, top, left, bottom, right)
        values = np.asarray(self._read(self.classes, top, left, bottom, right), np.uint8)
        lines = border(self._read(self.objects, top, left, bottom, right))
        return np.asarray(values * lines, np.uint8)

    def _enlarged(
        self, objects: Readable, top: int, left: int, bottom: int, right: int
    ) -> NDArray[np.uint8]:
        """Outlines of shown pixels ``[top, bottom) x [left, right)``, finer than the store."""
        n = self.repeat
        y, x = top // n, left // n
        part = slice(y, -(-bottom // n)), slice(x, -(-right // n))
        lines = enlarged_outlines(np.asarray(self.classes[part]), np.asarray(objects[part]), n)
        return lines[top - y * n : bottom - y * n, left - x * n : right - x * n]

    def _read(self, array: Readable, top: int, left: int, bottom: int, right: int) -> NDArray[Any]:
        """Read shown pixels ``[top, bottom) x [left, right)`` of a stored array."""
        n = self.repeat
        y, x = top // n, left // n
        stored = np.asarray(array[y : -(-bottom // n), x : -(-right // n)])
        if n == 1:
            return stored
        shown = _repeated(stored, n)
        return shown[top - y * n : bottom - y * n, left - x * n : right - x * n]

    def _blank(self, values: NDArray[np.uint8], top: int, left: int) -> None:
        region = self.hidden[0].region
        if region is None:
            return
        size = self.repeat / self.downsample
        y, x = max(round(region.y * size) - top, 0), max(round(region.x * size) - left, 0)
        y1, x1 = max(round(region.y1 * size) - top, 0), max(round(region.x1 * size) - left, 0)
        values[y:y1, x:x1] = 0


@dataclass(frozen=True)
class CheckedView(LevelView):
    """One level of who stands behind what; ``classes`` holds provenance here.

    HUMAN is a line around what was drawn or erased by hand (outside of it, beside the outlines of
    objects), ACCEPTED a dashed line inside the border of accepted places, UNSEEN all that is
    unknown.
    """

    def _values(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        n = self.repeat
        y, x = top // n, left // n
        found = np.asarray(self.classes[y : -(-bottom // n), x : -(-right // n)])
        values = _repeated(np.multiply(found == UNKNOWN, UNSEEN, dtype=np.uint8), n)
        if int(found.max(initial=0)) >= ACCEPTED:
            rim = _rim(np.where(found == ACCEPTED, ACCEPTED, 0), found >= ACCEPTED, n)
            values += rim * _dashes((y * n, x * n), rim.shape)
            np.maximum(values, _rim(np.full_like(found, HUMAN), found != HUMAN, n), out=values)
        return values[top - y * n : bottom - y * n, left - x * n : right - x * n]


def _rim(values: NDArray[Any], mask: NDArray[np.bool_], repeat: int) -> NDArray[np.uint8]:
    """Values on the inner border of a mask, everything enlarged."""
    values = values.astype(np.uint8)
    if repeat > 1:
        return enlarged_outlines(values, mask, repeat, CHECKED_PIXELS)
    return np.asarray(values * border(mask, CHECKED_PIXELS), np.uint8)


def _dashes(corner: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Diagonal dashes that do not move when the rectangle at ``corner`` does."""
    start = sum(corner)
    line = np.arange(start, start + sum(shape)) % DASHED < DASH
    return np.lib.stride_tricks.sliding_window_view(line, shape[1])[: shape[0]]


def _repeated(values: NDArray[Any], n: int) -> NDArray[Any]:
    return values if n == 1 else values.repeat(n, axis=0).repeat(n, axis=1)


def checked_levels(provenance: Sequence[Readable]) -> list[CheckedView]:
    """Give napari's levels of who checked what, finest first, as fine as those of outlines."""
    never = [Hidden()]
    levels = [CheckedView(provenance[0], None, repeat, 1, never) for repeat in FINER]
    for index, values in enumerate(provenance):
        levels.append(CheckedView(values, None, 1, 2**index, never))
    return levels


def shown_levels(
    classes: Sequence[Readable], objects: Sequence[Readable] | None, hidden: list[Hidden]
) -> list[LevelView]:
    """Give napari's levels, finest first.

    Outlines get two levels finer than the store (4 x and 2 x). Areas get one, so that there are
    always several levels: napari indexes single ones in more ways than these views know.
    """
    first = None if objects is None else objects[0]
    finer = FINER[1:] if objects is None else FINER
    levels = [LevelView(classes[0], first, repeat, 1, hidden) for repeat in finer]
    for index, values in enumerate(classes):
        ids = None if objects is None else objects[index]
        levels.append(LevelView(values, ids, 1, 2**index, hidden))
    return levels


def _bounds(key: Any, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    keys = key if isinstance(key, tuple) else (key,)
    keys = (*keys, *(slice(None),) * (2 - len(keys)))
    ends = []
    for part, size in zip(keys, shape, strict=True):
        start, stop, step = part.indices(size)
        if step != 1:
            raise IndexError(f"step {step}; annotations are read in steps of 1")
        ends.append((start, max(stop, start)))
    return ends[0], ends[1]
