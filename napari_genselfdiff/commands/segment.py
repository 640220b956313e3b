"""``genselfdiff segment``: the plugin's Predict for regions, whole slides and lists of slides."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.errors import ConfigError, GenSelfDiffError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Window, Written
    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.slide import Slide

STORE_SUFFIX = ".gsd.zarr"


@dataclass(frozen=True, slots=True)
class Job:
    """What is done to every slide."""

    model: Model
    segmenter: Segmenter
    profile: Profile
    region: Region | None
    mpp: float | None


@dataclass(slots=True)
class Count:
    """What a run did to the annotations of one slide; ``labels`` is their SHA-256, of a region."""

    objects: int = 0
    kept_objects: int = 0
    kept_pixels: int = 0
    labels: str | None = None

    def add(self, written: Written) -> None:
        """Count what a write had to leave alone."""
        self.kept_objects += written.kept_objects
        self.kept_pixels += written.kept_pixels


def parse_region(text: str | Region) -> Region:
    """Read ``Y,X,H,W`` of the command line; anything else is wrong use."""
    if isinstance(text, Region):
        return text
    try:
        return Region.parse(text)
    except ConfigError as err:
        raise typer.BadParameter(str(err)) from err


SlidesArg = Annotated[list[Path] | None, typer.Argument(help="Slides to segment.")]
ListOption = Annotated[Path | None, typer.Option("--list", help="File that names a slide a line.")]
TaskOption = Annotated[str | None, typer.Option(help="Task, such as Nuclei; the model's own.")]
RegionOption = Annotated[
    Region | None,
    typer.Option(
        help="Y,X,H,W in level-0 pixels; without it the whole slide.",
        parser=parse_region,
        metavar="Y,X,H,W",
    ),
]
ModelOption = Annotated[str, typer.Option(help="Name or folder of a model.")]
MppOption = Annotated[
    float | None, typer.Option(help="Micrometre per level-0 pixel, where the slide is silent.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Annotations (NAME.gsd.zarr) or a folder for them; beside the slide."),
]
GeojsonOption = Annotated[
    Path | None, typer.Option(help="Also write QuPath GeoJSON: a file, or a folder for several.")
]
ProfileOption = Annotated[
    Path | None, typer.Option(help="Speed settings (JSON); this machine's own, measured once.")
]


def segment(
    slides: SlidesArg = None,
    list_file: ListOption = None,
    task: TaskOption = None,
    region: RegionOption = None,
    model: ModelOption = "default",
    mpp: MppOption = None,
    out: OutOption = None,
    geojson: GeojsonOption = None,
    profile: ProfileOption = None,
) -> None:
    """Segment slides; what a person corrected or accepted is never changed."""
    paths = [*(slides or []), *(_listed(list_file) if list_file else [])]
    if not paths:
        raise typer.BadParameter("name at least one slide, or a file of names with --list")
    if len(paths) > 1:
        for what, path, suffix in (
            ("--out", out, STORE_SUFFIX),
            ("--geojson", geojson, ".geojson"),
        ):
            if path is not None and path.name.endswith(suffix):
                raise typer.BadParameter(f"{what} must be a folder for {len(paths)} slides")
    job = _job(model, task, region, mpp, profile)
    failed = 0
    for path in paths:
        try:
            _segment_one(path, job, _store_path(path, out), geojson)
        except (GenSelfDiffError, OSError) as err:  # the other slides are still worth doing
            console.complain(
                f"{path}: {console.reason(err)}" if len(paths) > 1 else console.reason(err)
            )
            failed += 1
    if failed:
        raise typer.Exit(console.FAILED)


def open_task(store: AnnotationStore, model: Model) -> TaskSpec:
    """Give the task of the annotations that a model answers; it is added if it is new there.

    Raises
    ------
    ConfigError
        If the annotations have a task of that name with other classes.
    """
    from napari_genselfdiff.annotation.tasks import TASKS

    wanted = model.card.task
    known = {task.name: task for task in TASKS} | store.tasks
    task = known.get(wanted.name, wanted)
    if task.kind != wanted.kind or {c.value for c in task.classes} != {
        c.value for c in wanted.classes
    }:
        raise ConfigError(
            f"the model {model.card.name} answers another task {wanted.name!r} than the "
            f"annotations {store.path.name} hold; use a model of that task or another --out"
        )
    store.add_task(task)
    return task


def pick_model(name: str, task: str | None) -> Model:
    """Give the model of a name, or the one in use for a task; they must agree.

    Raises
    ------
    ConfigError
        If the model is for another task.
    """
    from napari_genselfdiff.registry.registry import DEFAULT, Registry

    registry = Registry()
    if task is not None and name == DEFAULT:
        return registry.active(task)
    model = registry.resolve(name)
    if task is not None and model.card.task.name != task:
        raise ConfigError(
            f"the model {model.card.name} is for the task {model.card.task.name}, not {task}; "
            "choose another model or leave --task out"
        )
    return model


def pick_profile(path: Path | None) -> Profile:
    """Give the speed settings of a file, or this machine's own."""
    from napari_genselfdiff.prediction.profile import default_profile, read_profile

    return default_profile() if path is None else read_profile(path)


def _job(
    name: str, task: str | None, region: Region | None, mpp: float | None, profile: Path | None
) -> Job:
    model = pick_model(name, task)
    return Job(model, model.load(), pick_profile(profile), region, mpp)


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not a text file of slide names, one a line") from err
    names = (line.strip() for line in lines)
    return [Path(name) for name in names if name and not name.startswith("#")]


def _store_path(slide: Path, out: Path | None) -> Path:
    from napari_genselfdiff.annotation.store import default_store_path

    if out is None:
        return default_store_path(slide)
    return out if out.name.endswith(STORE_SUFFIX) else out / f"{slide.name}{STORE_SUFFIX}"


def _segment_one(path: Path, job: Job, store_path: Path, geojson: Path | None) -> None:
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.prediction.tiles import model_downsample
    from napari_genselfdiff.session import wording
    from napari_genselfdiff.slides.slide import open_slide

    started = time.perf_counter()
    with open_slide(path, mpp=job.mpp) as slide:
        scale = model_downsample(slide.mpp, job.model.card.mpp_range)  # refuses an unknown size
        store_path.parent.mkdir(parents=True, exist_ok=True)
        store = AnnotationStore.open(
            store_path,
            slide_path=path,
            slide_hash=slide.hash,
            shape=slide.shape,
            mpp=slide.mpp or scale.mpp,
            mpp_assumed=slide.mpp_assumed,
        )
        try:
            task = open_task(store, job.model)
            count = _predict(slide, store, task, job)
            if geojson is not None:
                write_shapes(store, task.name, _shapes_path(geojson, path), slide, job.model.hash)
        finally:
            store.close()
        for warning in (scale.warning, *slide.warnings):
            if warning:
                console.note(f"Careful: {path.name}: {warning}.")
    found = wording.things(task, count.objects if task.kind == "objects" else None)
    kept = wording.kept(count.kept_objects, count.kept_pixels, task)
    took = wording.duration(time.perf_counter() - started)
    console.say(f"{path.name}: {found} in {took}, in {store_path}. {kept}".rstrip())


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
    if region is not None and region.to_grid(scale.downsample).area <= MAX_REGION_PIXELS:
        count, seconds = _predict_region(slide, store, task, job, region)
    else:
        count, seconds = _predict_slide(slide, store, task, job)
    record = run_record(slide, job.model, job.profile, region, seconds, count.labels)
    write_run(store.path, record)
    return count


def _predict_region(
    slide: Slide, store: AnnotationStore, task: TaskSpec, job: Job, region: Region
) -> tuple[Count, dict[str, float]]:
    import numpy as np

    from napari_genselfdiff.prediction.records import labels_sha256
    from napari_genselfdiff.prediction.region import segment_region, to_store_window

    done = segment_region(slide, job.model, region, job.profile, segmenter=job.segmenter)
    window = to_store_window(done, slide.shape, store.downsample(task.name))
    count = Count(
        0 if window.objects is None else np.unique(window.objects[window.classes > 0]).size,
        labels=labels_sha256(window),
    )
    count.add(store.write_prediction(task.name, window, model_hash=job.model.hash))
    return count, dict(done.seconds)


def _predict_slide(
    slide: Slide, store: AnnotationStore, task: TaskSpec, job: Job
) -> tuple[Count, dict[str, float]]:
    from napari_genselfdiff.prediction.whole_slide import SlideDone, plan_slide, segment_slide
    from napari_genselfdiff.session import wording

    count, seconds = Count(), {"total": 0.0}

    def write(window: Window) -> None:
        count.add(store.write_prediction(task.name, window, model_hash=job.model.hash))

    steps = segment_slide(
        slide,
        job.model,
        job.segmenter,
        job.profile,
        write,
        store_downsample=store.downsample(task.name),
        plan=plan_slide(slide, job.model.card, job.region),
    )
    with console.progress(slide.path.name) as show:
        for step in steps:
            if isinstance(step, SlideDone):
                count.objects, seconds = step.objects, dict(step.seconds)
            else:
                left = f"{wording.duration(step.eta_s)} left"
                show(step.done / max(step.total, 1), left)
    return count, seconds


def write_shapes(
    store: AnnotationStore, task: str, path: Path, slide: Slide | None, model_hash: str = ""
) -> int:
    """Write a task as QuPath GeoJSON; give the number of shapes."""
    from napari_genselfdiff.annotation.exchange.geojson import write_geojson

    path.parent.mkdir(parents=True, exist_ok=True)
    bounds = None if slide is None else slide.bounds
    return write_geojson(store, task, path, bounds=bounds, provenance={"model": model_hash})


def _shapes_path(geojson: Path, slide: Path) -> Path:
    if geojson.suffix.lower() in (".geojson", ".json"):
        return geojson
    return geojson / f"{slide.stem}.geojson"
