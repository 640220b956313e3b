"""What is written down of every run, so that it can be repeated: ``run.json`` and its command."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import napari_genselfdiff
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

FILE_NAME = "run.json"


def labels_sha256(window: Window) -> str:
    """SHA-256 of a prediction: place, class values and objects, as bytes in reading order."""
    region = window.region
    digest = hashlib.sha256(f"{region.y},{region.x},{region.height},{region.width}".encode())
    digest.update(window.classes.astype("u1").tobytes())
    if window.objects is not None:
        digest.update(window.objects.astype("<u4").tobytes())
    return digest.hexdigest()


def run_record(
    slide: Slide,
    model: Model,
    profile: Profile,
    region0: Region | None,
    seconds: dict[str, float],
    labels: str | None = None,
) -> dict[str, Any]:
    """What ``run.json`` holds: everything needed to get the same labels again.

    ``labels`` is their SHA-256, from :func:`labels_sha256`.
    """
    total = seconds.get("total", 0.0)
    return {
        "schema": 1,
        "version": napari_genselfdiff.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "started": datetime.fromtimestamp(time.time() - total, UTC).isoformat(timespec="seconds"),
        "slide": {
            "path": str(slide.path),
            "hash": slide.hash,
            "mpp": slide.mpp,
            "mpp_assumed": slide.mpp_assumed,
            "colors": slide.colors,
            "warnings": list(slide.warnings),
        },
        "model": {"name": model.card.name, "hash": model.hash, "task": model.card.task.name},
        "profile": profile.to_dict(),
        "region": (
            None if region0 is None else [region0.y, region0.x, region0.height, region0.width]
        ),
        "labels_sha256": labels,
        "seconds": {step: round(value, 3) for step, value in seconds.items()},
    }


def write_run(store: Path, record: Mapping[str, Any]) -> Path:
    """Write a record into a folder of its own under ``runs/`` of the annotations.

    Raises
    ------
    ConfigError
        If the disk refuses.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{time.time_ns() % 10**9:09d}"
    path = store / "runs" / stamp / FILE_NAME
    partial = path.with_name(f".{uuid4().hex}.partial")
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as err:
        raise ConfigError(
            f"{path} cannot be written: {err.strerror}; free space or choose another folder"
        ) from err
    return path


def segment_command(
    slide: Slide, model: Model, region0: Region, run: Path, *, system: str = os.name
) -> str:
    """Give the headless twin of a run: a line for the terminal that gives the same labels.

    Its speed settings are those of the run; it writes into ``predicted``, a folder of its own,
    because the annotations are in use while the window is open.
    """
    arguments = ["genselfdiff", "segment", str(slide.path)]
    arguments += ["--region", f"{region0.y},{region0.x},{region0.height},{region0.width}"]
    arguments += ["--model", str(model.path), "--profile", str(run)]
    if slide.colors != model.card.colors:
        arguments += ["--colors", slide.colors]
    if slide.mpp_assumed and slide.mpp is not None:
        arguments += ["--mpp", repr(slide.mpp)]
    return _joined([*arguments, "--out", "predicted"], system)


def _joined(arguments: Sequence[str], system: str) -> str:
    return subprocess.list2cmdline(arguments) if system == "nt" else shlex.join(arguments)
