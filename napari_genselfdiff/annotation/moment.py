"""Annotations as they were at one moment, while their owner goes on changing them.

Nothing is copied for that. A chunk that was changed since is in the journal, in the file of the
step that changed it: the first step between then and now that has the chunk says what it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.arrays import CHUNK, HALVED
from napari_genselfdiff.annotation.chunks import ChunkArray
from napari_genselfdiff.annotation.files import MAX_FILE_BYTES, Files
from napari_genselfdiff.annotation.journal import Journal
from napari_genselfdiff.annotation.schema import ROOT_FILE, read_record
from napari_genselfdiff.errors import StoreCorruptError, StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.journal import Side
    from napari_genselfdiff.annotation.schema import Box, JournalRecord, StoreRecord

    Stamp = tuple[int, int, int]
    Step = tuple[int, Side]

_REPLACED = re.compile(r"labels/[^/]+/\d+/c/|tables/[^/]+/c/|rois\.json$")


class FilesThen(Files):
    """Files of a store as they were when its record was this one; only to read.

    Every read looks whether the store has a new record. It has one before any chunk is replaced,
    so what was read while the record did not change is what that record names, or in the journal.

    Parameters
    ----------
    home
        Folder of the store.
    record
        What its root said then.
    aside
        Folder of this computer where work was kept then, if it was.
    """

    def __init__(self, home: Path, record: StoreRecord, aside: Path | None) -> None:
        super().__init__(home)
        self.aside = aside
        self._then = record.journal
        self._steps = Journal(self)
        self._known: Stamp | None = None
        self._keys: dict[int, list[str]] = {}
        self._found_above: dict[tuple[str, int], set[tuple[int, ...]]] = {}
        self._dirty: Mapping[str, tuple[Box, ...]] = {}
        self.changed: dict[str, Step] = {}
        """Files that are others than then, by key, when the last one was read."""

    def read(self, key: str, limit: int = MAX_FILE_BYTES) -> bytes | None:
        """Bytes of a file then, None if there was none; errors as of ``Files.read``.

        Raises
        ------
        StoreError
            If the step that changed it is gone from the journal.
        """
        if not _REPLACED.match(key):
            return super().read(key, limit)
        while True:
            stamp = self._stamp()
            data = super().read(key, limit)
            if self._look_at(stamp):
                break
        step = self.changed.get(key)
        if step is None:
            return data
        try:
            return self._steps.side(*step, key)
        except StoreCorruptError as err:
            raise _lost(self.home) from err

    def differs_below(self, array: str, level: int, block: tuple[int, ...]) -> bool:
        """Whether a chunk of a coarser level may not show what level 0 was then."""
        if block in self._above(array, level):
            return True
        side = CHUNK << level
        below = Region(block[0] * side, block[1] * side, side, side)
        boxes = self._dirty.get(array.removeprefix("labels/").rpartition(".")[0], ())
        return any(below.intersection(Region(*box)) is not None for box in boxes)

    def _above(self, array: str, level: int) -> set[tuple[int, ...]]:
        """Chunks of a coarser level above those of level 0 that are others now; found once."""
        if (array, level) not in self._found_above:
            start = f"{array}/0/c/"
            places = (key.removeprefix(start) for key in self.changed if key.startswith(start))
            self._found_above[array, level] = {
                tuple(int(number) >> level for number in place.split("/")) for place in places
            }
        return self._found_above[array, level]

    def _stamp(self) -> Stamp:
        """Tell the present record from every other one, which is a file of its own."""
        found = self.find(ROOT_FILE).stat()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _look_at(self, stamp: Stamp) -> bool:
        """Bring ``changed`` up to date with the record of a stamp; False if that is gone by now."""
        if stamp == self._known:
            return stamp == self._stamp()
        now = read_record(self.find(ROOT_FILE).parent)
        if stamp != self._stamp():
            return False
        found: dict[str, Step] = {}
        try:
            for op_id, side in _way(self._then, now.journal):
                if op_id not in self._keys:  # what a step changed, and its number, stay its own
                    self._keys[op_id] = self._steps.keys(op_id)
                for key in self._keys[op_id]:
                    found.setdefault(key, (op_id, side))
        except StoreCorruptError as err:
            if stamp != self._stamp():
                return False
            raise _lost(self.home) from err
        self.changed, self._dirty, self._known = found, now.dirty, stamp
        self._found_above.clear()
        return True


class LevelThen(ChunkArray):
    """A coarser level of a label array then, made from the finer one where it is another one now.

    Parameters
    ----------
    finer
        The level below, as it was then.
    coarser
        This level, as it is now.
    files
        Files of the store then.
    """

    def __init__(self, finer: ChunkArray, coarser: ChunkArray, files: FilesThen) -> None:
        shape, chunks = coarser.shape, coarser.chunks
        super().__init__(files, coarser.key, shape, chunks, coarser.dtype.name)
        self._finer, self._then = finer, files
        self._array, _, level = coarser.key.rpartition("/")
        self._level = int(level)

    def _load(self, block: tuple[int, ...]) -> NDArray[Any] | None:
        stored = super()._load(block)
        if not self._then.differs_below(self._array, self._level, block):
            return stored
        sides = zip(block, self.chunks, strict=True)
        fine = self._finer.read(tuple(slice(2 * b * c, 2 * (b + 1) * c) for b, c in sides))
        reduced = HALVED[self._array.rpartition(".")[2]](fine)
        chunk = np.zeros(self.chunks, self.dtype)
        chunk[: reduced.shape[0], : reduced.shape[1]] = reduced
        return chunk


def _way(then: JournalRecord, now: JournalRecord) -> Iterator[Step]:
    """Steps from then to now, each with the side that says what was before it."""
    kept = then.done
    if now.done and now.done[0] in kept:  # the oldest are forgotten, but what they did is there
        kept = kept[kept.index(now.done[0]) :]
    common = 0
    while common < min(len(kept), len(now.done)) and kept[common] == now.done[common]:
        common += 1
    for op_id in reversed(kept[common:]):
        yield op_id, "after"
    for op_id in now.done[common:]:
        yield op_id, "before"
    for journal in (now, then):  # chunks of the newest step may not be in their places yet
        if journal.applying is not None:
            yield journal.applying.op, journal.applying.side


def _lost(home: Path) -> StoreError:
    return StoreError(
        f"the annotations {home.name} were changed so much meanwhile that they can no longer be "
        "shown as they were; do it again"
    )
