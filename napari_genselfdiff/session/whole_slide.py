"""Segment slide: a run over the whole slide that goes on while one works, with pause and resume.

The run's own processes write only into its folder; this side, which owns the annotations, takes
finished blocks over piece by piece, while the hand rests, around everything a person said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_genselfdiff.annotation.runs import unpack_tiles
from napari_genselfdiff.engine.headless import finish_run
from napari_genselfdiff.engine.slide_request import SlideRequest, objects_in
from napari_genselfdiff.engine.slide_run import SlideRun
from napari_genselfdiff.engine.workers import BATCH_NICENESS, LocalWorkers, for_many_workers
from napari_genselfdiff.errors import ConfigError, GenSelfDiffError, ModelFileError
from napari_genselfdiff.prediction.profile import FILE_NAME, Profile, default_profile
from napari_genselfdiff.prediction.tiles import core_size, model_downsample
from napari_genselfdiff.session import wording
from napari_genselfdiff.session.events import Activity
from napari_genselfdiff.session.taking_over import TakingOver

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_genselfdiff.annotation.runs import RunFolder
    from napari_genselfdiff.annotation.window import Operation
    from napari_genselfdiff.engine.job import Job
    from napari_genselfdiff.engine.workers import Workers
    from napari_genselfdiff.prediction.plan import Plan, Tissue
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.geometry import Region

State = Literal["idle", "running", "pausing", "paused"]


@dataclass(frozen=True)
class Unfinished:
    """A run of this slide and task that was interrupted; ``share`` of its blocks are done."""

    run: RunFolder
    share: float
    model: str


class SlideSegmenting:
    """The run over the whole slide, if there is one.

    Parameters
    ----------
    session
        Whose slide, task and model are used.

    Attributes
    ----------
    edited
        Gives what is being edited (pixels of the task's grid) or None; nothing is taken over there.
    busy
        Says whether a stroke is being drawn; nothing is taken over meanwhile.
    make_workers
        Starts the processes of a run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: TakingOver | None = None
        self._looking: Job | None = None
        self._told: object = None
        self.activity: Activity | None = None
        self.tissue: Tissue | None = None
        self.found_threshold: float | None = None
        self.threshold: float | None = None
        self.edited: Callable[[], Region | None] = lambda: None
        self.busy: Callable[[], bool] = lambda: False
        self.make_workers: Callable[[int], Workers] = lambda number: LocalWorkers(
            number, BATCH_NICENESS
        )

    # -- before ---------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Whether a run works, is asked to pause, or rests."""
        running = self._running
        if running is None:
            return "idle"
        if not running.work.paused:
            return "running"
        return "paused" if running.work.idle else "pausing"

    def problem(self) -> str:
        """Say why the slide cannot be segmented; empty if it can."""
        session = self._session
        try:
            slide, _ = session.open_store()
            model_downsample(slide.mpp, session.open_model().card.mpp_range)
        except (GenSelfDiffError, OSError) as err:
            return str(err)
        return ""

    def look(self, threshold: float | None = None) -> None:
        """Find the tissue in the worker; ``whole_slide_changed`` tells when it is there."""
        slide = self._session.slide
        if slide is None:
            return
        self.threshold = threshold
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._session.engine.tissue(slide.path, slide.mpp, threshold)

    def tissue_share(self) -> float | None:
        """Share of the slide that is tissue; None while unknown."""
        return None if self.tissue is None else float(self.tissue.mask.mean())

    def unfinished(self) -> Unfinished | None:
        """A run of this slide that was interrupted, if none runs now."""
        store, task = self._session.store, self._session.task
        if self._running is not None or store is None or task.name not in store.tasks:
            return None
        model = self._session.model
        if store.read_only or model is None:
            return None
        run = self._request(model, Profile()).unfinished()
        if run is None:
            return None
        found = run.manifest()
        done = len(run.taken()) + sum(1 for _ in (run.path / "blocks").glob("[0-9]*"))
        side = max(1, found.block // core_size(model.card.tile, model.card.halo))
        wanted = unpack_tiles(found)
        rows, columns = (np.arange(0, n, side) for n in wanted.shape)
        blocks = np.add.reduceat(np.add.reduceat(wanted, rows, axis=0), columns, axis=1)
        total = max(1, int(np.count_nonzero(blocks)))
        return Unfinished(run, min(1.0, done / total), found.model.name)

    # -- verbs ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Segment the tissue of the slide; one can go on working meanwhile."""
        session = self._session
        if self._running is not None:
            raise ConfigError("the slide is being segmented already")
        _, store = session.open_store()
        profile, number = for_many_workers(self._profile(), None)
        model = session.open_model()
        store.take_over_classes(model.card.task)
        request = self._request(model, profile)
        if request.unfinished() is not None:
            raise ConfigError("a run of this slide was interrupted: go on with it, or discard it")
        same = self.tissue if self.tissue is not None and not self._is_looking else None
        run, plan = request.begin(same)
        if not plan.blocks:
            run.discard()
            raise ConfigError("no tissue was found; lower the threshold")
        self._begin(request, run, plan, number)

    def go_on(self) -> None:
        """Go on with the run that was interrupted, with the model and settings it began with."""
        there = self.unfinished()
        if there is None:
            raise ConfigError("no run of this slide was interrupted")
        found = there.run.manifest()
        profile = Profile.from_dict(found.profile)
        request = self._request(self._model_of(found.model.path, found.model.hash), profile)
        plan = request.go_on(there.run)
        self._begin(request, there.run, plan, for_many_workers(profile, None)[1])

    def discard(self) -> None:
        """Forget the run that was interrupted; what it finished stays."""
        there = self.unfinished()
        if there is not None:
            there.run.discard()
            self._session.say("Discarded; what was finished stays in the annotations.")
            self._report()

    def pause(self) -> None:
        """Stop at the next tile; nothing that was computed is lost."""
        if self._running is not None:
            self._running.work.pause()
            self._report()

    def resume(self) -> None:
        """Go on after a pause."""
        if self._running is not None:
            self._running.work.resume()
            self._report()

    def cancel(self) -> bool:
        """End the run for good; what it finished stays. False if none was there."""
        running = self._end()
        if running is None:
            return False
        running.run.discard()
        self._session.say("Cancelled; what was finished stays in the annotations.")
        self._report()
        return True

    def undo(self) -> Operation | None:
        """Take back the last thing a person did, under the parts of the run that came since.

        Those parts come back by themselves a moment later.

        Raises
        ------
        ConfigError
            If a person did nothing yet, or too long ago.
        """
        running = self._running
        if running is None:
            raise ConfigError("no slide is being segmented")
        running.step_back()
        return running.request.store.undo()

    def leave(self) -> None:
        """Let go of the slide: the run stays on disk and is offered when the slide is opened."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self.tissue = self.found_threshold = self.threshold = None
        with self._session.attempt():
            self._end()
        self._report()

    def poll(self) -> None:
        """Take in what was found, computed or finished; a piece of the annotations at most."""
        self._take_tissue()
        running = self._running
        if running is None:
            return
        try:
            running.queue.extend(running.work.step(0))
            running.take(self.edited(), is_busy=self.busy())
        except (GenSelfDiffError, OSError):
            self._end()
            self._report()
            raise
        if running.is_over:
            self._finish(running)
        else:
            self._tell()

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _is_looking(self) -> bool:
        return self._looking is not None

    def _profile(self) -> Profile:
        """Speed settings; never measured here, which would stop the window for seconds."""
        from napari_genselfdiff.registry.home import data_home

        if self._session.profile is not None:
            return self._session.profile
        if not (data_home() / FILE_NAME).exists():
            raise ConfigError("this computer is still being measured; try again in a few seconds")
        return default_profile()

    def _request(self, model: Model, profile: Profile) -> SlideRequest:
        slide, store = self._session.open_store()
        task = self._session.task.name
        read = slide.in_colors(model.card.colors)
        return SlideRequest(read, store, task, model, profile, None, self.threshold)

    def _model_of(self, path: str, model_hash: str) -> Model:
        from napari_genselfdiff.registry.folder import read_model

        current = self._session.model
        if current is not None and current.hash == model_hash:
            return current
        found = read_model(Path(path), verify=False)
        if found.hash != model_hash:
            raise ModelFileError(
                "the model the run began with has changed; discard the run and start anew"
            )
        return found

    def _begin(self, request: SlideRequest, run: RunFolder, plan: Plan, number: int) -> None:
        workers = self.make_workers(min(number, len(plan.blocks)))
        work = SlideRun(run, plan, request.spec(run, plan), workers)
        work.resume()
        self._running = TakingOver(request, run, plan, work, self._session.predicting.writer)
        self._session.say("Segmenting the slide; go on working.")
        self._report()

    def _end(self) -> TakingOver | None:
        running, self._running = self._running, None
        if running is not None:
            try:
                running.take_written()
            finally:
                running.work.close()
        return running

    def _take_tissue(self) -> None:
        job = self._looking
        if job is None or not job.done:
            return
        self._looking = None
        if job.state == "cancelled":
            return
        self.tissue, threshold = job.value()
        if self.threshold is None:
            self.found_threshold = threshold
        self._report()

    def _finish(self, running: TakingOver) -> None:
        objects = objects_in(running.run)
        self._running = None
        running.work.close()
        finish_run(running.request, running.run, dict(running.work.seconds))
        task = self._session.task
        found = wording.things(task, objects if task.kind == "objects" else None)
        kept = wording.kept(running.kept_objects, running.kept_pixels, task)
        self._session.say(f"The slide is segmented: {found}. {kept}", "good")
        self._report()

    def _report(self) -> None:
        self.activity = self._activity()
        self._told = None
        self._tell()

    def _tell(self) -> None:
        """Say how far it is, if that is different from what was said last."""
        self.activity = self._activity()
        eta = None if self.activity is None else self.activity.eta_s
        now = (self.state, self.activity and self.activity.what, eta and round(eta))
        if now != self._told:
            self._told = now
            self._session.events.whole_slide_changed.emit()

    def _activity(self) -> Activity | None:
        running = self._running
        if running is None:
            return None
        share, state = running.work.share, self.state
        words = {"running": "Segmenting the slide", "pausing": "Pausing", "paused": "Paused"}
        if state == "running" and running.work.finished:
            return Activity("Putting the results in their places", share)
        eta = running.work.eta_s if state == "running" else None
        return Activity(f"{words.get(state, state)}: {share:.0%}", share, eta)
