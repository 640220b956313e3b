"""``genselfdiff export`` and ``import``: annotations to and from other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.errors import ConfigError, ExchangeError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region

_KINDS = (".geojson", ".csv", ".ome.tif")
TaskOption = Annotated[str | None, typer.Option(help="Task; needed where there are several.")]


def export(
    store: Annotated[Path, typer.Argument(help="Annotations, NAME.gsd.zarr.")],
    to: Annotated[Path, typer.Option("--to", help="FILE.geojson, FILE.csv or FILE.ome.tif.")],
    task: TaskOption = None,
    frame: Annotated[
        Literal["level0", "qupath"],
        typer.Option(help="Origin of coordinates: the slide's corner, or its scanned bounds."),
    ] = "level0",
) -> None:
    """Write annotations for other programs: QuPath GeoJSON, a CSV table, or labels as OME-TIFF."""
    from napari_genselfdiff.annotation.exchange.table import write_table
    from napari_genselfdiff.annotation.store import AnnotationStore

    name = to.name.lower()
    if not name.endswith(_KINDS):
        raise ConfigError(f"{to.name} cannot be written; name it {', '.join(_KINDS)}")
    opened = AnnotationStore.open_read_only(store)
    try:
        chosen = pick_task(opened, task)
        if name.endswith(".geojson"):
            number = _write_geojson(opened, chosen, to, frame)
            console.say(f"{to}: {number} shapes of {chosen}")
        elif name.endswith(".csv"):
            to.parent.mkdir(parents=True, exist_ok=True)
            console.say(f"{to}: {write_table(opened, chosen, to)} rows of {chosen}")
        else:
            _write_labels(opened, chosen, to)
            console.say(f"{to}: labels of {chosen}")
    finally:
        opened.close()


def import_(
    file: Annotated[Path, typer.Argument(help="GeoJSON, as QuPath writes it.")],
    into: Annotated[Path, typer.Option("--into", help="Annotations, NAME.gsd.zarr.")],
    task: TaskOption = None,
) -> None:
    """Read shapes of other programs into annotations; they count as drawn by a person."""
    from napari_genselfdiff.annotation.exchange.geojson import read_geojson

    opened = reopen(into)
    opened.events.notice.connect(console.note)
    try:
        chosen = pick_task(opened, task)
        number = read_geojson(file, opened, chosen)
    finally:
        opened.close()
    console.say(f"{into}: {number} shapes taken in as {chosen}")


def reopen(path: Path) -> AnnotationStore:
    """Open annotations that exist for writing, with the slide they name themselves."""
    from napari_genselfdiff.annotation.store import AnnotationStore

    seen = AnnotationStore.open_read_only(path)
    slide = seen.slide
    seen.close()
    return AnnotationStore.open(
        path,
        slide_path=slide.path,
        slide_hash=slide.hash,
        shape=(slide.height, slide.width),
        mpp=slide.mpp,
        mpp_assumed=slide.mpp_assumed,
    )


def pick_task(store: AnnotationStore, task: str | None) -> str:
    """Give the task asked for, or the only one there is.

    Raises
    ------
    ConfigError
        If there is no such task, or several to choose from.
    """
    names = list(store.tasks)
    if task is None and len(names) == 1:
        return names[0]
    if task is None or task not in names:
        asked = "which task is not clear" if task is None else f"there is no task {task!r}"
        there = ", ".join(names) or "none"
        raise ConfigError(f"{asked}; {store.path.name} has {there}, choose with --task")
    return task


def _write_geojson(store: AnnotationStore, task: str, to: Path, frame: str) -> int:
    from napari_genselfdiff.annotation.exchange.geojson import write_geojson

    # Only QuPath's frame needs the slide itself: its scanned bounds are not in the annotations.
    bounds = _bounds(store) if frame == "qupath" else None
    to.parent.mkdir(parents=True, exist_ok=True)
    return write_geojson(
        store,
        task,
        to,
        frame="qupath" if frame == "qupath" else "level0",
        bounds=bounds,
        provenance={},
    )


def _bounds(store: AnnotationStore) -> Region | None:
    from napari_genselfdiff.errors import SlideError
    from napari_genselfdiff.slides.slide import open_slide

    try:
        with open_slide(store.slide.path) as slide:
            return slide.bounds
    except SlideError as err:
        raise ExchangeError(
            f"QuPath's frame needs the slide {store.slide.path}, which cannot be opened ({err}); "
            "bring it back or use --frame level0"
        ) from err


def _write_labels(store: AnnotationStore, task: str, to: Path) -> None:
    from napari_genselfdiff._writer import write_labels_tiff

    array: Literal["objects", "classes"] = (
        "objects" if store.tasks[task].kind == "objects" else "classes"
    )
    size = store.mpp * store.downsample(task)
    to.parent.mkdir(parents=True, exist_ok=True)
    shown = {"name": task, "scale": (size, size), "units": ("micrometer", "micrometer")}
    write_labels_tiff(str(to), store.levels(task, array)[0], shown)
