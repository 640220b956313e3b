"""Undo across everything that changes annotations: long random sequences, also over restarts."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import new_store, reopen
from tests.annotation.checks import check_store
from tests.annotation.strokes import TASKS, everything

SHAPE = (720, 700)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = new_store(tmp_path_factory.mktemp("blank"), SHAPE)
    store.close()
    return store.path


def state(store: AnnotationStore) -> str:
    """What the annotations say, all of it: pixels, objects, classes, totals, who looked where."""
    digest = hashlib.sha256()
    for task in TASKS:
        window = store.read(task, Region(0, 0, *store.shape(task)))
        for array in (window.classes, window.objects, window.provenance):
            digest.update(b"" if array is None else array.tobytes())
        digest.update(store.tasks[task].model_dump_json().encode())
        digest.update(json.dumps(store.summary(task)).encode())
        digest.update(repr(store.looks(task)).encode())
        digest.update((store.path / "labels" / f"{task}.classes" / "zarr.json").read_bytes())
    return digest.hexdigest()


def wander(store: AnnotationStore, states: list[str], rng: np.random.Generator) -> None:
    """Go somewhere in the history, and most times back; else the rest is forgotten."""
    history = store.history
    there = int(rng.integers(0, len(history) + 1))
    store.go_to(history.ids[there - 1] if there else None)
    assert state(store) == states[there]
    if rng.random() < 0.7:
        store.go_to(history.ids[-1] if history.ids else None)
    else:
        del states[there + 1 :]


@pytest.mark.parametrize(
    ("steps", "seed"),
    [(60, 0), *(pytest.param(1000, seed, marks=pytest.mark.slow) for seed in (1, 2))],
)
def test_undo_all_gives_the_start_and_redo_all_the_end(
    blank: Path, tmp_path: Path, steps: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = Path(shutil.copytree(blank, tmp_path / "case.svs.gsd.zarr"))
    store = reopen(path)
    states = [state(store)]  # by the number of steps done
    kinds: set[str] = set()
    for number in range(steps):
        before = store.history.done
        everything(store, seed * 10**6 + number)
        if store.history.done > before:
            kinds.add(store.history[-1].what.split()[0])
            states.append(state(store))
        assert store.history.done == len(states) - 1
        dice = rng.random()
        if dice < 0.05:
            store.close()
            store = reopen(path)
        elif dice < 0.12:
            wander(store, states, rng)
    check_store(store)
    assert kinds >= {"Predict", "Edit", "Accept", "Import", "Merge", "Rename", "Add"}
    at = store.history.done
    assert state(store) == states[at]
    while store.undo() is not None:
        at -= 1
        if rng.random() < 0.1:
            assert state(store) == states[at]
        if rng.random() < 0.02:
            store.close()
            store = reopen(path)
    assert state(store) == states[0]
    check_store(store)
    store.close()
    store = reopen(path)
    while store.redo() is not None:
        at += 1
        if rng.random() < 0.1:
            assert state(store) == states[at]
    assert state(store) == states[-1]
    check_store(store)


@pytest.mark.slow
def test_a_long_history_makes_no_step_slower(blank: Path, tmp_path: Path) -> None:
    store = reopen(Path(shutil.copytree(blank, tmp_path / "case.svs.gsd.zarr")))
    seconds = []
    for step in range(1000):
        begun = time.process_time()
        store.accept("Regions", Region(step % 150, step // 150 * 9, 1, 9))
        assert len(store.history) == step + 1  # what a list of steps asks each time
        assert store.history[-1].what == "Accept view"
        seconds.append(time.process_time() - begun)
    assert np.median(seconds[-100:]) < 2 * np.median(seconds[100:200])
