"""What the session tells whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psygnal import Signal, SignalGroup

from napari_genselfdiff.slides.geometry import Region

Tone = Literal["plain", "good", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Status:
    """One sentence for the status line: what just happened, and what is safe to do."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Activity:
    """A job that runs; ``share`` is 0..1 or None while unknown, ``eta_s`` seconds left or None."""

    what: str
    share: float | None = None
    eta_s: float | None = None


class SessionEvents(SignalGroup):
    """Signals of a session; every one comes from the thread that calls ``Session.poll``."""

    slide_changed = Signal(description="a slide was opened or closed, or got its size")
    colors_changed = Signal(description="the open slide is shown in other colours")
    task_changed = Signal(description="another task, or its list of classes")
    model_changed = Signal(description="another model, or the list of models")
    annotations_changed = Signal(Region, description="pixels of the task's grid")
    history_changed = Signal(description="a step was done, undone or done again, in any task")
    tile_done = Signal(object, description="a TilePreview of a running prediction")
    predicting_changed = Signal(description="a prediction started, went on or ended")
    refining_changed = Signal(description="a refinement started, went on or ended, or was judged")
    whole_slide_changed = Signal(description="the slide's tissue, or the run over it")
    measuring_changed = Signal(description="measuring started, went on or ended, or is out of date")
    exporting_changed = Signal(description="an export started, went on or ended")
    rois_changed = Signal(description="another list of regions of interest")
    status_changed = Signal(Status)
