"""Annotations read as they were at one moment, while somebody goes on changing them."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import StoreError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store
from tests.annotation.faults import refusing
from tests.annotation.strokes import TASKS, everything

SHAPE = (1300, 1100)
VIEW = Region(0, 0, *SHAPE)
SQUARE = [(99.5, 99.5), (99.5, 299.5), (299.5, 299.5), (299.5, 99.5)]
Seen = dict[str, Any]


def seen(store: AnnotationStore) -> Seen:
    """Everything an export reads."""
    found: Seen = {"rois": store.rois}
    for task in TASKS:
        found[f"{task} totals"] = store.summary(task), store.tasks[task], store.model_hashes(task)
        for name in store._arrays[task].pyramids:
            for level in store.drawn_levels(task, name):  # type: ignore[arg-type]
                found[level.key] = level.read((slice(None), slice(None)))
        window = store.read(task, Region(0, 0, *store.shape(task)))
        if window.objects is not None:
            ids = np.unique(window.objects)
            found[f"{task} rows"] = store.object_rows(task, ids)
            found[f"{task} sure"] = store.object_confidences(task, ids)
    return found


def differences(a: Seen, b: Seen) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not _equal(a[name], b[name])]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        other: NDArray[Any] = b
        return np.array_equal(a, other, equal_nan=a.dtype.kind == "f")
    return bool(a == b)


def bar(store: AnnotationStore, y: int) -> None:
    """Draw a bar that no other is like."""
    before = store.read("Cells", Region(y, 40, 12, 600))
    after = before.copy()
    after.classes[...], after.ids[...] = 1, 2**31
    store.write_edit("Cells", before, after, what="Brush")


@pytest.mark.parametrize("seed", range(3))
def test_it_shows_the_moment_after_any_steps(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    store = new_store(tmp_path, SHAPE)
    for number in range(4):
        everything(store, 100 * seed + number)
    store.add_roi("Cells", "Front", SQUARE)
    store.undo()
    then, record = seen(store), store.moment()
    store.hold_steps()
    reader = AnnotationStore.open_then(store.path, record, None)
    assert not differences(seen(reader), then)
    for number in range(8):
        for _ in range(int(rng.integers(3))):
            store.undo()
        everything(store, 1000 + 100 * seed + number)
        if number == 4:
            store.add_roi("Cells", "Other", SQUARE)
        if number % 3 == 2:
            assert not differences(seen(reader), then)
            assert not differences(seen(AnnotationStore.open_then(store.path, record, None)), then)
    assert differences(seen(store), then)
    store.release_steps()
    journal = store.moment().journal
    kept = {int(file.stem) for file in (store.path / "journal").glob("*.zip")}
    assert kept == {*journal.done, *journal.undone}  # nothing held is left over
    store.close()


def test_a_reader_on_another_thread_never_sees_a_change(tmp_path: Path) -> None:
    store = new_store(tmp_path, (600, 700))
    store.write_prediction(
        "Cells", disks(Region(0, 0, 500, 600), (200, 200, 60)), model_hash="m" * 64
    )
    then, record = seen(store), store.moment()
    store.hold_steps()
    wrong: list[list[str]] = []
    over = threading.Event()

    def read() -> None:
        reader = AnnotationStore.open_then(store.path, record, None)
        while not over.is_set():
            wrong.append(differences(seen(reader), then))

    thread = threading.Thread(target=read)
    thread.start()
    for turn in range(12):
        bar(store, 20 * turn)
        if turn % 3 == 1:
            store.undo()
            store.undo()
        if turn % 4 == 3:
            store.redo()
    over.set()
    thread.join()
    assert wrong
    assert not any(wrong)


def test_what_the_journal_forgot_is_refused_not_guessed(tmp_path: Path) -> None:
    store = new_store(tmp_path, SHAPE)
    bar(store, 40)
    record = store.moment()
    reader = AnnotationStore.open_then(store.path, record, None)
    store.undo()
    bar(store, 400)  # the first bar can no longer be done again
    with pytest.raises(StoreError, match="changed so much meanwhile"):
        reader.read("Cells", VIEW)


def test_the_oldest_steps_may_be_forgotten(tmp_path: Path) -> None:
    store = new_store(tmp_path, SHAPE)
    bar(store, 40)
    bar(store, 80)
    then, record = seen(store), store.moment()
    reader = AnnotationStore.open_then(store.path, record, None)
    store.quota = 0
    bar(store, 400)
    assert len(store.moment().journal.done) == 1
    with pytest.raises(StoreError, match="changed so much meanwhile"):
        reader.read("Cells", VIEW)  # whether the second bar was undone, nobody knows
    assert then["rois"] == ()


def test_work_kept_on_this_computer_is_read_there_and_after_it_came_home(tmp_path: Path) -> None:
    store = new_store(tmp_path, SHAPE)
    bar(store, 40)
    with refusing(store.path, errno.EROFS):
        bar(store, 80)
        then, record, aside = seen(store), store.moment(), store.kept_aside
        assert aside is not None
        store.hold_steps()
        reader = AnnotationStore.open_then(store.path, record, aside)
        bar(store, 120)
        assert not differences(seen(reader), then)
    assert store.return_home()
    assert not differences(seen(reader), then)
    bar(store, 160)
    assert not differences(seen(reader), then)
    store.release_steps()
