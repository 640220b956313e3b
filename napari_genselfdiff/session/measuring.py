"""Measure: objects, classes and regions of interest of the slide that is open.

The work is done in a worker process, from what is on disk, while one goes on working; what was
measured stays until the task or the slide is another one, and says so when it is out of date.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from napari_genselfdiff.errors import ConfigError, StoreError
from napari_genselfdiff.session import wording
from napari_genselfdiff.session.events import Activity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.annotation.paths import Point
    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.engine.job import Job
    from napari_genselfdiff.prediction.measuring import Measured
    from napari_genselfdiff.session.session import Session


class Measuring:
    """What was measured last, the measuring that goes on, and the regions of interest.

    Parameters
    ----------
    session
        Whose slide, task and annotations are meant.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: tuple[Job, AnnotationStore, str] | None = None
        self._changed_since = False
        self._task = ""
        self._rois: tuple[Roi, ...] = ()
        self.activity: Activity | None = None
        self.measured: Measured | None = None
        self.is_stale = False
        events = session.events
        events.annotations_changed.connect(self._on_change)
        events.history_changed.connect(self.refresh_rois)
        events.slide_changed.connect(self._on_slide)
        events.task_changed.connect(self._on_task)

    # -- measuring ------------------------------------------------------------------------------

    def start(self) -> None:
        """Measure the task; ``measuring_changed`` tells how far it is.

        Raises
        ------
        ConfigError
            If there is nothing to measure, or measuring goes on already.
        """
        session = self._session
        slide, store = session.readable_store()
        task = session.task.name
        if self._running is not None:
            raise ConfigError("this task is being measured already")
        if task not in store.tasks or not any(store.shares(task)[name] for name in _BY_WHOM):
            raise ConfigError("nothing is annotated yet; press Predict, or draw something")
        store.background.settle()  # what is on its way into the annotations belongs to it
        threshold = session.whole_slide.threshold
        job = session.engine.measure(store, task, slide, threshold)
        self._running, self._changed_since = (job, store, task), False
        self._report(Activity(f"Measuring {wording.things(session.task)}"))

    def cancel(self) -> bool:
        """Stop at the next part of the slide; what was measured before stays. False if idle."""
        if not self._stop():
            return False
        self._report(None)
        self._session.say("Measuring cancelled.")
        return True

    def poll(self) -> None:
        """Take in how far it is, and what was measured."""
        if self._running is None:
            return
        job, _, task = self._running
        steps = job.take_partials()
        if steps:
            share, eta = steps[-1].share, steps[-1].eta_s
            what = f"Measuring {wording.things(self._session.task)}: {share:.0%}"
            self._report(Activity(what, share, eta))
        if not job.done:
            return
        self._running = None
        try:
            result = job.value()
            if result is not None and task == self._session.task.name:
                self.measured, self.is_stale = result, self._changed_since
                self._say(result)
        finally:
            self._report(None)

    # -- regions of interest --------------------------------------------------------------------

    @property
    def rois(self) -> tuple[Roi, ...]:
        """Regions of interest of the slide."""
        return self._rois

    def add_roi(self, points: Sequence[Point], name: str = "") -> Roi:
        """Keep a region of interest; ``points`` are (y, x) of level 0, a free name is the default.

        Raises
        ------
        ConfigError
            If the name is taken or the outline encloses nothing.
        """
        from napari_genselfdiff.annotation.rois import free_name

        _, store = self._session.open_store()
        chosen = name.strip() or free_name(store.rois)
        made = store.add_roi(self._session.task.name, chosen, points)
        self._session.say(f"{made.name} is kept. Measure tells what is inside.", "good")
        return made

    def rename_roi(self, name: str, to: str) -> None:
        """Give a region of interest another name."""
        _, store = self._session.open_store()
        store.rename_roi(self._session.task.name, name, to)

    def remove_roi(self, name: str) -> None:
        """Forget a region of interest."""
        _, store = self._session.open_store()
        store.remove_roi(self._session.task.name, name)
        self._session.say(f"{name} is removed; what is inside stays. Undo brings it back.")

    def refresh_rois(self) -> None:
        """Take up the regions of interest as they are now."""
        store, found = self._session.store, self._rois
        if store is None:
            found = ()
        else:
            with suppress(StoreError):  # a damaged file is told when one is added
                found = store.rois
        if found != self._rois:
            self._rois = found
            self._on_change()
            self._session.events.rois_changed.emit()

    # -- inside ---------------------------------------------------------------------------------

    def _on_change(self, _region: object = None) -> None:
        self._changed_since = True
        if self.measured is not None and not self.is_stale:
            self.is_stale = True
            self._session.events.measuring_changed.emit()

    def _on_slide(self) -> None:
        self._forget()
        self.refresh_rois()

    def _on_task(self) -> None:
        if self._session.task.name != self._task:
            self._forget()
        else:  # its classes have changed
            self._on_change()

    def _forget(self) -> None:
        self._task = self._session.task.name
        self._stop()
        self.measured, self.is_stale = None, False
        self._report(None)

    def _stop(self) -> bool:
        if self._running is None:
            return False
        self._running[0].cancel()
        self._running = None
        return True

    def _say(self, result: Measured) -> None:
        count = len(result.table) if self._session.task.kind == "objects" else None
        took = wording.duration(result.seconds)
        self._session.say(
            f"Measured {wording.things(self._session.task, count)} in {took}.", "good"
        )

    def _report(self, activity: Activity | None) -> None:
        self.activity = activity
        self._session.events.measuring_changed.emit()


_BY_WHOM = ("model", "accepted", "human")
