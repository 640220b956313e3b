"""The part of a store that takes in predictions, around everything a person stands behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.commit import read_window
from napari_genselfdiff.annotation.journaled import JournaledStore
from napari_genselfdiff.annotation.merge import merge_areas, merge_objects
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.arrays import TaskArrays
    from napari_genselfdiff.annotation.window import Window, Written
    from napari_genselfdiff.slides.geometry import Region

_MARGIN = 256  # pixels read around a prediction, for objects across its border


class PredictedStore(JournaledStore):
    """A store that predictions are written to."""

    def write_prediction(
        self, task_name: str, window: Window, *, model_hash: str, what: str = "Predict"
    ) -> Written:
        """Write what a model says, around everything a person stands behind.

        Parameters
        ----------
        window
            The prediction in pixels of the task's grid. Ids only tell its objects apart; its
            provenance is not read.
        model_hash
            Identity of the model, for the history.

        Returns
        -------
        Written
            How much changed, and how much was kept. Rules: ``merge.merge_objects``.
        """
        self._check_writable()
        arrays = self._task(task_name)
        new = window.checked(arrays.has_objects).cropped(self._on_grid(arrays, window.region))
        if arrays.has_objects:
            around = read_window(arrays, self._on_grid(arrays, new.region.padded(_MARGIN)))
            after, written = merge_objects(around, new, arrays.rows, self._allocate)
        else:
            after, written = merge_areas(read_window(arrays, new.region), new)
        self._commit(task_name, what, [after], region=new.region, model_hash=model_hash)
        return written

    def _on_grid(self, arrays: TaskArrays, region: Region) -> Region:
        """Part of a region on the grid; ConfigError if there is none."""
        clipped = region.clipped(arrays.shape)
        if clipped is None:
            raise ConfigError(f"{region} is outside the task's grid of {arrays.shape} pixels")
        return clipped
