"""Export: files for other programs, written by a worker process while one goes on working.

A file shows the annotations as they were when the export began; what is changed meanwhile is not in
it. It goes on when another slide is opened.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from typing import TYPE_CHECKING, Literal

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session.events import Activity

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.engine.exporting import Exported, Moment
    from napari_genselfdiff.engine.job import Job
    from napari_genselfdiff.session.session import Session


@dataclass(frozen=True, slots=True)
class _Running:
    """An export on its way; ``strangers`` are half-written files that others left there."""

    job: Job
    store: AnnotationStore
    moment: Moment
    path: Path
    of: str
    remark: str
    strangers: frozenset[Path]

    @property
    def has_changed(self) -> bool:
        """Whether the annotations were changed since it began."""
        return self.store.moment().journal.done != self.moment.record.journal.done


class Exporting:
    """The export that goes on.

    Parameters
    ----------
    session
        Whose slide, task and annotations are meant.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: _Running | None = None
        self._cancelled: list[_Running] = []
        self.activity: Activity | None = None

    def start(self, path: Path, frame: Literal["level0", "qupath"] = "level0") -> None:
        """Write the task as what the name asks for; ``exporting_changed`` tells how far it is.

        Raises
        ------
        ConfigError
            If the name asks for nothing we write, or another export goes on.
        StoreError
            If there are no annotations.
        """
        from napari_genselfdiff.annotation.exchange.outgoing import export_kind
        from napari_genselfdiff.engine.exporting import ExportRequest, Moment

        session = self._session
        export_kind(path)
        slide, store = session.readable_store()
        self._check_free()
        model, task = session.model, session.task.name
        moment = Moment.of(store)
        request = ExportRequest(
            path=path,
            moment=moment,
            task=task,
            slide=slide.path,
            mpp=slide.mpp if slide.mpp_assumed else None,
            frame=frame,
            bounds=slide.bounds,
            provenance={"model": model and {"name": model.card.name, "hash": model.hash}},
        )
        self._begin(session.engine.export(request), store, moment, path, of=f" of {task}")

    def start_list(self, path: Path, rows: NDArray[np.intp]) -> None:
        """Write rows of the table that was measured, in this order, as CSV or Parquet.

        Raises
        ------
        ConfigError
            If nothing was measured yet, or another export goes on.
        """
        from napari_genselfdiff.engine.exporting import ListRequest, Moment

        session = self._session
        _, store = session.readable_store()
        self._check_free()
        measured = session.measuring.measured
        if measured is None:
            raise ConfigError("nothing was measured yet; press Measure first")
        moment = Moment.of(store)
        request = ListRequest(path, moment, measured.task, measured.table.chosen(rows))
        is_old = session.measuring.is_stale
        remark = "They are of before the last changes." if is_old else ""
        self._begin(session.engine.export(request), store, moment, path, remark=remark)

    def cancel(self) -> bool:
        """Stop; no file is left, or the older one. False if nothing is exported."""
        running = self._end()
        if running is None:
            return False
        running.job.cancel()
        self._cancelled.append(running)
        self._report(None)
        self._session.say(f"Export cancelled; {running.path.name} was not written.")
        return True

    def poll(self) -> None:
        """Take in how far it is, and the end."""
        running = self._running
        if running is None:
            return
        steps = running.job.take_partials()
        if steps:
            what = f"Exporting {running.path.name}: {steps[-1].share:.0%}"
            self._report(Activity(what, steps[-1].share, steps[-1].eta_s))
        if not running.job.done:
            return
        self._end()
        if running.job.state != "done":
            _remove_half_written(running)
        try:
            result = running.job.value()
            if result is not None:
                self._say(running, result)
        finally:
            self._report(None)

    def sweep(self) -> None:
        """Take away what a worker left that did not stop when it was asked to and was ended."""
        for running in self._cancelled:
            _remove_half_written(running)
        self._cancelled.clear()

    # -- inside ---------------------------------------------------------------------------------

    def _check_free(self) -> None:
        if self._running is not None:
            raise ConfigError(
                f"{self._running.path.name} is being exported; wait for it or cancel it first"
            )

    def _begin(
        self,
        job: Job,
        store: AnnotationStore,
        moment: Moment,
        path: Path,
        *,
        of: str = "",
        remark: str = "",
    ) -> None:
        self.sweep()
        store.hold_steps()
        strangers = frozenset(_half_written(path))
        self._running = _Running(job, store, moment, path, of, remark, strangers)
        self._report(Activity(f"Exporting {path.name}"))
        self._session.say(f"Exporting {path.name} as it is now; go on working.")

    def _end(self) -> _Running | None:
        running, self._running = self._running, None
        if running is not None:
            running.store.release_steps()
        return running

    def _say(self, running: _Running, result: Exported) -> None:
        said = [f"Exported {result.written}{running.of} to {running.path.name}."]
        if running.remark:
            said.append(running.remark)
        elif running.store is self._session.store and running.has_changed:
            said.append("It shows them as they were when the export began.")
        if result.slide_problem:
            said.append(f"Stain densities are left out: {result.slide_problem}.")
        careful = bool(running.remark or result.slide_problem)
        self._session.say(" ".join(said), "warning" if careful else "good")

    def _report(self, activity: Activity | None) -> None:
        self.activity = activity
        self._session.events.exporting_changed.emit()


def _half_written(path: Path) -> list[Path]:
    with suppress(OSError):
        return list(path.parent.glob(f".{escape(path.name)}.*.partial"))
    return []


def _remove_half_written(running: _Running) -> None:
    """Take away what a worker left that was ended in the middle."""
    for left in set(_half_written(running.path)) - running.strangers:
        with suppress(OSError):
            left.unlink(missing_ok=True)
