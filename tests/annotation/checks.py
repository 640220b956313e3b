"""What must be true of every store at any moment, found out the long way."""

from __future__ import annotations

import numpy as np

from napari_genselfdiff.annotation.pyramid import majority, nearest
from napari_genselfdiff.annotation.store import AnnotationStore
from tests.annotation.builders import whole


def check_store(store: AnnotationStore) -> None:
    """Totals, table, coverage and all levels agree with level 0."""
    for task in store.tasks:
        check_totals(store, task)
        check_pyramids(store, task)


def check_pyramids(store: AnnotationStore, task: str) -> None:
    """Every coarser level is what a full rebuild gives."""
    for name, values in whole(store, task).items():
        levels = store.levels(task, name)
        for level in levels[1:]:
            values = nearest(values) if name == "objects" else majority(values)
            np.testing.assert_array_equal(level[:], values, err_msg=f"{task}.{name}")


def check_totals(store: AnnotationStore, task: str) -> None:
    """Running totals equal counts, objects have one class and the table knows it."""
    arrays, summary = whole(store, task), store.summary(task)
    pixels = np.bincount(arrays["provenance"].ravel(), minlength=4).tolist()
    assert list(summary["pixels"].values()) == pixels
    for spec in store.tasks[task].classes:
        assert summary["classes"][spec.name] == int((arrays["classes"] == spec.value).sum())
    assert not np.any((arrays["provenance"] == 0) & (arrays["classes"] > 0))
    if "objects" not in arrays:
        return
    np.testing.assert_array_equal(arrays["objects"] > 0, arrays["classes"] > 0)
    ids, areas = np.unique(arrays["objects"][arrays["objects"] > 0], return_counts=True)
    rows = store.object_rows(task, ids)
    np.testing.assert_array_equal(rows[:, 1], areas)
    used = arrays["objects"] > 0
    pairs = np.unique(arrays["objects"][used].astype(np.int64) * 256 + arrays["classes"][used])
    np.testing.assert_array_equal(pairs // 256, ids)  # one class an object
    np.testing.assert_array_equal(pairs % 256, rows[:, 0])
    for spec in store.tasks[task].classes:
        assert summary["objects"][spec.name] == int((pairs % 256 == spec.value).sum())
