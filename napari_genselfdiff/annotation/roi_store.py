"""The part of a store that keeps regions of interest; each change is a step of the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.held import HeldStore
from napari_genselfdiff.annotation.rois import (
    MAX_ROI_BYTES,
    ROI_FILE,
    Roi,
    new_roi,
    pick_roi,
    read_rois,
    roi_bytes,
)
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.annotation.commit import Staged
    from napari_genselfdiff.annotation.paths import Point


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

    def _change_rois(self, task_name: str, what: str, rois: tuple[Roi, ...], about: Roi) -> None:
        data = roi_bytes(rois)
        if data == self._read_rois[0]:
            return
        self._or_aside(lambda: self._land(self._stage_rois(task_name, what, data, about)))

    def _stage_rois(self, task_name: str, what: str, data: bytes | None, about: Roi) -> Staged:
        """Make a change of the file ready, as one operation that changes no pixel."""
        from napari_genselfdiff.annotation.commit import Staged

        arrays = self._task(task_name)
        region = about.region0.to_grid(self.downsample(task_name)).clipped(arrays.shape)
        box = (0, 0, *arrays.shape)
        if region is not None:
            box = region.y, region.x, region.height, region.width
        with disk_errors("save the regions of interest"), self._journal.begin() as transaction:
            transaction.put(ROI_FILE, data)
            meta = self._describing(what=what, task=task_name, region=box, boxes=())
            transaction.seal(meta)
        return Staged(transaction, meta, 0)
