"""``genselfdiff segment``: the plugin's Predict for regions, whole slides and lists of slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.slide_job import (
    Job,
    Paused,
    cluster_workers,
    segment_one,
    whole_slide,
)
from napari_genselfdiff.errors import ConfigError, GenSelfDiffError
from napari_genselfdiff.slides.color_names import COLORS, Colors
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.folder import Model

STORE_SUFFIX = ".gsd.zarr"


def parse_region(text: str | Region) -> Region:
    """Read ``Y,X,H,W`` of the command line; anything else is wrong use."""
    if isinstance(text, Region):
        return text
    try:
        return Region.parse(text)
    except ConfigError as err:
        raise typer.BadParameter(str(err)) from err


def parse_colors(text: str) -> str:
    """Read the colours of the command line; anything else is wrong use."""
    if text not in COLORS:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(COLORS)}")
    return text


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
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="Processes for whole slides; one for every core."),
]
ColorsOption = Annotated[
    str | None,
    typer.Option(
        help="Colours as stored, or sRGB by the slide's profile; those of the model.",
        parser=parse_colors,
        metavar="stored|srgb",
    ),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Discard an unfinished run instead of going on with it.")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--tissue-threshold",
        min=0.0,
        max=2.0,
        help="Optical density above which it is tissue, such as 0.04; found by itself.",
    ),
]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Address of a dask scheduler, tls://HOST:PORT.", metavar="ADDR")
]
TlsOption = Annotated[
    Path | None, typer.Option(help="Folder of the cluster's certificates.", metavar="DIR")
]


def segment(
    slides: SlidesArg = None,
    list_file: ListOption = None,
    task: TaskOption = None,
    region: RegionOption = None,
    model: ModelOption = "default",
    mpp: MppOption = None,
    colors: ColorsOption = None,
    out: OutOption = None,
    geojson: GeojsonOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    fresh: FreshOption = False,
    threshold: ThresholdOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
) -> None:
    """Segment slides; what a person corrected or accepted is never changed.

    A whole slide that was interrupted, by whatever, goes on when the same command is given again.
    """
    paths = [*(slides or []), *(listed(list_file) if list_file else [])]
    if not paths:
        raise typer.BadParameter("name at least one slide, or a file of names with --list")
    if len(paths) > 1:
        for what, path, suffix in (
            ("--out", out, STORE_SUFFIX),
            ("--geojson", geojson, ".geojson"),
        ):
            if path is not None and path.name.endswith(suffix):
                raise typer.BadParameter(f"{what} must be a folder for {len(paths)} slides")
    cluster, chosen = cluster_workers(scheduler, tls), pick_profile(profile)
    is_given = profile is not None
    whole = whole_slide(chosen, is_given, workers, cluster, fresh=fresh, threshold=threshold)
    job = Job(pick_model(model, task), chosen, region, mpp, whole, cast("Colors | None", colors))
    if _segment_all(paths, job, out, geojson):
        raise typer.Exit(console.FAILED)


def _segment_all(paths: list[Path], job: Job, out: Path | None, geojson: Path | None) -> int:
    """Segment one slide after the other; how many failed."""
    failed = 0
    for path in paths:
        try:
            count = segment_one(path, job, store_path(path, out), geojson)
            console.say(count.sentence)
        except Paused as err:
            console.note(str(err))
            return failed + 1
        except (GenSelfDiffError, OSError) as err:  # the other slides are still worth doing
            console.complain(
                f"{path}: {console.reason(err)}" if len(paths) > 1 else console.reason(err)
            )
            failed += 1
    return failed


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


def listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not a text file of slide names, one a line") from err
    names = (line.strip() for line in lines)
    return [Path(name) for name in names if name and not name.startswith("#")]


def store_path(slide: Path, out: Path | None) -> Path:
    from napari_genselfdiff.annotation.store import default_store_path

    if out is None:
        return default_store_path(slide)
    return out if out.name.endswith(STORE_SUFFIX) else out / f"{slide.name}{STORE_SUFFIX}"
