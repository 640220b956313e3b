"""Random work on a store, the same for the same seed: what an annotator and a model do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_genselfdiff.annotation.store import UNKNOWN, AnnotationStore, Window
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, reopen

TASKS = ("Cells", "Regions")


def work(store: AnnotationStore, seed: int) -> None:
    """Do one random operation (now and then one that changes nothing)."""
    rng = np.random.default_rng(seed)
    task = TASKS[int(rng.random() < 0.3)]
    region = _view(rng, store.shape(task))
    kind = int(rng.integers(6))
    if kind <= 1:
        store.write_prediction(task, _prediction(rng, region, task), model_hash="m")
    elif kind == 2:
        store.accept(task, region)
    elif kind == 3 and rng.random() < 0.5:
        store.clear_to_unknown(task, region)
    else:
        before = store.read(task, region)
        store.write_edit(task, before, _edit(rng, before), what="Edit")


def work_until_killed(path: Path, first_seed: int, log: Path) -> None:
    """Open a store and work, noting the number of the history after each operation."""
    store = reopen(path)
    with log.open("a") as notes:
        for seed in range(first_seed, first_seed + 10_000):
            work(store, seed)
            notes.write(f"{seed}\n")
            notes.flush()


def _view(rng: np.random.Generator, shape: tuple[int, int]) -> Region:
    size = [int(rng.integers(1, min(n, 300) + 1)) for n in shape]
    corner = [int(rng.integers(0, n - s + 1)) for n, s in zip(shape, size, strict=True)]
    return Region(*corner, *size)


def _prediction(rng: np.random.Generator, region: Region, task: str) -> Window:
    circles = [
        (region.y + rng.uniform(0, region.height), region.x + rng.uniform(0, region.width), r)
        for r in rng.uniform(2, 40, size=int(rng.integers(0, 9)))
    ]
    window = disks(region, *circles)
    lookup = np.concatenate([[0], rng.choice([1, 7] if task == "Cells" else [1, 2], len(circles))])
    window.classes = lookup[window.ids].astype(np.uint8)
    if task == "Regions":
        window.objects = None
    return window


def _edit(rng: np.random.Generator, before: Window) -> Window:
    after = before.copy()
    y, x = (int(rng.integers(0, n)) for n in after.classes.shape)
    stroke = (slice(max(y - 9, 0), y + 9), slice(max(x - 20, 0), x + 20))
    how = int(rng.integers(4))
    if how == 0:  # erase
        after.classes[stroke] = 0
    elif how == 1:  # paint something new
        after.classes[stroke] = 1
    elif how == 2:
        after.provenance[stroke] = UNKNOWN
    else:  # another class for everything in view
        after.classes[after.classes > 0] = 1
    if after.objects is not None:
        if how == 0:
            after.objects[stroke] = 0
        elif how == 1:
            after.objects[stroke] = int(after.objects.max()) + 1
    return after
