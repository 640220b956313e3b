"""Counts, areas and how much of them a person checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.store import AnnotationStore


@dataclass(frozen=True, slots=True)
class ClassMeasure:
    """One class of a task: pixels of the grid, area, number of objects (None for areas)."""

    name: str
    pixels: int
    area_um2: float
    objects: int | None


@dataclass(frozen=True, slots=True)
class Measures:
    """What a task's annotations amount to.

    ``shares`` are of the pixels anything is known of: ``model`` (nobody looked), ``accepted`` and
    ``human``; all 0 while nothing is known. ``annotated_um2`` is the area of those pixels,
    ``mpp_assumed`` tells that areas rest on a resolution nobody measured.
    """

    task: str
    classes: tuple[ClassMeasure, ...]
    shares: dict[str, float]
    annotated_um2: float
    mpp_assumed: bool

    @property
    def checked_share(self) -> float:
        """Share of the annotated pixels a person stands behind, 0..1."""
        return self.shares["accepted"] + self.shares["human"]

    @property
    def sentence(self) -> str:
        """The shares in words, for the screen and for exports."""
        if not any(self.shares.values()):
            return "Nothing is annotated yet."
        parts = {name: percent(share, 1.0) for name, share in self.shares.items()}
        return "{model} model only, {accepted} accepted, {human} corrected by hand".format(**parts)


def percent(part: float, whole: float) -> str:
    """Give a share as whole per cent; what is there is never called 0 %, what lacks never 100 %."""
    if whole <= 0 or part <= 0:
        return "0 %"
    value = 100 * part / whole
    if value < 1:
        return "< 1 %"
    return "> 99 %" if 99 < value < 100 else f"{value:.0f} %"


def measure(store: AnnotationStore, task_name: str) -> Measures:
    """Measure a task; takes no longer on a large slide.

    Raises
    ------
    ConfigError
        If the task is unknown.
    """
    summary = store.summary(task_name)
    pixel_um2 = (store.mpp * store.downsample(task_name)) ** 2
    shares = store.shares(task_name)
    shares.pop("unknown")  # it is of the whole slide
    total = sum(summary["pixels"].values()) - summary["pixels"]["unknown"]
    return Measures(
        task=task_name,
        classes=tuple(
            ClassMeasure(name, pixels, pixels * pixel_um2, summary["objects"].get(name))
            for name, pixels in summary["classes"].items()
        ),
        shares=shares,
        annotated_um2=total * pixel_um2,
        mpp_assumed=store.mpp_assumed,
    )
