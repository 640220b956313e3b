"""``genselfdiff export`` and ``import``: annotations to and from other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.errors import ConfigError, ExchangeError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.exchange.origin import Frame
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region

_SHAPES = (".geojson", ".geojson.gz")
_TABLES = (".csv", ".parquet")
_LABELS = (".ome.tif", ".ome.tiff")
_KINDS = (*_SHAPES, *_TABLES, *_LABELS)
TaskOption = Annotated[str | None, typer.Option(help="Task; needed where there are several.")]


def export(
    store: Annotated[Path, typer.Argument(help="Annotations, NAME.gsd.zarr.")],
    to: Annotated[
        Path, typer.Option("--to", help="FILE.geojson[.gz], FILE.csv, FILE.parquet, FILE.ome.tif.")
    ],
    task: TaskOption = None,
    frame: Annotated[
        Literal["level0", "qupath"],
        typer.Option(help="Origin of coordinates: the slide's corner, or its scanned bounds."),
    ] = "level0",
) -> None:
    """Write annotations for other programs: QuPath GeoJSON, a table, or labels as OME-TIFF.

    Tables hold stain densities where the slide is still in its place.
    """
    from napari_genselfdiff.annotation.store import AnnotationStore

    name = to.name.lower()
    if not name.endswith(_KINDS):
        raise ConfigError(f"{to.name} cannot be written; name it {', '.join(_KINDS)}")
    opened = AnnotationStore.open_read_only(store)
    try:
        chosen = pick_task(opened, task)
        to.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(_SHAPES):
            number = _write_geojson(opened, chosen, to, frame)
            console.say(f"{to}: {number} shapes of {chosen}")
        elif name.endswith(_TABLES):
            console.say(f"{to}: {_write_table(opened, chosen, to, frame)} rows of {chosen}")
        else:
            height, width = _write_labels(opened, chosen, to, frame)
            console.say(f"{to}: labels of {chosen}, {height} x {width} pixels")
    finally:
        opened.close()


def import_(
    file: Annotated[
        Path, typer.Argument(help="GeoJSON, Aperio XML, HistomicsUI JSON, or a label image.")
    ],
    into: Annotated[Path, typer.Option("--into", help="Annotations, NAME.gsd.zarr.")],
    task: TaskOption = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="THEIRS=OURS, a class of the file and its name here; THEIRS="
            " leaves it out. May be repeated.",
        ),
    ] = None,
) -> None:
    """Read shapes of other programs into annotations; they count as drawn by a person."""
    from napari_genselfdiff.annotation.exchange.incoming import import_file

    classes = _mapping(class_ or [])
    opened = reopen(into)
    opened.events.notice.connect(console.note)
    try:
        chosen = pick_task(opened, task)
        number = import_file(file, opened, chosen, classes=classes)
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


def _mapping(pairs: list[str]) -> dict[str, str | None]:
    wrong = next((pair for pair in pairs if "=" not in pair), None)
    if wrong is not None:
        raise ConfigError(f"--class {wrong}; THEIRS=OURS is needed")
    split = (pair.rsplit("=", 1) for pair in pairs)
    return {theirs.strip(): ours.strip() or None for theirs, ours in split}


def _write_geojson(store: AnnotationStore, task: str, to: Path, frame: Frame) -> int:
    from napari_genselfdiff.annotation.exchange.geojson import write_geojson

    # Only QuPath's frame needs the slide itself: its scanned bounds are not in the annotations.
    bounds = _bounds(store) if frame == "qupath" else None
    return write_geojson(store, task, to, frame=frame, bounds=bounds)


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


def _write_table(store: AnnotationStore, task: str, to: Path, frame: Frame) -> int:
    from napari_genselfdiff.annotation.exchange.table import write_table
    from napari_genselfdiff.errors import SlideError
    from napari_genselfdiff.slides.slide import open_slide

    bounds = _bounds(store) if frame == "qupath" else None
    try:
        slide = open_slide(store.slide.path)
    except SlideError:
        console.note(f"The slide {store.slide.path} cannot be opened: no stain densities.")
        return write_table(store, task, to, frame=frame, bounds=bounds)
    with slide:
        same = slide.hash == store.slide.hash
        if not same:
            console.note(f"{store.slide.path} is another slide now: no stain densities.")
        return write_table(
            store, task, to, frame=frame, bounds=bounds, slide=slide if same else None
        )


def _write_labels(store: AnnotationStore, task: str, to: Path, frame: Frame) -> tuple[int, ...]:
    from napari_genselfdiff.annotation.exchange.label_tiff import write_label_tiff

    bounds = _bounds(store) if frame == "qupath" else None
    return write_label_tiff(store, task, to, frame=frame, bounds=bounds)
