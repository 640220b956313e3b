"""Work kept on this computer while the annotations were changed elsewhere: both are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.arrays import TaskArrays
from napari_genselfdiff.annotation.commit import bounding_box, read_window
from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.files import Files
from napari_genselfdiff.annotation.ledger import operation
from napari_genselfdiff.annotation.pyramid import split
from napari_genselfdiff.annotation.recovery import Recovery
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.aside import Aside
    from napari_genselfdiff.annotation.schema import OperationRecord
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Operation, Window

_ELSEWHERE = np.uint32(2**32 - 1)  # no object has this id
_BLOCK = 2048  # side of the blocks, whole chunks, in which large steps are brought


class Fork(Recovery):
    """Steps kept on this computer that do not simply follow what the annotations are now.

    ``before`` gives the annotations as they are, ``after`` as they were left on this computer.
    Keeping brings every step whose pixels and objects nobody changed meanwhile, as new steps, and
    regions of interest likewise; what others changed stays theirs. Discarding changes nothing.
    Either way the folder stays on disk, under another name, and nobody is asked again.

    Parameters
    ----------
    store
        The open annotations.
    aside
        The work.
    """

    def __init__(self, store: AnnotationStore, aside: Aside) -> None:
        since = aside.note.when[:16].replace("T", " ")
        text = (
            f"{aside.steps} kept on this computer, because the folder of the annotations could not "
            f"be written since {since} UTC. The annotations were changed elsewhere meanwhile: keep "
            "adds what nobody else changed."
        )
        super().__init__(store, text, aside.note.since, 0)
        self._annotations, self._aside = store, aside
        self.left_out = 0

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Steps made on this computer, oldest first."""
        described = ((op, self._aside.describe(op)) for op in self._aside.new)
        return tuple(operation(op, meta, undone=False) for op, meta in described)

    @property
    def places(self) -> tuple[tuple[str, Region], ...]:
        """Task and region (of its grid) of every step that changed pixels, oldest first."""
        metas = (self._aside.describe(op) for op in self._aside.new)
        return tuple((meta.task, _region(meta)) for meta in metas if meta.boxes)

    def before(self, task: str, region: Region) -> Window:
        """Annotations of a region (task's grid) as they are now."""
        return self._annotations.read(task, region)

    def after(self, task: str, region: Region) -> Window:
        """Annotations of a region as they were left on this computer."""
        inside = self._annotations.read(task, region).region
        files = Files(self._annotations.path)
        files.aside = self._aside.folder
        record = self._aside.record
        return read_window(TaskArrays(files, record.tasks[task], record.slide), inside)

    def keep(self) -> None:
        """Bring what nobody else changed, step by step; ``left_out`` counts the other pixels.

        Raises
        ------
        StoreError
            If a disk refuses; steps brought until then stay, and are found there the next time.
        """
        ids: dict[int, int] = {}
        for op_id in self._aside.new:
            meta = self._aside.describe(op_id)
            if meta.task not in self._annotations.tasks:
                continue
            if meta.boxes:
                step = _Step(self._annotations, self._aside, op_id, ids)
                self.left_out += step.bring()
            elif (rois := self._aside.rois(op_id)) is not None:
                self._annotations.repeat_rois(meta, *rois)
        self._put_away("merged")

    def discard(self) -> None:
        """Leave the annotations as they are."""
        self._put_away("discarded")

    def _put_away(self, suffix: str) -> None:
        folder = self._aside.folder
        with disk_errors("put away the work kept on this computer"):
            folder.rename(folder.with_name(f"{folder.name}.{suffix}"))
        self._annotations.settle_recovery()


class _Step:
    """One step made on this computer, on its way into annotations that others changed."""

    def __init__(
        self, store: AnnotationStore, aside: Aside, op_id: int, ids: dict[int, int]
    ) -> None:
        self._store, self._aside, self._op, self._ids = store, aside, op_id, ids
        self._meta = aside.describe(op_id)
        self._task, self._region = self._meta.task, _region(self._meta)
        spec = store.tasks[self._task]
        self._known = np.zeros(256, bool)
        self._known[[0, *(c.value for c in spec.classes)]] = True
        self._contested: set[int] = set()

    def bring(self) -> int:
        """Do the step again where it fits; the pixels it was left out of."""
        left = 0
        recolored: dict[int, int] = {}
        for block in split(self._region, _BLOCK):
            current = self._store.read(self._task, block)
            first, last = self._sides(current)
            clash = self._clash(current, first, last)
            left += int(clash.sum())
            for window in (current, first, last):
                if window.objects is not None:
                    self._contested.update(np.unique(window.objects[clash]).tolist())
            if current.objects is not None:
                moved = (first.classes != last.classes) & (first.ids == last.ids)
                ids, counts = np.unique(last.ids[moved], return_counts=True)
                for object_id, n in zip(ids.tolist(), counts.tolist(), strict=True):
                    recolored[object_id] = recolored.get(object_id, 0) + n
        self._contested.discard(0)
        rows = self._store.object_rows(self._task, np.array(list(recolored), np.uint32))
        pairs = zip(recolored.items(), rows[:, 1].tolist(), strict=True)
        self._contested.update(i for (i, n), area in pairs if n != area)
        self._store.repeat_step(self._meta, self._region, self._apply)
        return left

    def _apply(self, window: Window) -> None:
        """Change a window as the step did, where nobody else changed it."""
        first, last = self._sides(window)
        mine = _differs(first, last) & ~self._clash(window, first, last)
        contested = np.array(sorted(self._contested), np.uint32)
        for shown in (window, first, last):
            if shown.objects is not None:
                mine &= ~np.isin(shown.objects, contested)
        window.classes[mine], window.provenance[mine] = last.classes[mine], last.provenance[mine]
        if window.objects is not None:
            window.objects[mine] = last.ids[mine]

    def _clash(self, current: Window, first: Window, last: Window) -> NDArray[np.bool_]:
        """Pixels the step changed and somebody else as well, or to a class that is not here."""
        foreign = ~self._known[last.classes]
        return np.asarray(_differs(first, last) & (_differs(current, first) | foreign))

    def _sides(self, current: Window) -> tuple[Window, Window]:
        """The window before and after the step, objects by the ids they have here."""
        first, last = current.copy(), current.copy()
        stored, corner = self._store.chunks_of(self._task), (current.region.y, current.region.x)
        for key, before, after in self._aside.sides(self._op, self._task):
            name = key.split("/")[1].rpartition(".")[2]
            for window, data in ((first, before), (last, after)):
                if key.endswith(".json"):
                    continue
                if name == "objects":
                    ids = np.full(window.region.shape, _ELSEWHERE, np.uint32)
                    stored[name].paste(key, data, ids, corner)
                    part = ids != _ELSEWHERE
                    window.ids[part] = self._translated(ids[part])
                else:
                    values = window.classes if name == "classes" else window.provenance
                    stored[name].paste(key, data, values, corner)
        return first, last

    def _translated(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Ids with those given out on this computer since replaced by ids of these annotations."""
        found, codes = np.unique(ids, return_inverse=True)
        for at, value in enumerate(found.tolist()):
            if value >= self._aside.note.next_id:
                if value not in self._ids:
                    self._ids[value] = self._store.new_ids(1)
                found[at] = self._ids[value]
        return np.asarray(found[codes.reshape(ids.shape)])


def _region(meta: OperationRecord) -> Region:
    return bounding_box([Region(*box) for box in meta.boxes])


def _differs(a: Window, b: Window) -> NDArray[np.bool_]:
    """Pixels at which two windows of one region are not the same."""
    differs: NDArray[np.bool_] = (a.classes != b.classes) | (a.provenance != b.provenance)
    if a.objects is not None and b.objects is not None:
        differs |= a.objects != b.objects
    return differs
