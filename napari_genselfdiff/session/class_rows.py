"""The classes of a task as a table: how much there is of each, and how much of it was checked.

Background and what is unknown have lines of their own, so that the lines add up to the slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.registry.card import ClassSpec, TaskSpec

Kind = Literal["class", "background", "unknown"]


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One line.

    Parameters
    ----------
    spec
        The class; None for background and unknown.
    pixels, area_um2
        Of the task's grid; the area in square micrometres.
    objects
        Number of objects; None for areas, background and unknown.
    checked
        Share a person stands behind, 0..1; None for unknown, and where there is nothing.
    """

    kind: Kind
    name: str
    spec: ClassSpec | None
    pixels: int
    area_um2: float
    objects: int | None
    checked: float | None


def class_rows(
    store: AnnotationStore | None, task: TaskSpec, checked: NDArray[np.int64] | None
) -> list[ClassRow]:
    """Lines of a task, its classes first.

    ``checked`` are checked pixels by class value, (256,); None while they are not counted.
    """
    if store is None or task.name not in store.tasks:
        return [ClassRow("class", spec.name, spec, 0, 0.0, None, None) for spec in task.classes]
    summary = store.summary(task.name)
    pixel_um2 = (store.mpp * store.downsample(task.name)) ** 2

    def row(kind: Kind, name: str, spec: ClassSpec | None, pixels: int) -> ClassRow:
        objects = summary["objects"].get(name) if spec is not None else None
        value = 0 if spec is None else spec.value
        share = None
        if checked is not None and pixels and kind != "unknown":
            share = min(int(checked[value]) / pixels, 1.0)
        return ClassRow(kind, name, spec, pixels, pixels * pixel_um2, objects, share)

    rows = [row("class", c.name, c, summary["classes"].get(c.name, 0)) for c in task.classes]
    pixels = summary["pixels"]
    known = sum(pixels.values()) - pixels["unknown"]
    background = max(known - sum(one.pixels for one in rows), 0)
    return [
        *rows,
        row("background", "Background", None, background),
        row("unknown", "Unknown", None, pixels["unknown"]),
    ]


def spoken_area(area_um2: float) -> str:
    """An area as people say it: "812 µm²", "0.52 mm²", "38 mm²"."""
    return f"{area_um2:,.0f} µm²" if area_um2 < 10_000 else f"{square_millimetres(area_um2)} mm²"


def square_millimetres(area_um2: float) -> str:
    """An area in mm² without its unit, short enough for a column: "0.021", "3.40", "612"."""
    area = area_um2 / 1e6
    if area >= 100:
        return f"{area:,.0f}"
    if area >= 1:
        return f"{area:.2f}"
    return f"{area:.3f}" if area >= 0.001 else "<0.001" if area > 0 else "0"
