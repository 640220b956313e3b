"""One slide segmented into its annotations by a command, and how its work is shared out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.errors import ConfigError, GenSelfDiffError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Written
    from napari_genselfdiff.engine.headless import SlideOutcome
    from napari_genselfdiff.engine.workers import Workers
    from napari_genselfdiff.prediction.plan import Plan
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.color_names import Colors
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

_BLOCKS_A_PROCESS = 8  # of an export: starting a process takes as long as some of these


@dataclass(frozen=True, slots=True)
class WholeSlide:
    """How runs over whole slides are done; ``profile`` is that of each worker."""

    profile: Profile
    make_workers: Callable[[Plan], Workers]
    fresh: bool
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """What is done to every slide."""

    model: Model
    profile: Profile
    region: Region | None
    mpp: float | None
    whole: WholeSlide
    colors: Colors | None = None

    @property
    def read_colors(self) -> Colors:
        """Colours a slide is read with: the model's, unless others were asked for."""
        return self.colors or self.model.card.colors


@dataclass(slots=True)
class Count:
    """What a run did to the annotations of one slide; ``labels`` is their SHA-256, of a region."""

    objects: int = 0
    kept_objects: int = 0
    kept_pixels: int = 0
    labels: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    resumed: bool = False
    tiles: int = 0
    warnings: list[str] = field(default_factory=list)
    sentence: str = ""

    def add(self, written: Written) -> None:
        """Count what a write had to leave alone."""
        self.kept_objects += written.kept_objects
        self.kept_pixels += written.kept_pixels


class Paused(GenSelfDiffError):
    """The user stopped a run, which can go on."""


def cluster_workers(scheduler: str | None, tls: Path | None) -> Callable[[Plan], Workers] | None:
    """Give how a run gets workers of a cluster, which is asked now; None if none is named.

    Raises
    ------
    typer.BadParameter
        If only one of the two is given.
    """
    if (scheduler is None) != (tls is None):
        raise typer.BadParameter("--scheduler and --tls go together")
    if scheduler is None or tls is None:
        return None
    from napari_genselfdiff.engine.cluster import ClusterWorkers

    ClusterWorkers(scheduler, tls).close()  # say now what is wrong, not at the first slide
    return lambda _plan: ClusterWorkers(scheduler, tls)


def whole_slide(
    profile: Profile,
    is_given: bool,
    workers: int | None,
    cluster: Callable[[Plan], Workers] | None,
    *,
    fresh: bool,
    threshold: float | None,
) -> WholeSlide:
    """Decide how runs over whole slides are done; a profile given by the user stays as it is.

    But tiles side by side, on which no label depends: workers do that here.
    """
    from napari_genselfdiff.engine.headless import local_workers
    from napari_genselfdiff.engine.workers import for_many_workers
    from napari_genselfdiff.prediction.profile import available_cores

    profile = replace(profile, parallel=1)
    if cluster is not None:
        return WholeSlide(profile, cluster, fresh, threshold)
    number = workers or max(1, available_cores() // profile.threads)
    if not is_given:
        profile, number = for_many_workers(profile, workers)
    return WholeSlide(profile, local_workers(number), fresh, threshold)


def open_task(store: AnnotationStore, model: Model) -> TaskSpec:
    """Give the task of the annotations that a model answers; it is added if it is new there.

    Classes that the model alone knows are added, too.

    Raises
    ------
    ConfigError
        If the annotations have a task of that name that the model cannot answer.
    """
    from napari_genselfdiff.annotation.tasks import TASKS

    wanted = model.card.task
    store.take_over_classes(wanted)
    problem = store.answers(wanted)
    if problem is not None:
        raise ConfigError(
            f"the model {model.card.name} does not fit the annotations {store.path.name}: "
            f"{problem}; use another model or another --out"
        )
    if wanted.name not in store.tasks:
        usual = {task.name: task for task in TASKS}.get(wanted.name, wanted)
        same = {c.value for c in usual.classes} == {c.value for c in wanted.classes}
        store.add_task(usual if same and usual.kind == wanted.kind else wanted)
    return store.tasks[wanted.name]


def segment_one(path: Path, job: Job, store_at: Path, geojson: Path | None = None) -> Count:
    """Segment one slide into its annotations; what the user should know is said on the way."""
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.prediction.tiles import colors_warning, model_downsample
    from napari_genselfdiff.session import wording
    from napari_genselfdiff.slides.slide import open_slide

    started = time.perf_counter()
    with open_slide(path, mpp=job.mpp, colors=job.read_colors) as slide:
        scale = model_downsample(slide.mpp, job.model.card.mpp_range)  # refuses an unknown size
        store_at.parent.mkdir(parents=True, exist_ok=True)
        store = AnnotationStore.open(
            store_at,
            slide_path=path,
            slide_hash=slide.hash,
            shape=slide.shape,
            mpp=slide.mpp or scale.mpp,
            mpp_assumed=slide.mpp_assumed,
        )
        store.events.notice.connect(console.note)
        if store.recovered:
            console.note(store.recovered)
        try:
            task = open_task(store, job.model)
            count = _predict(slide, store, task, job)
            if geojson is not None:
                write_shapes(store, task.name, _shapes_path(geojson, path), slide, job.model.hash)
        finally:
            store.close()
        store.check_home()
        other = colors_warning(slide.colors, job.model.card.colors)
        count.warnings = [w for w in (scale.warning, other, *slide.warnings) if w]
        for warning in count.warnings:
            console.note(f"Careful: {path.name}: {warning}.")
    found = wording.things(task, count.objects if task.kind == "objects" else None)
    kept = wording.kept(count.kept_objects, count.kept_pixels, task)
    took = wording.duration(time.perf_counter() - started)
    count.sentence = f"{path.name}: {found} in {took}, in {store_at}. {kept}".rstrip()
    return count


def _predict(slide: Slide, store: AnnotationStore, task: TaskSpec, job: Job) -> Count:
    """Write the model's answer into the store, with a record of how it came about."""
    from napari_genselfdiff.prediction.records import run_record, write_run
    from napari_genselfdiff.prediction.region import MAX_REGION_PIXELS
    from napari_genselfdiff.prediction.tiles import model_downsample

    region = None if job.region is None else job.region.clipped(slide.shape)
    if job.region is not None and region is None:
        raise ConfigError(
            f"the region {job.region} lies outside the slide of {slide.shape[0]} x "
            f"{slide.shape[1]} pixels"
        )
    scale = model_downsample(slide.mpp, job.model.card.mpp_range)
    if region is None or region.to_grid(scale.downsample).area > MAX_REGION_PIXELS:
        return _predict_slide(slide, store, task, job)
    count = _predict_region(slide, store, task, job, region)
    record = run_record(slide, job.model, job.profile, region, count.seconds, count.labels)
    write_run(store.path, record)
    return count


def _predict_region(
    slide: Slide, store: AnnotationStore, task: TaskSpec, job: Job, region: Region
) -> Count:
    import numpy as np

    from napari_genselfdiff.prediction.records import labels_sha256
    from napari_genselfdiff.prediction.region import segment_region, to_store_window

    done = segment_region(slide, job.model, region, job.profile)
    window = to_store_window(done, slide.shape, store.downsample(task.name))
    count = Count(
        0 if window.objects is None else np.unique(window.objects[window.classes > 0]).size,
        labels=labels_sha256(window),
        seconds=dict(done.seconds),
    )
    count.add(store.write_prediction(task.name, window, model_hash=job.model.hash))
    return count


def _predict_slide(slide: Slide, store: AnnotationStore, task: TaskSpec, job: Job) -> Count:
    """Segment the whole slide; a run that was begun before goes on."""
    from napari_genselfdiff.engine.headless import segment_whole
    from napari_genselfdiff.engine.slide_request import SlideRequest
    from napari_genselfdiff.session import wording

    whole = job.whole
    request = SlideRequest(
        slide, store, task.name, job.model, whole.profile, job.region, whole.threshold
    )
    with console.progress(slide.path.name) as show, console.stoppable() as should_stop:
        done = segment_whole(
            request,
            whole.make_workers,
            fresh=whole.fresh,
            show=lambda share, eta: show(
                share, "" if eta is None else f"{wording.duration(eta)} left"
            ),
            should_stop=should_stop,
        )
    if done.paused:
        raise Paused(
            f"{slide.path.name}: paused; give the same command again to go on with the rest"
        )
    if done.resumed:
        console.note(
            f"{slide.path.name}: went on with an unfinished run; "
            f"{done.computed:,} of {done.tiles:,} tiles were left."
        )
    console.note(f"{slide.path.name}: {time_split(done)}")
    return Count(
        done.objects,
        done.kept_objects,
        done.kept_pixels,
        None,
        done.seconds,
        done.resumed,
        done.tiles,
    )


def time_split(done: SlideOutcome) -> str:
    """Say where the time of a run went."""
    from napari_genselfdiff.annotation.measure import percent
    from napari_genselfdiff.session import wording

    names = {
        "network": "network",
        "read": "waiting for the slide",
        "instances": "objects",
        "write": "run's files",
        "annotations": "annotations",
    }
    busy = sum(done.seconds.get(step, 0.0) for step in names)
    parts = [f"{percent(done.seconds.get(s, 0.0), busy)} {n}" for s, n in names.items()]
    return f"{wording.duration(busy)} of work: {', '.join(parts)}."


def write_shapes(
    store: AnnotationStore, task: str, path: Path, slide: Slide | None, model_hash: str = ""
) -> int:
    """Write a task as QuPath GeoJSON, stains as they are stored; give the number of shapes."""
    from napari_genselfdiff.annotation.exchange.geojson import write_geojson
    from napari_genselfdiff.annotation.exchange.parallel import write_objects
    from napari_genselfdiff.annotation.exchange.shapes import BLOCK
    from napari_genselfdiff.engine.workers import LocalWorkers
    from napari_genselfdiff.prediction.profile import available_cores

    path.parent.mkdir(parents=True, exist_ok=True)
    provenance = {"model": model_hash}
    seen = None if slide is None else slide.in_colors("stored")
    blocks = len(store.annotated_blocks(task, BLOCK))
    number = min(available_cores(), blocks // _BLOCKS_A_PROCESS)
    if number < 2 or store.tasks[task].kind != "objects" or store.files.aside is not None:
        return write_geojson(store, task, path, provenance=provenance, slide=seen)
    workers = LocalWorkers(number, 0)
    try:
        return write_objects(store, task, path, workers.submit, provenance=provenance, slide=seen)
    finally:
        workers.close()


def _shapes_path(geojson: Path, slide: Path) -> Path:
    if geojson.suffix.lower() in (".geojson", ".json"):
        return geojson
    return geojson / f"{slide.stem}.geojson"
