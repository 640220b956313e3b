"""Predict: segment what is on screen in the worker, and put the result into the annotations.

Putting it there takes 0.1-0.5 s, most of it waiting for the disk, so another thread does it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.window import ACCEPTED
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.records import (
    labels_sha256,
    run_record,
    segment_command,
    write_run,
)
from napari_genselfdiff.prediction.region import (
    RegionDone,
    TileDone,
    to_store_window,
    unsure_in_store,
)
from napari_genselfdiff.prediction.tiles import model_downsample
from napari_genselfdiff.session import wording
from napari_genselfdiff.session.events import Activity
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Written
    from napari_genselfdiff.engine.job import Job
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.slide import Slide

MAX_SIDE = 4096
"""Longest side of a view to predict, in pixels of the model's grid."""
PREDICT, LIVE = "Predict", "Predict live"
"""Names in the history of what was asked for, and of what followed the view by itself."""


@dataclass(frozen=True)
class TilePreview:
    """A finished tile of a running prediction; regions are pixels of the model's grid.

    ``classes`` has the shape of ``core``.
    """

    region: Region
    core: Region
    downsample: float
    classes: NDArray[np.uint8]


@dataclass
class _Running:
    job: Job
    slide: Slide
    store: AnnotationStore
    task: TaskSpec
    model: Model
    region: Region
    downsample: float
    region0: Region
    live: bool


@dataclass(frozen=True)
class Unsure:
    """Where the last prediction is not sure: a rectangle of the task's grid, True = hatched."""

    region: Region
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Result:
    """What is known once a prediction is among the annotations."""

    written: Written
    unsure: Unsure
    objects: int | None
    run: Path | None


@dataclass
class _Writing:
    running: _Running
    done: RegionDone
    result: Future[_Result]


class Predicting:
    """The prediction that runs, if one does; a new one takes the place of the old.

    Parameters
    ----------
    session
        Whose slide, task and model are used.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: _Running | None = None
        self._writing: _Writing | None = None
        self.pool: Executor | None = None  # made when it is needed
        self.activity: Activity | None = None
        self.last_region0: Region | None = None
        self.command = ""
        self._unsure: tuple[Unsure, AnnotationStore, str] | None = None
        self.seconds: dict[str, float] = {}

    def problem(self, region0: Region | None) -> str | None:
        """Say why this view (level-0 pixels) cannot be predicted; None if it can."""
        try:
            self._place(region0)
        except (ConfigError, OSError) as err:  # OSError: errors of slide, store and model files
            return str(err)
        return None

    def is_too_large(self, region0: Region | None) -> bool:
        """Whether zooming in would help."""
        session = self._session
        if region0 is None or session.slide is None or session.model is None:
            return False
        try:
            scale = model_downsample(session.slide.mpp, session.model.card.mpp_range)
        except ConfigError:
            return False
        return max(region0.to_grid(scale.downsample).shape) > MAX_SIDE

    def start(self, region0: Region | None, *, live: bool = False) -> None:
        """Predict a region of level 0 with the model in use; one that runs is given up for it.

        ``live`` says that nobody asked for this view in particular, so less is said about it.
        """
        session = self._session
        slide, store = session.open_store()
        model = session.open_model()
        region, downsample = self._place(region0)
        if region0 is None:
            return
        self._stop_running()
        came = store.take_over_classes(model.card.task)
        job = session.engine.predict(slide.path, slide.mpp, model.path, region0, session.profile)
        read = slide.in_colors(model.card.colors)  # whatever is on screen
        self._running = _Running(
            job, read, store, session.task, model, region, downsample, region0, live
        )
        self.last_region0 = region0
        self._report(Activity("Preparing the model"))
        if came:
            names = " and ".join(came)
            session.say(f"{model.card.name} also knows {names}: added to the classes.", "good")
        elif not live:
            session.say(f"Predicting with {model.card.name}; you can go on looking around.")

    def cancel(self) -> bool:
        """Stop at the next tile; what was annotated stays as it was. False if nothing ran."""
        if not self._stop_running():
            return False
        self._report(None)
        self._session.say("Prediction cancelled; nothing was changed.")
        return True

    def finish(self) -> None:
        """Wait until a result that has come is among the annotations."""
        if self._writing is not None:
            self._take_written(self._writing)

    def close(self) -> None:
        """Finish, and end the thread."""
        with self._session.attempt():
            self.finish()
        if self.pool is not None:
            self.pool.shutdown()
            self.pool = None

    def forget(self) -> None:
        """Hatch nothing any more, and offer no command."""
        self._unsure, self.command = None, ""

    def unsure(self) -> Unsure | None:
        """Where the last prediction is not sure and nobody has looked since."""
        if self._unsure is None:
            return None
        found, store, task = self._unsure
        if store is not self._session.store or task != self._session.task.name:
            return None
        provenance = store.drawn_levels(task, "provenance")[0][found.region.slices]
        return Unsure(found.region, found.mask & (provenance < ACCEPTED))

    def poll(self) -> None:
        """Take in tiles and results."""
        if self._writing is not None and self._writing.result.done():
            self._take_written(self._writing)
        running = self._running
        if running is None:
            return
        self._take_tiles(running)
        if not running.job.done or self._writing is not None:
            return
        self._running = None
        try:
            result = running.job.value()
            if isinstance(result, RegionDone):
                self._write(running, result)
        finally:
            if self._writing is None:
                self._report(None)

    def _take_tiles(self, running: _Running) -> None:
        last: TileDone | None = None
        for item in running.job.take_partials():
            if isinstance(item, TileDone):
                self._on_tile(running, item)
                last = item
        if last is not None:  # once, however many came together
            share = last.done / max(last.total, 1)
            what = f"Predicting {wording.things(running.task)}"
            self._report(Activity(what, share, last.eta_s))

    def _place(self, region0: Region | None) -> tuple[Region, float]:
        """Region in the model's grid and that grid's downsample, or the reason why not."""
        slide, store = self._session.open_store()
        model = self._session.open_model()
        problem = store.answers(model.card.task)
        if problem is not None and not store.lacking(model.card.task):
            raise ConfigError(f"{model.card.name} cannot be used here: {problem}; choose another")
        visible = None if region0 is None else region0.clipped(slide.shape)
        if visible is None:
            raise ConfigError("nothing of the slide is on screen; move it into view")
        scale = model_downsample(slide.mpp, model.card.mpp_range)
        region = visible.to_grid(scale.downsample)
        if max(region.shape) > MAX_SIDE:
            raise ConfigError(
                "zoomed out too far: this view is larger than what is predicted at once; zoom in"
            )
        whole = region.clipped(grid_shape(slide.shape, scale.downsample))
        return whole or region, scale.downsample

    def _stop_running(self) -> bool:
        """Cancel the job that runs; False if none did."""
        if self._running is None:
            return False
        self._running.job.cancel()
        self._running = None
        return True

    def writer(self) -> Executor:
        """The one thread that puts predictions among the annotations."""
        if self.pool is None:
            self.pool = ThreadPoolExecutor(1, "genselfdiff-writing")
        return self.pool

    def _on_tile(self, running: _Running, tile: TileDone) -> None:
        preview = TilePreview(running.region, tile.core, tile.downsample, tile.classes)
        self._session.events.tile_done.emit(preview)

    def _write(self, running: _Running, done: RegionDone) -> None:
        """Begin to put a result among the annotations; every other change of them waits for it."""
        result = running.store.background.start(self.writer(), lambda: _put(running, done))
        self._writing = _Writing(running, done, result)
        if result.done():
            self._take_written(self._writing)

    def _take_written(self, writing: _Writing) -> None:
        """Tell that a result is among the annotations, or why it is not."""
        running, done = writing.running, writing.done
        self._writing = None
        try:
            running.store.background.settle()
            result = writing.result.result()
            self._unsure = result.unsure, running.store, running.task.name
            self.seconds = dict(done.seconds)
            if result.run is not None:
                self.command = segment_command(
                    running.slide, running.model, running.region0, result.run
                )
            self._say(running, done, result)
        finally:
            if self._running is None:
                self._report(None)

    def _say(self, running: _Running, done: RegionDone, result: _Result) -> None:
        found = result.objects
        number = wording.things(running.task, found) if found is not None else "Areas"
        written = result.written
        kept = wording.kept(written.kept_objects, written.kept_pixels, running.task)
        hint = "" if running.live else " Correct what is wrong, or accept the view."
        text = f"{number} in {wording.duration(done.seconds.get('total', 0))}. {kept}"
        if done.warning:
            self._session.say(f"{text} Careful: {done.warning}.", "warning")
        else:
            self._session.say(f"{text}{hint}", "good")

    def _report(self, activity: Activity | None) -> None:
        self.activity = activity
        self._session.events.predicting_changed.emit()


def _put(running: _Running, done: RegionDone) -> _Result:
    """Put a result among the annotations, and write down how the labels came about."""
    downsample = running.store.downsample(running.task.name)
    window = to_store_window(done, running.slide.shape, downsample)
    written = running.store.write_prediction(
        running.task.name,
        window,
        model_hash=running.model.hash,
        what=LIVE if running.live else PREDICT,
    )
    run = None
    if done.profile is not None:
        labels = labels_sha256(window)
        record = run_record(
            running.slide, running.model, done.profile, running.region0, done.seconds, labels
        )
        run = write_run(running.store.path, record)
    unsure = Unsure(*unsure_in_store(done, running.slide.shape, downsample))
    return _Result(written, unsure, _count(window.objects), run)


def _count(objects: NDArray[np.uint32] | None) -> int | None:
    if objects is None:
        return None
    ids = np.unique(objects)
    return int(ids.size - (ids[:1] == 0).sum())
