"""The tasks a pathologist starts with, the palette, and the grid a task is stored on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import MPP_MAX, MPP_MIN, ClassSpec, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

# Okabe & Ito's colours, which colour-blind people tell apart, without their vermilion and purple:
# haematoxylin and eosin are pink and purple themselves. The last two are lighter variants.
PALETTE = ("#F0E442", "#009E73", "#E69F00", "#0072B2", "#56B4E9", "#8CE0C4", "#B8E04A")

NUCLEI = TaskSpec(
    name="Nuclei",
    kind="objects",
    classes=(ClassSpec(value=1, name="Nucleus", color=PALETTE[0], key="1"),),
    mpp=0.25,
)
GLANDS = TaskSpec(
    name="Glands",
    kind="objects",
    classes=(ClassSpec(value=1, name="Gland", color=PALETTE[1], key="1"),),
    mpp=0.5,
)
REGIONS = TaskSpec(
    name="Regions",
    kind="areas",
    classes=(
        ClassSpec(value=1, name="Tumour", color=PALETTE[2], key="1"),
        ClassSpec(value=2, name="Stroma", color=PALETTE[3], key="2"),
    ),
    mpp=1.0,
)
TASKS = (NUCLEI, GLANDS, REGIONS)

_COARSER_BY = 1.1  # a stored grid may be this much coarser than the task asks for


def grid_downsample(slide_mpp: float, task_mpp: float) -> int:
    """Downsample of a task's grid: the largest 2^k with ``slide_mpp * 2^k <= 1.1 * task_mpp``.

    Parameters
    ----------
    slide_mpp, task_mpp
        Micrometre per pixel, 0.05..20.

    Returns
    -------
    int
        A power of two, at least 1 (a slide coarser than the task keeps its own grid).

    Raises
    ------
    ConfigError
        If a resolution is outside the range a microscope slide can have.
    """
    for what, mpp in (("slide", slide_mpp), ("task", task_mpp)):
        if not MPP_MIN <= mpp <= MPP_MAX:
            raise ConfigError(
                f"the {what} has {mpp!r} µm/px; a value of {MPP_MIN:g} to {MPP_MAX:g} is needed"
            )
    downsample = 1
    while slide_mpp * downsample * 2 <= _COARSER_BY * task_mpp:
        downsample *= 2
    return downsample


def next_color(taken: Iterable[str]) -> str:
    """Colour for a new class: the first of the palette not taken yet, else one used least."""
    used = [color.upper() for color in taken]
    return min(PALETTE, key=lambda color: (used.count(color), PALETTE.index(color)))
