"""The part of a store that answers questions: what it is of, what it holds, who looked where."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.commit import read_window
from napari_genselfdiff.annotation.recovery import RecoveringStore
from napari_genselfdiff.errors import ConfigError, StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.arrays import ArrayName, TaskArrays
    from napari_genselfdiff.annotation.chunks import ChunkArray
    from napari_genselfdiff.annotation.looks import Look
    from napari_genselfdiff.annotation.schema import SlideRecord
    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.registry.card import TaskSpec

_BY_WHOM = ("model", "accepted", "human")


class SurveyedStore(RecoveringStore):
    """A store that can be asked; nothing here changes it."""

    @property
    def store_id(self) -> str:
        """Identity of this store, for ids of its objects elsewhere."""
        return self._record.store_id

    @property
    def slide(self) -> SlideRecord:
        """The slide as the store knows it."""
        return self._record.slide

    @property
    def mpp(self) -> float:
        """Micrometre per level-0 pixel."""
        return self._record.slide.mpp

    @property
    def mpp_assumed(self) -> bool:
        """Whether a person or a default stated the resolution, not the slide."""
        return self._record.slide.mpp_assumed

    @property
    def tasks(self) -> dict[str, TaskSpec]:
        """Tasks by name."""
        return {name: task.spec for name, task in self._record.tasks.items()}

    def downsample(self, task_name: str) -> int:
        """Level-0 pixels per pixel of a task's grid, a power of two."""
        self._task(task_name)
        return self._record.tasks[task_name].downsample

    def shape(self, task_name: str) -> tuple[int, int]:
        """Height and width of a task's grid."""
        return self._task(task_name).shape

    def levels(self, task_name: str, array: ArrayName) -> list[zarr.Array[Any]]:
        """Read-only pyramid of an array, the task's grid first; areas have no ``objects``."""
        levels = self._task(task_name).levels
        if array not in levels:
            raise ConfigError(f"task {task_name!r} has no array {array!r}, only {sorted(levels)}")
        return levels[array]

    def drawn_levels(self, task_name: str, array: ArrayName) -> list[ChunkArray]:
        """Give the pyramid of :meth:`levels` for drawing: the same pixels, read without threads."""
        self.levels(task_name, array)
        return self._task(task_name).pyramid(array)

    def read(self, task_name: str, region: Region) -> Window:
        """Annotations of the part of a region (task's grid) that lies on the slide.

        Raises
        ------
        ConfigError
            If the task is unknown or nothing of the region lies on the slide.
        StoreCorruptError
            If the bytes on disk are damaged.
        """
        arrays = self._task(task_name)
        return read_window(arrays, self._on_grid(arrays, region))

    def object_rows(self, task_name: str, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Class value and number of pixels of objects, (n, 2); zeros for ids that do not exist."""
        return self._task(task_name).rows(np.asarray(ids, np.uint32))

    def object_confidences(self, task_name: str, ids: NDArray[np.uint32]) -> NDArray[np.float64]:
        """How sure the model that made each object was, 0..1; NaN where no model said so."""
        return self._task(task_name).confidences(np.asarray(ids, np.uint32))

    def known_regions(self, task_name: str, tile: int) -> list[Region]:
        """Tiles of the grid, on multiples of ``tile``, that hold pixels a person vouches for."""
        if tile < 1:
            raise ConfigError(f"a tile of {tile} pixels; at least 1 is needed")
        arrays = self._task(task_name)
        found: set[tuple[int, int]] = set()
        for chunk in arrays.known_chunks():
            found.update(arrays.known_tiles(chunk, tile))
        boxes = (
            Region(y * tile, x * tile, tile, tile).clipped(arrays.shape) for y, x in sorted(found)
        )
        return [box for box in boxes if box is not None]

    def coverage(self, task_name: str) -> NDArray[np.int32]:
        """Pixels of each chunk (512 x 512) of the grid from a model, accepted, and by hand.

        Returns
        -------
        ndarray
            ``(rows, columns, 3)`` int32, a copy; small however large the slide is.
        """
        coverage = self._task(task_name).coverage
        return np.asarray(coverage.read((slice(None), slice(None), slice(None))), np.int32)

    def annotated_blocks(self, task_name: str, side: int) -> list[Region]:
        """Blocks of the grid, on multiples of ``side`` (of 512), of which anything is known."""
        return self._task(task_name).annotated(side)

    def summary(self, task_name: str) -> dict[str, Any]:
        """Totals of a task, kept up to date with every step (nothing is read but the coverage map).

        Returns
        -------
        dict
            ``pixels``: of each provenance (unknown, model, accepted, human); ``classes``: pixels
            of each class by name; ``objects``: objects of each class by name (empty for areas).
        """
        arrays, task = self._task(task_name), self._record.tasks[task_name]
        model, accepted, human = arrays.coverage_totals()
        unknown = arrays.shape[0] * arrays.shape[1] - model - accepted - human
        names = {str(spec.value): spec.name for spec in task.spec.classes}
        return {
            "pixels": {"unknown": unknown, "model": model, "accepted": accepted, "human": human},
            "classes": {name: task.pixels.get(value, 0) for value, name in names.items()},
            "objects": {name: task.objects.get(value, 0) for value, name in names.items()}
            if arrays.has_objects
            else {},
        }

    def shares(self, task_name: str) -> dict[str, float]:
        """Who stands behind what is annotated; costs what :meth:`summary` costs.

        Returns
        -------
        dict
            ``model`` (nobody looked), ``accepted`` and ``human`` (by hand) are shares of the pixels
            anything is known of and sum to 1, or are all 0 while nothing is known. ``unknown`` is
            the share of the whole slide nothing is known of.
        """
        pixels = self.summary(task_name)["pixels"]
        total = sum(pixels.values())
        known = total - pixels["unknown"]
        found = {name: pixels[name] / known if known else 0.0 for name in _BY_WHOM}
        return {**found, "unknown": pixels["unknown"] / total}

    def looks(self, task_name: str) -> list[Look]:
        """Everything a person looked at, oldest first: accepted, drawn, or told to forget.

        It follows undo and redo, and outlives the steps undo has no room for any more. A later look
        counts more than an earlier one; see :class:`~looks.Look`.
        """
        self._task(task_name)
        journal = self._record.journal
        kept = self._look_archive.but((*journal.done, *journal.undone))
        looks = [*kept, *self._looks_of(journal.done)]
        return [look for look in looks if look.task == task_name]

    def model_hashes(self, task_name: str) -> tuple[str, ...]:
        """Models whose predictions the history of a task still holds, the first one first.

        Steps that are damaged on disk are passed over: what they made is there all the same.
        """
        hashes: dict[str, None] = {}
        for op_id in self._record.journal.done:
            with suppress(StoreError):
                meta = self._describe(op_id)
                if meta.task == task_name and meta.model_hash is not None:
                    hashes[meta.model_hash] = None
        return tuple(hashes)

    def _on_grid(self, arrays: TaskArrays, region: Region) -> Region:
        """Part of a region on the grid; ConfigError if there is none."""
        clipped = region.clipped(arrays.shape)
        if clipped is None:
            raise ConfigError(f"{region} is outside the task's grid of {arrays.shape} pixels")
        return clipped
