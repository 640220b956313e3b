"""``genselfdiff cohort``: all slides of a folder or list, a table, and a report to hand on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.segment import (
    FreshOption,
    ListOption,
    ModelOption,
    MppOption,
    ProfileOption,
    SchedulerOption,
    TaskOption,
    ThresholdOption,
    TlsOption,
    WorkersOption,
    listed,
    pick_model,
    pick_profile,
)
from napari_genselfdiff.commands.slide_job import (
    Job,
    Paused,
    cluster_workers,
    segment_one,
    whole_slide,
)
from napari_genselfdiff.errors import ConfigError, GenSelfDiffError

if TYPE_CHECKING:
    from napari_genselfdiff.engine.cohort import Cohort, Entry

SourcesArg = Annotated[
    list[Path] | None, typer.Argument(help="Slides, and folders to look for slides in.")
]


def cohort(
    sources: SourcesArg = None,
    list_file: ListOption = None,
    out: Annotated[Path, typer.Option(help="Folder for annotations, summary and report.")] = Path(
        "cohort"
    ),
    task: TaskOption = None,
    model: ModelOption = "default",
    mpp: MppOption = None,
    geojson: Annotated[
        bool, typer.Option("--geojson", help="Also write QuPath GeoJSON for every slide.")
    ] = False,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    fresh: FreshOption = False,
    threshold: ThresholdOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
) -> None:
    """Segment every slide; a failed one is reported and passed over.

    The same command goes on after an interruption: what is done is passed over, what failed is
    tried again. It leaves NAME.gsd.zarr for every slide, cohort.json, summary.csv,
    summary.parquet and report.html in the folder of --out.
    """
    if not sources and list_file is None:
        raise typer.BadParameter("name at least one slide or folder, or a file with --list")
    sizes = _with_sizes(listed(list_file) if list_file else [])
    slides = _slides([*(sources or []), *sizes])
    cluster, chosen = cluster_workers(scheduler, tls), pick_profile(profile)
    is_given = profile is not None
    whole = whole_slide(chosen, is_given, workers, cluster, fresh=fresh, threshold=threshold)
    job = Job(pick_model(model, task), chosen, None, mpp, whole)
    if _segment_all(slides, job, out, geojson, sizes):
        raise typer.Exit(console.FAILED)


def _with_sizes(lines: list[Path]) -> dict[Path, float | None]:
    """Slides of a list; a line may give µm per pixel after a tab, where the slide is silent.

    Raises
    ------
    ConfigError
        If what follows the tab is no number.
    """
    found: dict[Path, float | None] = {}
    for line in lines:
        name, tab, size = str(line).partition("\t")
        try:
            found[Path(name).absolute()] = float(size) if tab else None
        except ValueError as err:
            raise ConfigError(f"{line}: after the tab comes µm per pixel, such as 0.25") from err
    return found


def _slides(sources: list[Path]) -> list[Path]:
    """Slides as named, and those in folders."""
    from napari_genselfdiff.learning.scan import find_pictures

    found: list[Path] = []
    for source in sources:
        found += find_pictures([source]).pictures if source.is_dir() else [source]
    return found


def _segment_all(
    slides: list[Path], job: Job, out: Path, geojson: bool, sizes: dict[Path, float | None]
) -> int:
    from napari_genselfdiff.engine.cohort import Cohort
    from napari_genselfdiff.session import wording

    cohort, failed = Cohort(out, job.model), 0
    entries = cohort.add(slides)
    before = sum(entry.status == "done" for entry in entries)
    if before:
        console.note(f"{before} of {len(entries)} slides are done already.")
    paused = False
    for entry in entries:
        if entry.status == "done":
            continue
        try:
            stated = sizes.get(Path(entry.path))
            _segment_into(cohort, entry, replace(job, mpp=stated or job.mpp), geojson)
        except Paused as err:
            console.note(str(err))
            paused = True
            break
        except (GenSelfDiffError, OSError) as err:  # the other slides are still worth doing
            console.complain(f"{entry.path}: {console.reason(err)}")
            cohort.failed(entry, console.reason(err))
            failed += 1
    page = cohort.write_report(wording.things(job.model.card.task))
    console.say(f"{len(entries) - failed} of {len(entries)} slides without a failure; {page}")
    return failed + paused


def _segment_into(cohort: Cohort, entry: Entry, job: Job, geojson: bool) -> None:
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.slide import open_slide

    path, started = Path(entry.path), time.perf_counter()
    with open_slide(path) as slide:
        if slide.mpp is not None:  # what is given is for slides that are silent
            job = replace(job, mpp=None)
    at = cohort.store_of(entry)
    shapes = at.with_name(at.name.removesuffix(".gsd.zarr") + ".geojson") if geojson else None
    count = segment_one(path, job, at, shapes)
    store = AnnotationStore.open_read_only(at)
    with open_slide(path, mpp=job.mpp) as slide:
        try:
            seconds = time.perf_counter() - started
            cohort.done(entry, slide, store, seconds, count.warnings)
        finally:
            store.close()
    console.say(count.sentence)
