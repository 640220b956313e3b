"""The engine: two worker processes, so that Predict answers while Refine runs; one for exports."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Self

from napari_genselfdiff.engine import exporting, tasks
from napari_genselfdiff.engine.job import Job
from napari_genselfdiff.engine.lane import CANCEL_S, Lane
from napari_genselfdiff.engine.messages import Run
from napari_genselfdiff.errors import JobFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.engine.exporting import ExportRequest, ListRequest
    from napari_genselfdiff.learning.refine import RefineRequest
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

LaneName = Literal["interactive", "training", "files"]

_TRAINING_NICENESS = 10
_TRAINING_PATIENCE = 15  # Refine compares models between two reports
_FILES_NICENESS, _FILES_PATIENCE = 5, 5  # a slide on a slow drive is read block by block
_QUIT_S = 1.0  # for a worker to end by itself
_POLL_S = 0.02  # of a turn of the window's event loop, at most


class Engine:
    """Runs long work outside this process. No Qt, no network port.

    A thread a worker takes in what it says; everything else, signals included, happens in the
    thread that calls :meth:`poll` now and then (a timer of the window), or :meth:`Job.wait`.
    Workers start with the first job, or with :meth:`start`; one that died is replaced for the
    next job. That for files ends when it has nothing to do. A job is never run again by itself.
    """

    def __init__(self) -> None:
        self._news = threading.Event()
        self._lanes: dict[LaneName, Lane] = {
            "interactive": Lane("interactive", self._news),
            "training": Lane("training", self._news, _TRAINING_NICENESS, _TRAINING_PATIENCE),
            "files": Lane("files", self._news, _FILES_NICENESS, _FILES_PATIENCE),
        }
        self._numbers = itertools.count(1)
        self._predictions: set[int] = set()
        self._closed = False

    # -- work -----------------------------------------------------------------------------------

    def predict(
        self,
        slide_path: Path,
        mpp: float | None,
        model_path: Path,
        region0: Region,
        profile: Profile | None = None,
    ) -> Job:
        """Segment a region of a slide; partials are TileDone, the result is RegionDone.

        Only the newest request waits: one that has not begun is cancelled by a newer one.

        Parameters
        ----------
        slide_path, mpp
            The slide, and its micrometre per pixel where the user stated it.
        model_path
            Folder of the model.
        region0
            Level-0 pixels.
        profile
            None is this machine's own, measured by the worker.
        """
        for waiting in self._lanes["interactive"].queued:
            if waiting.number in self._predictions:
                waiting.cancel()
        arguments = (slide_path, mpp, model_path, region0, profile)
        job = self.submit("interactive", tasks.predict, *arguments, title="Predict")
        self._predictions = {job.number}
        return job

    def tissue(self, slide_path: Path, mpp: float | None, threshold: float | None) -> Job:
        """Find the tissue of a slide; the result is a Tissue and its threshold."""
        arguments = (slide_path, mpp, threshold)
        return self.submit("interactive", tasks.tissue, *arguments, title="Find tissue")

    def measure(
        self, store: AnnotationStore, task: str, slide: Slide, threshold: float | None
    ) -> Job:
        """Measure a task beside everything else; partials are MeasuringDone, the result Measured.

        It takes turns with Refine, so that Predict never waits for it.

        Parameters
        ----------
        store, task
            Open annotations, all of whose changes are on disk, and one of their tasks.
        slide
            The slide they are of.
        threshold
            Optical density above which it is tissue; None finds it.
        """
        mpp = slide.mpp if slide.mpp_assumed else None
        where = store.path, store.files.aside, task
        arguments = (*where, slide.path, mpp, threshold)
        return self.submit("training", tasks.measure, *arguments, title="Measure")

    def export(self, request: ExportRequest | ListRequest) -> Job:
        """Write a file in a process of its own; partials are ExportDone, the result Exported.

        The annotations should hold their steps until it is done: ``HeldStore.hold_steps``.
        """
        if isinstance(request, exporting.ListRequest):
            return self.submit("files", exporting.export_list, request, title="Export")
        return self.submit("files", exporting.export, request, title="Export")

    def refine(self, request: RefineRequest, profile: Profile | None = None) -> Job:
        """Refine a model; partials are RefineProgress, the result is RefineResult."""
        return self.submit("training", tasks.refine, request, profile, title="Refine")

    def warm_up(
        self,
        slide_path: Path | None = None,
        mpp: float | None = None,
        model_path: Path | None = None,
        profile: Profile | None = None,
    ) -> Job:
        """Prepare the interactive worker: import, measure, open, load, run one tile."""
        arguments = (slide_path, mpp, model_path, profile)
        return self.submit("interactive", tasks.warm_up, *arguments, title="Warm-up")

    def submit(self, lane: LaneName, task: Callable[..., Any], *arguments: Any, title: str) -> Job:
        """Hand over any task (see :mod:`~napari_genselfdiff.engine.tasks`) with its arguments.

        Raises
        ------
        JobFailedError
            If the engine is closed.
        """
        if self._closed:
            raise JobFailedError(f"{title} cannot start: the engine is closed")
        target = self._lanes[lane]
        job = Job(next(self._numbers), title, target.cancel, self._pump, target.conclude)
        target.submit(job, Run(job.number, task, arguments))
        return job

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start both workers now, so that the first job does not wait for their start."""
        self._lanes["interactive"].start()
        self._lanes["training"].start()

    def poll(self) -> None:
        """Take in what the workers say and tell the jobs; quick, to be called every 20-50 ms."""
        deadline = time.monotonic() + _POLL_S
        for lane in self._lanes.values():
            lane.poll(deadline)
        files = self._lanes["files"]
        if files.pid is not None and files.running is None and not files.queued:
            files.close(0.0)  # exports are rare, and its memory is not

    @property
    def busy(self) -> bool:
        """Whether any job runs or waits."""
        return any(lane.running is not None or lane.queued for lane in self._lanes.values())

    @property
    def pids(self) -> dict[LaneName, int]:
        """Process ids of the workers that live."""
        return {name: lane.pid for name, lane in self._lanes.items() if lane.pid is not None}

    def close(self) -> None:
        """End both workers; jobs that have not ended are cancelled. No process is left behind."""
        self._closed = True
        for lane in self._lanes.values():
            lane.quit()
        deadline = time.monotonic() + _QUIT_S
        for lane in self._lanes.values():
            lane.close(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _pump(self, timeout: float | None) -> None:
        """Wait for news and take them in; wakes up in time to notice overdue cancels."""
        patience = CANCEL_S / 4 if timeout is None else min(timeout, CANCEL_S / 4)
        self._news.wait(patience)
        self._news.clear()  # before looking: what comes from now on sets it again
        self.poll()
