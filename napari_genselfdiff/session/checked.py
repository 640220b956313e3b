"""How much of each class a person stands behind, counted piece by piece while nothing else runs.

Only places a person looked at are read, once each; a change makes its own places count anew.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.arrays import CHUNK
from napari_genselfdiff.annotation.window import ACCEPTED
from napari_genselfdiff.errors import StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore

Place = tuple[int, int]


class CheckedClasses:
    """Pixels of each class of a task that were accepted or done by hand.

    Parameters
    ----------
    store, task
        The open annotations and the name of one of their tasks.
    """

    def __init__(self, store: AnnotationStore, task: str) -> None:
        self._store, self._task = store, task
        self._counted: dict[Place, NDArray[np.int64]] = {}
        self._waiting: set[Place] = set()
        self.refresh(None)

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return not self._waiting

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Checked pixels by class value, (256,); value 0 is checked background."""
        total = np.zeros(256, np.int64)
        for counts in self._counted.values():
            total += counts
        return total

    def refresh(self, region: Region | None) -> None:
        """Note that a region of the task's grid changed; None for anything."""
        coverage = self._store.coverage(self._task)
        known = {
            (int(row), int(column))
            for row, column in np.argwhere(coverage[..., ACCEPTED - 1 :].any(axis=2))
        }
        stale = {place for place in known if region is None or _touches(place, region)}
        self._counted = {
            place: counts
            for place, counts in self._counted.items()
            if place in known and place not in stale
        }
        self._waiting = known - self._counted.keys()

    def work(self, seconds: float) -> bool:
        """Count for about so long; True once everything is counted."""
        end = time.perf_counter() + seconds
        while self._waiting:
            place = self._waiting.pop()
            try:
                self._counted[place] = self._count(place)
            except StoreError:
                continue  # damaged; whoever looks there is told
            if time.perf_counter() >= end:
                break
        return not self._waiting

    def _count(self, place: Place) -> NDArray[np.int64]:
        region = Region(place[0] * CHUNK, place[1] * CHUNK, CHUNK, CHUNK)
        window = self._store.read(self._task, region)
        checked = window.classes[window.provenance >= ACCEPTED]
        return np.bincount(checked, minlength=256)


def _touches(place: Place, region: Region) -> bool:
    return Region(place[0] * CHUNK, place[1] * CHUNK, CHUNK, CHUNK).intersection(region) is not None
