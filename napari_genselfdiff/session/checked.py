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
        self._total = np.zeros(256, np.int64)
        self._waiting: set[Place] = set()
        self.refresh(None)

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return not self._waiting

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Checked pixels by class value, (256,); value 0 is checked background."""
        return self._total.copy()

    def refresh(self, region: Region | None) -> None:
        """Note that a region of the task's grid changed; None for anything."""
        coverage = np.asarray(self._store.coverage(self._task)[..., ACCEPTED - 1 :].any(axis=2))
        top = left = 0
        if region is not None:
            top, left = region.y // CHUNK, region.x // CHUNK
            coverage = coverage[top : -(-region.y1 // CHUNK), left : -(-region.x1 // CHUNK)]
        rows = range(top, top + coverage.shape[0])
        columns = range(left, left + coverage.shape[1])
        for place in [p for p in self._counted if p[0] in rows and p[1] in columns]:
            self._total -= self._counted.pop(place)
        self._waiting = {p for p in self._waiting if p[0] not in rows or p[1] not in columns}
        self._waiting |= {(top + y, left + x) for y, x in np.argwhere(coverage).tolist()}

    def work(self, seconds: float) -> bool:
        """Count for about so long; True once everything is counted."""
        end = time.perf_counter() + seconds
        while self._waiting:
            place = self._waiting.pop()
            try:
                counts = self._count(place)
            except StoreError:
                continue  # damaged; whoever looks there is told
            self._counted[place] = counts
            self._total += counts
            if time.perf_counter() >= end:
                break
        return not self._waiting

    def _count(self, place: Place) -> NDArray[np.int64]:
        region = Region(place[0] * CHUNK, place[1] * CHUNK, CHUNK, CHUNK)
        window = self._store.read(self._task, region)
        checked = window.classes[window.provenance >= ACCEPTED]
        return np.bincount(checked, minlength=256)
