"""``genselfdiff measure``: area, share, number and density of each class, also by region."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.exchange import TaskOption, pick_task, slide_of
from napari_genselfdiff.errors import JobFailedError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.places import ClassInPlace, Place
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.prediction.measuring import Measured

_COLUMNS = ("place", "class", "mm²", "of tissue", "of place", "objects", "/mm² tissue", "/mm²")


def measure(
    store: Annotated[Path, typer.Argument(help="Annotations, NAME.gsd.zarr.")],
    task: TaskOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the classes of a task on the slide and in each region of interest.

    Shares of tissue need the slide in its place. "Place" is, for the whole slide, everything
    annotated; single objects are measured by `export --to FILE.csv`.
    """
    from napari_genselfdiff.annotation.exchange.origin import origin
    from napari_genselfdiff.annotation.store import AnnotationStore

    opened = AnnotationStore.open_read_only(store)
    try:
        chosen = pick_task(opened, task)
        found = _measured(opened, chosen)
        about = origin(opened, chosen)
    finally:
        opened.close()
    if as_json:
        places = [asdict(place) for place in found.places]
        console.say_json({"schema": 1, **about, "places": places})
        return
    rows = [_row(place, one) for place in found.places for one in place.classes]
    console.table(_COLUMNS, rows)
    for place in found.places:
        if place.known < 0.995:
            console.note(f"{place.name}: only {place.known:.0%} of it is annotated.")
    console.note(f"{about['checked_by']}" + (" µm/px is assumed." if about["mpp_assumed"] else ""))


def _measured(store: AnnotationStore, task: str) -> Measured:
    from napari_genselfdiff.prediction.measuring import Measured, measure_task

    with slide_of(store) as slide:
        for step in measure_task(store, task, slide, stains=False):
            if isinstance(step, Measured):
                return step
    raise JobFailedError("measuring ended without a result; please report this")


def _row(place: Place, one: ClassInPlace) -> tuple[str, ...]:
    return (
        place.name,
        one.name,
        f"{one.area_mm2:.4f}",
        _share(one.of_tissue),
        _share(one.of_place),
        "" if one.objects is None else str(one.objects),
        _number(one.per_mm2_tissue),
        _number(one.per_mm2),
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.1f}"
