"""``genselfdiff export`` and ``import``: annotations to and from other programs."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.errors import ConfigError, ExchangeError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_genselfdiff.annotation.exchange.watching import Watch
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

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
    roi: Annotated[
        str | None,
        typer.Option(
            help="Region of interest to which shapes and tables are restricted.", metavar="NAME"
        ),
    ] = None,
) -> None:
    """Write annotations for other programs: QuPath GeoJSON, a table, or labels as OME-TIFF.

    Tables and shapes hold stain densities where the slide is still in its place.
    """
    from napari_genselfdiff.annotation.exchange.outgoing import export_file, export_kind
    from napari_genselfdiff.annotation.store import AnnotationStore

    kind = export_kind(to)
    opened = AnnotationStore.open_read_only(store)
    try:
        chosen = pick_task(opened, task)
        # Only QuPath's frame needs the slide itself: its scanned bounds are not in the annotations.
        bounds = _bounds(opened) if frame == "qupath" else None
        with slide_of(opened) if kind != "labels" else nullcontext() as slide, _watch(to) as watch:
            written = export_file(
                opened, chosen, to, frame=frame, bounds=bounds, slide=slide, roi=roi, watch=watch
            )
        console.say(f"{to}: {written} of {chosen}")
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
        before = len(opened.rois)
        number = import_file(file, opened, chosen, classes=classes)
        rois = len(opened.rois) - before
    finally:
        opened.close()
    opened.check_home()
    more = f", {rois} regions of interest" if rois else ""
    console.say(f"{into}: {number} shapes taken in as {chosen}{more}")


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


@contextmanager
def _watch(path: Path) -> Iterator[Watch]:
    """Show how far an export is; Ctrl+C ends it, and nothing is written."""
    with console.progress(path.name) as show, console.stoppable() as should_stop:

        def watch(share: float) -> None:
            if should_stop():
                raise StoppedError(f"stopped; {path.name} was not written")
            if share:  # nothing is said of what ends at once
                show(share, "")

        yield watch


_WITHOUT = ": densities of stains and the area of tissue are left out."


@contextmanager
def slide_of(store: AnnotationStore) -> Iterator[Slide | None]:
    """The slide of annotations, or None and a note that what is measured on it is left out."""
    from napari_genselfdiff.errors import SlideError
    from napari_genselfdiff.slides.slide import open_slide

    try:
        slide = open_slide(store.slide.path)
    except SlideError:
        console.note(f"The slide {store.slide.path} cannot be opened{_WITHOUT}")
        yield None
        return
    with slide:
        same = slide.hash == store.slide.hash
        if not same:
            console.note(f"{store.slide.path} is another slide now{_WITHOUT}")
        yield slide if same else None
