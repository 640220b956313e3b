"""Annotations of one slide on disk: read, write, undo, with one owner and nothing half-written.

Regions are pixels of a task's grid (level 0 downsampled by ``downsample(task)``). A store is used
from one thread; the arrays given by :meth:`AnnotationStore.levels` may be read from any.
"""

from __future__ import annotations

import getpass
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.aside import asides_of
from napari_genselfdiff.annotation.commit import read_window
from napari_genselfdiff.annotation.events import StoreEvents
from napari_genselfdiff.annotation.fork import Fork
from napari_genselfdiff.annotation.labelling import among
from napari_genselfdiff.annotation.lock import StoreLock
from napari_genselfdiff.annotation.place import check_slide, create_store, default_store_path
from napari_genselfdiff.annotation.pyramid import split
from napari_genselfdiff.annotation.recovery import Recovery
from napari_genselfdiff.annotation.roi_store import RoiStore
from napari_genselfdiff.annotation.schema import SlideRecord, read_record, upgrade_record
from napari_genselfdiff.annotation.settle import edited, settle_objects, settle_outside
from napari_genselfdiff.annotation.sheltered import of_the_disk
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.arrays import TaskArrays
    from napari_genselfdiff.annotation.chunks import ChunkArray
    from napari_genselfdiff.annotation.looks import LookKind
    from napari_genselfdiff.annotation.schema import OperationRecord
    from napari_genselfdiff.slides.geometry import Region

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


class AnnotationStore(RoiStore):
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
            If the disk refuses to make them. Where it refuses to write those that are there, what
            is done is kept on this computer; ``recovery`` says so.
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
        try:
            lock = StoreLock(path)
        except StoreError as err:
            if not of_the_disk(err):
                raise
            return cls._open_aside(path, err, author or _login())
        return cls._open_locked(path, lock, author or _login())

    @classmethod
    def open_read_only(cls, path: str | Path, aside: Path | None = None) -> AnnotationStore:
        """Open annotations to look at them; errors as for :meth:`open`, but no lock is needed.

        ``aside`` is the folder of this computer where what is done is kept meanwhile, if it is.
        """
        path = Path(path)
        store = cls(path, read_record(path if aside is None else aside), None, _login())
        store.files.aside = aside
        return store

    @classmethod
    def _open_locked(cls, path: Path, lock: StoreLock, author: str) -> AnnotationStore:
        """Open annotations that are there and nobody else writes."""
        try:
            upgrade_record(path)
            store = cls(path, read_record(path), lock, author)
            store._recover(lock.left)
            store._meet_asides()
            store._remember_tables()
        except BaseException:
            with suppress(StoreError):
                lock.release()
            raise
        return store

    @classmethod
    def _open_aside(cls, path: Path, err: StoreError, author: str) -> AnnotationStore:
        """Open annotations whose folder cannot be written; what is done is kept aside."""
        store = cls(path, read_record(path), None, author)
        waiting = asides_of(store.store_id, path.absolute())
        if waiting and waiting[-1].fits(store):
            store._take_up(waiting[-1])
            store._lock = StoreLock(waiting[-1].folder)
            since = waiting[-1].note.since
        else:
            if not store._go_aside(store.record, err):
                raise err
            store._lock, since = StoreLock(store.files.folder), store.record.journal.last
        text = f"{err}. What you do is kept safe on this computer until it can be written."
        store.recovery = Recovery(store, text, since, 0)
        if waiting and not waiting[-1].fits(store):
            store.recovery = Fork(store, waiting[-1])
        store._remember_tables()
        return store

    def _meet_asides(self) -> None:
        """Take up work that an earlier session had to keep on this computer."""
        for aside in asides_of(self.store_id, self.path.absolute()):
            if self.files.aside is not None:
                return  # one after the other; the rest waits
            try:
                if not aside.fits(self):
                    self.recovery = Fork(self, aside)
                    return
                aside.bring(self)
                text = f"{aside.steps} kept on this computer; the folder has everything again."
            except StoreError as err:
                self._take_up(aside)
                text = (
                    f"{err}. {aside.steps} kept safe on this computer, where everything you do is "
                    "kept until the folder can be written."
                )
            since = min(aside.note.since, self.recovery.since if self.recovery else 2**63)
            self.recovery = Recovery(self, text, since, 0)

    def chunks_of(self, task_name: str) -> Mapping[str, ChunkArray]:
        """Chunk files of a task's arrays, by their names."""
        return self._task(task_name).stored

    def repeat_step(
        self, meta: OperationRecord, region: Region, change: Callable[[Window], None]
    ) -> int:
        """Change a region, window by window, as a step like one made elsewhere; changed pixels."""
        blocks = self._blocks(meta.task, region, change)
        model_hash, look = meta.model_hash, meta.look or "none"
        return self._commit(
            meta.task, meta.what, blocks, region=region, model_hash=model_hash, look=look
        )

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
        inside = result.cropped(region)
        vouched = (inside.provenance >= ACCEPTED) & _differs(current, inside)
        look: LookKind = "seen" if vouched.any() else "none"
        return self._commit(task_name, what, [result], region=region, look=look)

    def accept(self, task_name: str, region: Region, *, what: str = "Accept view") -> int:
        """Vouch for everything in a region, background included; changed pixels.

        Human pixels stay human; everything else, also what was unknown, becomes ACCEPTED.
        """

        def vouched(window: Window) -> None:
            window.provenance[window.provenance < ACCEPTED] = ACCEPTED

        region = self._on_grid(self._task(task_name), region)
        blocks = self._blocks(task_name, region, vouched)
        return self._commit(task_name, what, blocks, region=region, look="seen")

    def clear_to_unknown(
        self, task_name: str, region: Region, *, what: str = "Clear to unknown"
    ) -> int:
        """Forget everything in a region, also what a person said; changed pixels."""

        def cleared(window: Window) -> None:
            for array in (window.classes, window.objects, window.provenance):
                if array is not None:
                    array[...] = 0

        region = self._on_grid(self._task(task_name), region)
        blocks = self._blocks(task_name, region, cleared)
        return self._commit(task_name, what, blocks, region=region, look="forgotten")

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
        checked = _Once(blocks, arrays.has_objects)
        return self._commit(task_name, what, checked, region=region, model_hash=model_hash)

    def new_ids(self, n: int) -> int:
        """Reserve ``n`` object ids, never given out again; the first of them."""
        self._check_writable()
        return self._allocate(n)

    def _blocks(
        self, task_name: str, region: Region, change: Callable[[Window], None]
    ) -> Iterable[Window]:
        """Windows of a region on the grid, changed one by one; read anew each time."""
        return _Blocks(self._task(task_name), region, change)

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


class _Once:
    """Checked windows that others make; what can be gone through once only says so.

    Raises
    ------
    StoreError
        When it is gone through again, as when the disk refused in the middle.
    """

    def __init__(self, blocks: Iterable[Window], has_objects: bool) -> None:
        self._blocks, self._has_objects, self._left = blocks, has_objects, False

    def __iter__(self) -> Iterator[Window]:
        again = iter(self._blocks) is self._blocks
        if again and self._left:
            raise StoreError("the disk refused in the middle; nothing was changed, do it again")
        self._left = True
        for block in self._blocks:
            yield block.checked(self._has_objects)


@dataclass(frozen=True)
class _Blocks:
    """Windows of a region as they become."""

    arrays: TaskArrays
    region: Region
    change: Callable[[Window], None]

    def __iter__(self) -> Iterator[Window]:
        for block in split(self.region, _BLOCK):
            window = read_window(self.arrays, block)
            self.change(window)
            yield window


def _differs(a: Window, b: Window) -> NDArray[np.bool_]:
    """Pixels at which two windows of one region are not the same."""
    differs: NDArray[np.bool_] = (a.classes != b.classes) | (a.provenance != b.provenance)
    if a.objects is not None and b.objects is not None:
        differs |= a.objects != b.objects
    return differs


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
