"""The part of a store that takes in predictions, around everything a person stands behind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.classed import ClassedStore
from napari_genselfdiff.annotation.commit import on_chunks, read_window
from napari_genselfdiff.annotation.merge import merge_areas, merge_objects
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.window import Window, Written

_MARGIN = 256  # pixels read around a prediction, for objects across its border


class PredictedStore(ClassedStore):
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
        new = self._in_present_classes(task_name, new)
        around = self._on_grid(arrays, new.region.padded(_MARGIN)) if arrays.has_objects else None
        stored = read_window(arrays, on_chunks(around or new.region, arrays.shape))
        if around is not None:
            current = stored.cropped(around)
            after, written = merge_objects(current, new, arrays.rows, self._allocate)
        else:
            after, written = merge_areas(stored.cropped(new.region), new)
        self._commit(
            task_name, what, [after], region=new.region, model_hash=model_hash, stored=stored
        )
        return written

    def _in_present_classes(self, task_name: str, window: Window) -> Window:
        """Window with every class a model may know by the value it has here now.

        ConfigError if the model answers with a class these annotations never had.
        """
        table, spec = self.present_values(task_name), self.tasks[task_name]
        known = np.zeros(256, bool)
        known[[0, *(c.value for c in spec.classes)]] = True
        up_to = int(window.classes.max(initial=0)) + 1
        if known[:up_to].all() and (table[:up_to] == np.arange(up_to)).all():
            return window
        classes = table[window.classes]
        foreign = np.flatnonzero((np.bincount(classes.ravel(), minlength=256) > 0) & ~known)
        if foreign.size:
            raise ConfigError(
                f"the model answers with class {foreign[0]}, which {task_name} does not have in "
                "these annotations; add its classes first or choose another model"
            )
        return replace(window, classes=classes)
