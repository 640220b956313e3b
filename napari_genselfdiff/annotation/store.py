"""Annotations of one slide on disk: read, write, undo, with one owner and nothing half-written.

Regions are pixels of a task's grid (level 0 downsampled by ``downsample(task)``). A store is used
from one thread; the arrays given by :meth:`AnnotationStore.levels` may be read from any.
"""

from __future__ import annotations

import getpass
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.arrays import ArrayName, TaskArrays, create_task, list_labels
from napari_genselfdiff.annotation.commit import read_window
from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.journaled import StoreEvents
from napari_genselfdiff.annotation.labelling import among
from napari_genselfdiff.annotation.lock import StoreLock
from napari_genselfdiff.annotation.place import check_slide, create_store, default_store_path
from napari_genselfdiff.annotation.predicted import PredictedStore
from napari_genselfdiff.annotation.pyramid import split
from napari_genselfdiff.annotation.schema import SlideRecord, TaskRecord, read_record
from napari_genselfdiff.annotation.settle import edited, settle_objects, settle_outside
from napari_genselfdiff.annotation.tasks import grid_downsample
from napari_genselfdiff.annotation.window import (
    ACCEPTED,
    HUMAN,
    MODEL,
    UNKNOWN,
    Operation,
    Window,
    Written,
)
from napari_genselfdiff.errors import ConfigError, StoreError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import zarr
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import TaskSpec

__all__ = [
    "ACCEPTED",
    "HUMAN",
    "MODEL",
    "UNKNOWN",
    "AnnotationStore",
    "Operation",
    "StoreEvents",
    "Window",
    "Written",
    "default_store_path",
]

_FARTHEST = 4096  # pixels around a window searched for the rest of an object
_BLOCK = 2048  # side of the blocks, whole chunks, in which large regions are worked on


class AnnotationStore(PredictedStore):
    """Annotations of one slide; made by :meth:`open` or :meth:`open_read_only`."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        slide_path: str | Path,
        slide_hash: str,
        shape: tuple[int, int],
        mpp: float,
        mpp_assumed: bool,
        author: str | None = None,
    ) -> AnnotationStore:
        """Open a slide's annotations for writing; create them where there are none.

        Parameters
        ----------
        path
            Folder of the store; :func:`default_store_path` gives the usual one.
        slide_path, slide_hash, shape, mpp, mpp_assumed
            The slide, its identity, its level-0 (height, width), and µm per pixel. An existing
            store keeps its own resolution.
        author
            Name for the history; the login name by default.

        Raises
        ------
        StoreLockedError
            If another window or process has it open.
        StoreMismatchError
            If it belongs to another slide.
        StoreCorruptError
            If it is damaged; nothing was changed.
        StoreError
            If the disk refuses.
        """
        path = Path(path)
        slide = SlideRecord(
            path=str(slide_path),
            hash=slide_hash,
            height=shape[0],
            width=shape[1],
            mpp=mpp,
            mpp_assumed=mpp_assumed,
        )
        if not path.exists():
            create_store(path, slide)
        check_slide(path, read_record(path), slide)
        lock = StoreLock(path)
        try:
            store = cls(path, read_record(path), lock, author or _login())
            store._recover(unclean=lock.was_stale)
        except BaseException:
            with suppress(StoreError):
                lock.release()
            raise
        return store

    @classmethod
    def open_read_only(cls, path: str | Path) -> AnnotationStore:
        """Open annotations to look at them; errors as for :meth:`open`, but no lock is needed."""
        path = Path(path)
        return cls(path, read_record(path), None, _login())

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

    def add_task(self, task: TaskSpec) -> None:
        """Make room for a task; nothing happens if the very same one is there.

        Raises
        ------
        ConfigError
            If another task has that name.
        """
        if task.name in self._record.tasks:
            if self._record.tasks[task.name].spec != task:
                raise ConfigError(
                    f"these annotations have another task {task.name!r}; choose another name"
                )
            return
        self._check_writable()
        downsample = grid_downsample(self.mpp, task.mpp)
        new = TaskRecord(spec=task, downsample=downsample)
        tasks = {**self._record.tasks, task.name: new}
        with disk_errors(f"add the task {task.name}"):
            create_task(self.path, new, self._record.slide)
            list_labels(self.path, list(tasks.values()))
        self._save(self._record.model_copy(update={"tasks": tasks}))
        self._arrays[task.name] = TaskArrays(self.path, new, self._record.slide)

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

    def write_edit(self, task_name: str, before: Window, after: Window, *, what: str) -> int:
        """Write the difference a user made to a window; rules: ``settle.edited``.

        Parameters
        ----------
        before, after
            One region, before and after the edit. Ids in ``after`` that ``before`` lacks are new
            objects. Changed pixels become HUMAN unless ``after`` states another provenance.
        what
            Name for the history, such as "Brush".

        Returns
        -------
        int
            Changed pixels of the grid; 0 leaves no trace in the history.
        """
        self._check_writable()
        arrays = self._task(task_name)
        region = self._on_grid(arrays, before.region)
        if after.region != before.region:
            raise ConfigError(f"the edit is of {after.region}, but began as {before.region}")
        before, after = (w.checked(arrays.has_objects).cropped(region) for w in (before, after))
        current = self.read(task_name, region)
        result = edited(current, before, after, self._allocate)
        if arrays.has_objects:
            outside = settle_objects(current, result, arrays.rows)
            if len(outside.ids):
                around = self._around(task_name, region, outside.ids)
                result = settle_outside(around, result, outside)
        return self._commit(task_name, what, [result], region=region)

    def accept(self, task_name: str, region: Region, *, what: str = "Accept view") -> int:
        """Vouch for everything in a region, background included; changed pixels.

        Human pixels stay human; everything else, also what was unknown, becomes ACCEPTED.
        """

        def vouched(window: Window) -> None:
            window.provenance[window.provenance < ACCEPTED] = ACCEPTED

        return self._commit(
            task_name, what, self._blocks(task_name, region, vouched), region=region
        )

    def clear_to_unknown(
        self, task_name: str, region: Region, *, what: str = "Clear to unknown"
    ) -> int:
        """Forget everything in a region, also what a person said; changed pixels."""

        def cleared(window: Window) -> None:
            for array in (window.classes, window.objects, window.provenance):
                if array is not None:
                    array[...] = 0

        return self._commit(
            task_name, what, self._blocks(task_name, region, cleared), region=region
        )

    def write_blocks(
        self,
        task_name: str,
        blocks: Iterable[Window],
        *,
        region: Region,
        what: str,
        model_hash: str | None = None,
    ) -> int:
        """Write windows as they are, as one operation; changed pixels.

        For work larger than memory, such as an import: no two blocks may share a chunk (512
        pixels), and their object ids come from :meth:`new_ids`.
        """
        arrays = self._task(task_name)
        checked = (block.checked(arrays.has_objects) for block in blocks)
        return self._commit(task_name, what, checked, region=region, model_hash=model_hash)

    def new_ids(self, n: int) -> int:
        """Reserve ``n`` object ids, never given out again; the first of them."""
        self._check_writable()
        return self._allocate(n)

    def known_regions(self, task_name: str, tile: int) -> list[Region]:
        """Tiles of the grid, on multiples of ``tile``, that hold pixels a person vouches for."""
        if tile < 1:
            raise ConfigError(f"a tile of {tile} pixels; at least 1 is needed")
        arrays = self._task(task_name)
        found: set[tuple[int, int]] = set()
        for chunk in arrays.known_chunks():
            known = arrays.stored["provenance"].read(chunk.slices) >= ACCEPTED
            rows, columns = np.nonzero(known)
            tiles = np.stack([(rows + chunk.y) // tile, (columns + chunk.x) // tile])
            found.update(map(tuple, np.unique(tiles, axis=1).T.tolist()))
        boxes = (
            Region(y * tile, x * tile, tile, tile).clipped(arrays.shape) for y, x in sorted(found)
        )
        return [box for box in boxes if box is not None]

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

    def _blocks(
        self, task_name: str, region: Region, change: Callable[[Window], None]
    ) -> Iterator[Window]:
        """Windows of a region, changed one by one."""
        arrays = self._task(task_name)
        for block in split(self._on_grid(arrays, region), _BLOCK):
            window = read_window(arrays, block)
            change(window)
            yield window

    def _around(self, task_name: str, region: Region, ids: NDArray[np.uint32]) -> Window:
        """Window that holds these objects whole, unless they reach very far."""
        arrays, margin = self._task(task_name), 128
        areas = int(arrays.rows(ids)[:, 1].sum())
        while True:
            window = self.read(task_name, region.padded(margin))
            seen = int(among(window.ids, ids).sum())
            if seen >= areas or margin >= _FARTHEST:
                return window
            margin *= 2


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
