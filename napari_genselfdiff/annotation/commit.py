"""Turning changed windows into the chunks, tables and totals of one operation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.arrays import (
    AREA_COLUMN,
    CHUNK,
    CLASS_COLUMN,
    CONFIDENCE_UNITS,
    TaskArrays,
    table_parts,
)
from napari_genselfdiff.annotation.labelling import compact, counts, majority_class
from napari_genselfdiff.annotation.pyramid import aligned
from napari_genselfdiff.annotation.window import HUMAN, UNKNOWN, Window
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.chunks import ChunkArray
    from napari_genselfdiff.annotation.journal import Transaction
    from napari_genselfdiff.annotation.labelling import Ids
    from napari_genselfdiff.annotation.schema import OperationRecord

MAX_BOXES = 64
_LITTLE_MORE = 1.05  # of the pixels of two boxes, for the one around them


@dataclass
class Staging:
    """Changes of one task on their way into a transaction; each chunk may come once.

    ``pixels`` and ``objects`` are how the totals per class value move, ``boxes`` what changed (in
    pixels of the grid), ``changed`` the number of pixels.
    """

    arrays: TaskArrays
    transaction: Transaction
    pixels: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    boxes: list[Region] = field(default_factory=list)
    changed: int = 0
    _areas: dict[int, tuple[int, int]] = field(default_factory=dict)
    _confidences: dict[int, float] = field(default_factory=dict)
    _coverage: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)

    def add(self, after: Window, stored: Window | None = None) -> None:
        """Stage a window; only chunks that differ from what is stored are written.

        ``stored`` is what lies there and around it up to the borders of chunks, if it was read.
        """
        after_region = after.region.clipped(self.arrays.shape)
        if after_region is None:
            return
        after = after.cropped(after_region)
        if stored is None:
            stored = read_window(self.arrays, on_chunks(after_region, self.arrays.shape))
        changed = self._changed(stored.cropped(after_region), after)
        if changed is None:
            return
        self.boxes.append(changed)
        region = on_chunks(changed, self.arrays.shape)
        old = stored.cropped(region)
        new, after = old.copy(), after.cropped(changed)
        part = new.cropped(changed)
        part.classes[...], part.provenance[...] = after.classes, after.provenance
        if after.objects is not None:
            part.ids[...] = after.objects
        self._put("classes", region, old.classes, new.classes)
        self._put("provenance", region, old.provenance, new.provenance)
        self.pixels.update(_class_delta(old.classes, new.classes))
        self._cover(region, old.provenance, new.provenance)
        if after.objects is not None:
            self._put("objects", region, old.ids, new.ids)
            self._measure(old, new)
            self._confidences.update(after.confidences)

    def finish(self) -> None:
        """Stage the table of objects and the coverage map."""
        self._finish_table()
        self._finish_confidences()
        self._finish_coverage()
        if len(self.boxes) > MAX_BOXES:
            self.boxes = [bounding_box(self.boxes)]

    def _changed(self, old: Window, new: Window) -> Region | None:
        differs = (old.classes != new.classes) | (old.provenance != new.provenance)
        if old.objects is not None:
            differs |= old.ids != new.ids
        self.changed += int(np.count_nonzero(differs))
        rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
        if not len(rows):
            return None
        y, x = old.region.y, old.region.x
        return Region.from_bounds(
            y + rows[0], x + columns[0], y + rows[-1] + 1, x + columns[-1] + 1
        )

    def _put(self, name: str, region: Region, old: NDArray[Any], new: NDArray[Any]) -> None:
        for key, data in self.arrays.stored[name].encode((region.y, region.x), old, new):
            self.transaction.put(key, data)

    def _cover(self, region: Region, old: NDArray[np.uint8], new: NDArray[np.uint8]) -> None:
        for y in range(0, region.height, CHUNK):
            for x in range(0, region.width, CHUNK):
                part = (slice(y, y + CHUNK), slice(x, x + CHUNK))
                if not np.array_equal(old[part], new[part]):
                    at = (region.y + y) // CHUNK, (region.x + x) // CHUNK
                    pixels = np.bincount(new[part].ravel(), minlength=HUMAN + 1)
                    self._coverage[at] = pixels[UNKNOWN + 1 :]

    def _measure(self, old: Window, new: Window) -> None:
        """Note how the pixel counts of objects move, and the class they have now."""
        differs = old.ids != new.ids
        differs |= old.classes != new.classes
        for window, sign in ((old, -1), (new, 1)):
            ids, codes = compact(window.ids[differs])
            areas = counts(codes, len(ids))
            classes = majority_class(codes, window.classes[differs], len(ids))
            for object_id, area, value in zip(
                ids[1:].tolist(), areas[1:].tolist(), classes[1:].tolist(), strict=True
            ):
                total, known = self._areas.get(object_id, (0, 0))
                self._areas[object_id] = (total + sign * area, value if sign > 0 else known)

    def _finish_table(self) -> None:
        table = self.arrays.table
        if table is None or not self._areas:
            return
        ids: Ids = np.array(sorted(self._areas), np.uint32)
        moved = np.array([self._areas[i] for i in ids.tolist()], np.int64)
        old = self.arrays.rows(ids)
        areas = old[:, AREA_COLUMN].astype(np.int64) + moved[:, 0]
        classes = np.where(moved[:, 1] > 0, moved[:, 1], old[:, CLASS_COLUMN])
        new = np.stack([np.where(areas > 0, classes, 0), np.maximum(areas, 0)], axis=1)
        for rows, sign in ((old, -1), (new, 1)):
            values = np.bincount(rows[:, CLASS_COLUMN].astype(np.intp), minlength=256)
            self.objects.update(
                {str(v): sign * int(values[v]) for v in np.flatnonzero(values) if v > 0}
            )
        self._put_rows(table, ids, new)

    def _put_rows(self, table: ChunkArray, ids: Ids, rows: NDArray[Any]) -> None:
        """Stage rows, ``(n, columns)``, of a table of objects."""
        for part, here in table_parts(table, ids):
            old, start = table.read(part), part[0].start
            new = old.copy()
            new[ids[here] - start] = rows[here]
            for key, data in table.encode((start, 0), old, new):
                self.transaction.put(key, data)

    def _finish_confidences(self) -> None:
        """Stage what a model said of its objects."""
        if not self._confidences:
            return
        ids: Ids = np.array(sorted(self._confidences), np.uint32)
        stated = np.array([self._confidences[i] for i in ids.tolist()])
        # 0 means that nobody said anything.
        values = np.clip(np.round(stated * CONFIDENCE_UNITS), 1, CONFIDENCE_UNITS)
        self._put_rows(self.arrays.confidence, ids, values[:, None])

    def _finish_coverage(self) -> None:
        coverage = self.arrays.coverage
        side = coverage.chunks[0]
        blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for at in self._coverage:
            blocks.setdefault((at[0] // side, at[1] // side), []).append(at)
        for (by, bx), members in blocks.items():
            y, x = by * side, bx * side
            old = coverage.read((slice(y, y + side), slice(x, x + side), slice(None)))
            new = old.copy()
            for at in members:
                new[at[0] - y, at[1] - x] = self._coverage[at]
            for key, data in coverage.encode((y, x, 0), old, new):
                self.transaction.put(key, data)


@dataclass(frozen=True)
class Staged:
    """An operation that lies ready beside the annotations; ``changed`` pixels would be different.

    It fits what was stored when it was staged, and nothing of it is shown or stored yet.
    """

    transaction: Transaction
    meta: OperationRecord
    changed: int


def read_window(arrays: TaskArrays, region: Region) -> Window:
    """Read a region (inside the grid) of every array of a task."""
    values = {name: stored.read(region.slices) for name, stored in arrays.stored.items()}
    return Window(region, values["classes"], values.get("objects"), values["provenance"])


def on_chunks(region: Region, shape: tuple[int, int]) -> Region:
    """Smallest rectangle of whole chunks, or up to the grid's end, around a region of the grid."""
    return aligned(region, CHUNK).clipped(shape) or region


def bounding_box(boxes: list[Region]) -> Region:
    """Smallest region that covers all of these."""
    return Region.from_bounds(
        min(box.y for box in boxes),
        min(box.x for box in boxes),
        max(box.y1 for box in boxes),
        max(box.x1 for box in boxes),
    )


def joined(boxes: list[Region]) -> list[Region]:
    """Boxes that cover the same and hardly more, neighbours made one; fewer of them, often."""
    result: list[Region] = []
    for box in sorted(boxes, key=lambda box: (box.y, box.x)):
        for at, other in enumerate(result):
            both = bounding_box([other, box])
            if both.area <= _LITTLE_MORE * (other.area + box.area):
                result[at] = both
                break
        else:
            result.append(box)
    return result


def _class_delta(old: NDArray[np.uint8], new: NDArray[np.uint8]) -> dict[str, int]:
    differs = old != new
    moved = np.bincount(new[differs], minlength=256) - np.bincount(old[differs], minlength=256)
    return {str(value): int(moved[value]) for value in np.flatnonzero(moved) if value > 0}
