"""One run over a whole slide: hands out its tasks and keeps the order among them. No threads.

First come tiles, then the blocks that need them; every block that is ready is for the owner of the
annotations to take over. All that was done lies in the run's folder, so that the next process goes
on where this one ended, whatever ended it.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from napari_genselfdiff.engine.slide_tasks import work
from napari_genselfdiff.errors import GenSelfDiffError, JobFailedError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from napari_genselfdiff.annotation.runs import RunFolder
    from napari_genselfdiff.engine.workers import Workers
    from napari_genselfdiff.prediction.plan import Place, Plan

_TILES = 16  # of a task: few enough that all workers share the first block of a slide
_DEATHS = 3  # workers that may die over one task


class Task(NamedTuple):
    """Answer for some fresh tiles of a block ("predict"), or decide on it ("decide")."""

    what: Literal["predict", "decide"]
    block: int
    part: int = 0


class SlideRun:
    """The tasks of a run.

    Parameters
    ----------
    run, plan
        What is computed, and where it is kept.
    spec
        What every worker needs to know; see ``slide_tasks.work``.
    workers
        Who does it.
    """

    def __init__(self, run: RunFolder, plan: Plan, spec: dict[str, Any], workers: Workers) -> None:
        self.run, self.plan = run, plan
        self._spec, self._workers = spec, workers
        self._running: dict[Future[Any], Task] = {}
        self._waiting: deque[Task] = deque()
        self._deaths: Counter[Task] = Counter()
        self._decided: set[int] = set()
        self._ready: deque[int] = deque()
        blocks = range(len(plan.blocks))
        self._sources = [plan.sources(number) for number in blocks]  # not predicted yet
        self._feeds: dict[int, list[int]] = {number: [] for number in blocks}
        for number, sources in enumerate(self._sources):
            for source in sources:
                self._feeds[source].append(number)
        self._users = np.zeros(plan.wanted.shape, np.int16)  # undecided blocks that need a tile
        self._places: dict[Task, list[Place]] = {}  # tiles of every task that is not done
        self._counted: Counter[Task] = Counter()  # those of them that are answered
        self._parts = [0 for _ in blocks]  # tasks left for the fresh tiles of a block
        self._started, self._begun_with = time.monotonic(), 0.0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tiles = 0
        self.computed = 0
        self._paused = False
        self._look_around()

    # -- how far it is --------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Number of tiles of the whole run."""
        return self.plan.total

    @property
    def share(self) -> float:
        """How much of the work is done, 0..1: tiles, and the blocks decided from them."""
        tiles = self.tiles / max(self.total, 1)
        blocks = len(self._decided) / max(len(self.plan.blocks), 1)
        return 0.9 * tiles + 0.1 * blocks

    @property
    def finished(self) -> bool:
        """Whether every block is decided; the owner may still have to take some over."""
        return len(self._decided) == len(self.plan.blocks)

    @property
    def idle(self) -> bool:
        """Whether no worker is at a task of this run."""
        return not self._running

    @property
    def paused(self) -> bool:
        """Whether it was asked to stop."""
        return self._paused

    @property
    def eta_s(self) -> float | None:
        """Seconds left, judged by what was done since the start; None while unknown."""
        fresh = self.share - self._begun_with
        if fresh <= 0:
            return None
        return (time.monotonic() - self._started) / fresh * (1 - self.share)

    # -- doing ----------------------------------------------------------------------------------

    def step(self, timeout: float) -> list[int]:
        """Hand out tasks and take in results, waiting at most ``timeout`` seconds for one.

        Returns
        -------
        list
            Blocks that can be taken over now.

        Raises
        ------
        GenSelfDiffError
            If a task cannot be done; what is done is kept and the run can go on later.
        """
        self._hand_out()
        if self._running:
            done, _ = wait(self._running, timeout, FIRST_COMPLETED)
            for future in done:
                self._take_in(self._running.pop(future), future)
            self._hand_out()
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def pause(self) -> None:
        """Stop at the next tile; :meth:`idle` once that is so."""
        self.run.ask_stop(True)
        self._paused = True
        for future, task in list(self._running.items()):
            if future.cancel():
                del self._running[future]
                self._waiting.appendleft(task)

    def resume(self) -> None:
        """Go on after a pause."""
        self.run.ask_stop(False)
        self._paused = False
        self._started, self._begun_with = time.monotonic(), self.share

    def recompute(self, number: int) -> None:
        """Decide on a block again, whose file was damaged on disk."""
        self._decided.discard(number)
        self._users[self.plan.part(number)] += 1
        self._waiting.append(Task("decide", number))

    def close(self) -> None:
        """Let go of the workers."""
        for future in self._running:
            future.cancel()
        self._running.clear()
        self._workers.close()

    # -- inside ---------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Find what earlier processes left, and queue the rest."""
        taken, blocks = set(self.run.taken()), range(len(self.plan.blocks))
        for number in blocks:
            if number in taken or self.run.has_block(number):
                self._decided.add(number)
                if number not in taken:
                    self._ready.append(number)
            else:
                self._users[self.plan.part(number)] += 1
        for number in blocks:
            fresh = self.plan.fresh(number)
            left = [p for p in fresh if self._users[p] and not self.run.has_tile(p)]
            self.tiles += len(fresh) - len(left)
            for part, start in enumerate(range(0, len(left), _TILES)):
                task = Task("predict", number, part)
                self._places[task] = left[start : start + _TILES]
                self._parts[number] += 1
                self._waiting.append(task)
        self._begun_with = self.share
        for number in reversed(blocks):
            if not self._parts[number]:
                self._on_predicted(number)

    def _on_predicted(self, number: int) -> None:
        """Queue the blocks whose tiles are all answered now, before any further tiles."""
        for other in self._feeds[number]:
            self._sources[other].discard(number)
            if not self._sources[other] and other not in self._decided:
                self._waiting.appendleft(Task("decide", other))

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self._workers.ahead and not self._paused:
            task = self._waiting.popleft()
            self._running[self._workers.submit(work, self._described(task))] = task

    def _described(self, task: Task) -> dict[str, Any]:
        """Give a task in plain values."""
        plan, number = self.plan, task.block
        spec = {**self._spec, "what": task.what, "block": number}
        if task.what == "predict":
            return {**spec, "places": self._places[task]}
        area, around = plan.blocks[number], plan.around(number)
        return {
            **spec,
            "places": plan.needs(number),
            "area": [area.y, area.x, area.height, area.width],
            "around": [around.y, around.x, around.height, around.width],
        }

    def _take_in(self, task: Task, future: Future[Any]) -> None:
        try:
            result: dict[str, Any] = future.result()
        except (Exception, CancelledError) as err:  # noqa: BLE001  (whatever a worker met)
            self._on_failure(task, err)
            return
        for step, seconds in result["seconds"].items():
            self.seconds[step] += seconds
        self.computed += result["tiles"]
        if result["stopped"]:
            self._counted[task] += result["tiles"]
            self.tiles += result["tiles"]
            self._waiting.appendleft(task)
        elif task.what == "predict":
            self.tiles += len(self._places.pop(task)) - self._counted.pop(task, 0)
            self._parts[task.block] -= 1
            if not self._parts[task.block]:
                self._on_predicted(task.block)
        else:
            self._on_decided(task.block)

    def _on_decided(self, number: int) -> None:
        self._decided.add(number)
        self._ready.append(number)
        self._users[self.plan.part(number)] -= 1
        needs = self.plan.needs(number)
        self.run.drop_tiles(place for place in needs if self._users[place] <= 0)

    def _on_failure(self, task: Task, error: BaseException) -> None:
        """Try again elsewhere if only a worker died; else this is the end."""
        self._waiting.appendleft(task)
        if self._paused and isinstance(error, CancelledError):
            return
        self._deaths[task] += 1
        if self._workers.revived(error):
            if self._deaths[task] < _DEATHS:
                return
            raise JobFailedError(
                f"workers died {_DEATHS} times over the same part of the slide, perhaps because "
                "the memory was not enough; use fewer workers and run the same command to go on"
            ) from error
        if isinstance(error, GenSelfDiffError):
            raise error
        text = " ".join(str(error).split())[:300]
        raise JobFailedError(
            f"a worker failed ({type(error).__name__}: {text}); what was finished is kept, run "
            "the same command again to go on"
        ) from error
