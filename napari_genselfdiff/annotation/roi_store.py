"""The part of a store that keeps regions of interest; each change is a step of the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.commit import Staged, bounding_box
from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.held import HeldStore
from napari_genselfdiff.annotation.rois import (
    MAX_ROI_BYTES,
    ROI_FILE,
    Roi,
    beside,
    merged_rois,
    new_roi,
    pick_roi,
    read_rois,
    roi_bytes,
)
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.annotation.paths import Point
    from napari_genselfdiff.annotation.schema import OperationRecord


class RoiStore(HeldStore):
    """A store with regions of interest. They belong to the slide; every task is measured in them.

    A step of the history belongs to a task, so each change names one.
    """

    _read_rois: tuple[bytes | None, tuple[Roi, ...]] = (None, ())

    @property
    def rois(self) -> tuple[Roi, ...]:
        """Regions of interest in the order they were drawn; StoreCorruptError if damaged."""
        with disk_errors("read the regions of interest"):
            data = self.files.read(ROI_FILE, MAX_ROI_BYTES)
        if data != self._read_rois[0]:
            self._read_rois = data, read_rois(data)
        return self._read_rois[1]

    def add_roi(self, task_name: str, name: str, points: Sequence[Point]) -> Roi:
        """Keep one more; ``points`` are (y, x) of level 0, errors as for ``rois.new_roi``."""
        self._check_writable()
        made = new_roi(name, points)
        if made.area((self.slide.height, self.slide.width)) < 1:
            raise ConfigError("this outline lies beside the slide; draw it on the slide")
        self._change_rois(task_name, f"Add {made.name}", (*self.rois, made), made)
        return made

    def add_rois(self, task_name: str, rois: Sequence[Roi], what: str) -> list[Roi]:
        """Keep some more, as one step; a name that is taken is made another one.

        ConfigError if there are too many then.
        """
        self._check_writable()
        found = list(self.rois)
        for roi in rois:
            found.append(beside(found, roi))
        self._change_rois(task_name, what, found, *rois)
        return found[len(found) - len(rois) :]

    def repeat_rois(
        self, meta: OperationRecord, before: Sequence[Roi], after: Sequence[Roi]
    ) -> None:
        """Make a change that was made elsewhere, as a step like that one; see ``merged_rois``."""
        self._check_writable()
        about = [roi for roi in (*before, *after) if roi not in before or roi not in after]
        if about:
            found = merged_rois(self.rois, before, after)
            self._change_rois(meta.task, meta.what, found, *about)

    def rename_roi(self, task_name: str, name: str, to: str) -> Roi:
        """Give one another name; ConfigError if there is none, or the name is taken."""
        self._check_writable()
        old = pick_roi(self.rois, name)
        made = new_roi(to, old.points)
        rois = tuple(made if roi is old else roi for roi in self.rois)
        self._change_rois(task_name, f"Rename {old.name} to {made.name}", rois, made)
        return made

    def remove_roi(self, task_name: str, name: str) -> None:
        """Forget one; what is annotated inside stays. ConfigError if there is none."""
        self._check_writable()
        old = pick_roi(self.rois, name)
        rois = tuple(roi for roi in self.rois if roi is not old)
        self._change_rois(task_name, f"Remove {old.name}", rois, old)

    def _change_rois(self, task_name: str, what: str, rois: Sequence[Roi], *about: Roi) -> None:
        data = roi_bytes(rois)
        if data == self._read_rois[0]:
            return
        self._or_aside(lambda: self._land(self._stage_rois(task_name, what, data, about)))

    def _stage_rois(
        self, task_name: str, what: str, data: bytes | None, about: Sequence[Roi]
    ) -> Staged:
        """Make a change of the file ready, as one operation that changes no pixel."""
        arrays = self._task(task_name)
        place = bounding_box([roi.region0 for roi in about])
        region = place.to_grid(self.downsample(task_name)).clipped(arrays.shape)
        box = (0, 0, *arrays.shape)
        if region is not None:
            box = region.y, region.x, region.height, region.width
        with disk_errors("save the regions of interest"), self._journal.begin() as transaction:
            transaction.put(ROI_FILE, data)
            meta = self._describing(what=what, task=task_name, region=box, boxes=())
            transaction.seal(meta)
        return Staged(transaction, meta, 0)
