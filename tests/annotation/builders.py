"""Stores, windows and shapes for the tests of annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_genselfdiff.annotation.arrays import ArrayName
from napari_genselfdiff.annotation.schema import read_record
from napari_genselfdiff.annotation.store import MODEL, AnnotationStore, Window
from napari_genselfdiff.annotation.tasks import NUCLEI, REGIONS
from napari_genselfdiff.registry.card import ClassSpec, TaskSpec
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide

CELLS = TaskSpec(
    name="Cells",
    kind="objects",
    classes=(
        ClassSpec(value=1, name="Tumour cell", color="#F0E442", key="1"),
        ClassSpec(value=7, name="Lymphocyte", color="#56B4E9", key="2"),
    ),
    mpp=0.25,
)


def open_store(
    path: Path, shape: tuple[int, int] = (1300, 1100), **changes: Any
) -> AnnotationStore:
    """Open (or create) a store of a slide that does not exist."""
    about: dict[str, Any] = {
        "slide_path": "case.svs",
        "slide_hash": "ab" * 32,
        "shape": shape,
        "mpp": 0.25,
        "mpp_assumed": False,
        "author": "Ada",
    }
    return AnnotationStore.open(path, **{**about, **changes})


def store_of(slide: Slide, path: Path) -> AnnotationStore:
    """Empty annotations of a slide, whatever it says of the size of its pixels."""
    return open_store(path, slide.shape, slide_path=slide.path, slide_hash=slide.hash)


def new_store(path: Path, shape: tuple[int, int] = (1300, 1100)) -> AnnotationStore:
    """Create a store with a task of objects, one of two classes, and one of areas."""
    store = open_store(path / "case.svs.gsd.zarr", shape)
    for task in (NUCLEI, CELLS, REGIONS):
        store.add_task(task)
    return store


def reopen(path: Path) -> AnnotationStore:
    """Open a store that exists with the slide it names itself."""
    slide = read_record(path).slide
    return open_store(path, (slide.height, slide.width))


def disks(
    region: Region, *disks: tuple[float, float, float], value: int = 1, first: int = 1
) -> Window:
    """Predicted window with filled circles (y, x, radius) in pixels of the grid."""
    classes = np.zeros(region.shape, np.uint8)
    objects = np.zeros(region.shape, np.uint32)
    rows, columns = np.ogrid[region.y : region.y1, region.x : region.x1]
    for number, (y, x, radius) in enumerate(disks):
        inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        classes[inside], objects[inside] = value, first + number
    return Window(region, classes, objects, np.full(region.shape, MODEL, np.uint8))


def whole(store: AnnotationStore, task: str) -> dict[ArrayName, NDArray[Any]]:
    """Everything a task's level 0 holds."""
    names: tuple[ArrayName, ...] = ("classes", "objects", "provenance")
    return {
        name: np.asarray(store.levels(task, name)[0][:])
        for name in names
        if name != "objects" or store.tasks[task].kind == "objects"
    }


def same(a: dict[ArrayName, NDArray[Any]], b: dict[ArrayName, NDArray[Any]]) -> bool:
    """Whether two answers of :func:`whole` are equal."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
