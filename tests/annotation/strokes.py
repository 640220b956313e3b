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
        value = int(store.present_values(task)[1])  # the first class, or what became of it
        store.write_edit(task, before, _edit(rng, before, value), what="Edit")


def everything(store: AnnotationStore, seed: int) -> None:
    """Do one random operation of any kind there is, changes of classes and imports among them."""
    rng = np.random.default_rng([seed, 1])
    kind = rng.random()
    if kind < 0.7:
        work(store, seed)
    elif kind < 0.85:
        _import(store, rng)
    else:
        _classes(store, rng)


def _import(store: AnnotationStore, rng: np.random.Generator) -> None:
    """Write blocks of whole chunks, as an import does, with objects of new ids."""
    task = TASKS[int(rng.random() < 0.3)]
    height, width = store.shape(task)
    blocks = []
    for y, x in [(0, 0), (0, 512), (512, 0)][: int(rng.integers(1, 4))]:
        region = Region(y, x, 512, 512).clipped((height, width))
        if region is None:
            continue
        window = _prediction(rng, region, task)
        window.classes = store.present_values(task)[window.classes]
        window.provenance[...] = rng.integers(1, 4)
        if window.objects is not None:
            first = store.new_ids(int(window.objects.max()) + 1)
            window.objects[window.objects > 0] += np.uint32(first)
        blocks.append(window)
    region = Region(0, 0, height, width)
    store.write_blocks(task, blocks, region=region, what="Import things.geojson")


def _classes(store: AnnotationStore, rng: np.random.Generator) -> None:
    task = TASKS[int(rng.random() < 0.3)]
    values = [spec.value for spec in store.tasks[task].classes]
    one, other = rng.choice(values, 2) if len(values) > 1 else (values[0], values[0])
    kind = int(rng.integers(4))
    if kind == 0 and len(values) < 6:
        store.add_class(task, f"class {rng.integers(10**9)}", f"#{rng.integers(2**24):06x}")
    elif kind == 1:
        store.rename_class(task, int(one), f"class {rng.integers(10**9)}")
    elif kind == 2:
        store.recolor_class(task, int(one), f"#{rng.integers(2**24):06x}")
    elif one != other:
        store.merge_classes(task, int(one), int(other))


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


def _edit(rng: np.random.Generator, before: Window, value: int) -> Window:
    after = before.copy()
    y, x = (int(rng.integers(0, n)) for n in after.classes.shape)
    stroke = (slice(max(y - 9, 0), y + 9), slice(max(x - 20, 0), x + 20))
    how = int(rng.integers(4))
    if how == 0:  # erase
        after.classes[stroke] = 0
    elif how == 1:  # paint something new
        after.classes[stroke] = value
    elif how == 2:
        after.provenance[stroke] = UNKNOWN
    else:  # another class for everything in view
        after.classes[after.classes > 0] = value
    if after.objects is not None:
        if how == 0:
            after.objects[stroke] = 0
        elif how == 1:
            after.objects[stroke] = int(after.objects.max()) + 1
    return after
