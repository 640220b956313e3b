"""A whole-slide run from beginning to end without a window: one loop, one owner."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_genselfdiff.engine.slide_request import objects_in
from napari_genselfdiff.engine.slide_run import SlideRun
from napari_genselfdiff.engine.workers import HereWorkers, LocalWorkers
from napari_genselfdiff.prediction.records import run_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from napari_genselfdiff.annotation.runs import RunFolder
    from napari_genselfdiff.engine.slide_request import SlideRequest
    from napari_genselfdiff.engine.workers import Workers
    from napari_genselfdiff.prediction.plan import Plan

_SMALL = 128  # tiles; starting a process takes as long as these
_WAIT_S = 0.5


@dataclass(slots=True)
class SlideOutcome:
    """What a run did: ``seconds`` are summed over the workers, "total" is the clock on the wall.

    ``paused`` says that it was stopped on request and can go on.
    """

    tiles: int = 0
    computed: int = 0
    objects: int = 0
    kept_objects: int = 0
    kept_pixels: int = 0
    resumed: bool = False
    paused: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def segment_whole(
    request: SlideRequest,
    make_workers: Callable[[Plan], Workers],
    *,
    fresh: bool = False,
    show: Callable[[float, float | None], None] = lambda _share, _eta: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SlideOutcome:
    """Segment a slide into its annotations; an unfinished run of the same kind goes on.

    Parameters
    ----------
    request
        What, with what, into what.
    make_workers
        Gives who does the work, once the plan is known; see :func:`local_workers`.
    fresh
        Discard an unfinished run instead.
    show
        Told a share 0..1 and the seconds left (None while unknown).
    should_stop
        Asked all the time; when it says yes, workers stop at the next tile and the run stays.

    Raises
    ------
    GenSelfDiffError
        In one line. What was finished is in the annotations or in the run, which can go on.
    """
    started, outcome = time.perf_counter(), SlideOutcome()
    run, plan, outcome.resumed = begin_or_go_on(request, fresh=fresh)
    outcome.tiles = plan.total
    work = SlideRun(run, plan, request.spec(run, plan), make_workers(plan))
    own: defaultdict[str, float] = defaultdict(float)
    with request.store.overview_later(), closing(work):  # nobody looks on
        work.resume()
        while not (work.finished and work.idle):
            ready = work.step(_WAIT_S)
            _take_over_all(request, work, ready, outcome, own)
            show(work.share, work.eta_s)
            if should_stop() and not work.paused:
                work.pause()
            if work.paused and work.idle:
                outcome.paused = True
                break
        _take_over_all(request, work, work.step(0), outcome, own)
    outcome.objects, outcome.computed = objects_in(run), work.computed
    outcome.seconds = {
        **work.seconds,
        **own,
        "total": time.perf_counter() - started,
    }
    if not outcome.paused:
        finish_run(request, run, outcome.seconds)
    return outcome


def begin_or_go_on(request: SlideRequest, *, fresh: bool) -> tuple[RunFolder, Plan, bool]:
    """Give run, plan, and whether it is one that was begun before."""
    if fresh:
        request.discard_unfinished()
    there = request.unfinished()
    if there is not None:
        return there, request.go_on(there), True
    return *request.begin(), False


def finish_run(request: SlideRequest, run: RunFolder, seconds: dict[str, float]) -> None:
    """Leave ``run.json`` and delete what only served the way there."""
    record: dict[str, Any] = run_record(
        request.slide, request.model, request.profile, request.region0, seconds
    )
    run.finish(record | {"objects": objects_in(run)})


def local_workers(number: int, niceness: int = 0) -> Callable[[Plan], Workers]:
    """Processes of this machine, no more than there are blocks; none at all for a small slide."""

    def make(plan: Plan) -> Workers:
        if plan.total <= _SMALL:
            return HereWorkers()
        return LocalWorkers(min(number, max(1, len(plan.blocks))), niceness)

    return make


def _take_over_all(
    request: SlideRequest,
    work: SlideRun,
    ready: list[int],
    outcome: SlideOutcome,
    own: defaultdict[str, float],
) -> None:
    for number in ready:
        started = time.perf_counter()
        for written in request.take_over(work.run, number):
            if written is None:
                work.recompute(number)
            else:
                outcome.kept_objects += written.kept_objects
                outcome.kept_pixels += written.kept_pixels
        own["annotations"] += time.perf_counter() - started
