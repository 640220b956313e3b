"""What every export says of itself: program, slide, pixel size, models, how much was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from napari_genselfdiff import __version__
from napari_genselfdiff.annotation.measure import measure
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region

Frame = Literal["level0", "qupath"]


def frame_offset(frame: Frame, bounds: Region | None) -> tuple[int, int]:
    """Level-0 corner (x, y) of a frame: the slide's own, or that of its bounds as QuPath crops it.

    Raises
    ------
    ConfigError
        If there is no such frame.
    """
    if frame not in {"level0", "qupath"}:
        raise ConfigError(f"frame {frame!r}; 'level0' or 'qupath' is needed")
    return (bounds.x, bounds.y) if frame == "qupath" and bounds is not None else (0, 0)


def origin(
    store: AnnotationStore,
    task_name: str,
    *,
    frame: Frame = "level0",
    offset: tuple[int, int] = (0, 0),
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Plain JSON values on where an export comes from.

    Raises
    ------
    ConfigError
        If the task is unknown.
    """
    if task_name not in store.tasks:
        raise ConfigError(f"no task {task_name!r} to export, only {sorted(store.tasks)}")
    measures = measure(store, task_name)
    return {
        "app": f"napari-genselfdiff {__version__}",
        "use": "Research use only",
        "slide": {"name": store.slide.path.replace("\\", "/").rsplit("/", 1)[-1]},
        "slide_hash": store.slide.hash,
        "task": task_name,
        "mpp": store.mpp,
        "mpp_assumed": store.mpp_assumed,
        "downsample": store.downsample(task_name),
        "frame": frame,
        "offset": list(offset),
        "models": list(store.model_hashes(task_name)),
        "checked_share": round(measures.checked_share, 4),
        "shares": {name: round(share, 4) for name, share in measures.shares.items()},
        "checked_by": measures.sentence,
        "provenance": dict(provenance or {}),
    }
