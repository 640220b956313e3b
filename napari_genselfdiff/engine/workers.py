"""Who does the tasks of a whole-slide run: this process, processes of this machine, or a cluster.

Each is a ``concurrent.futures.Executor`` and the little that differs: how many tasks to keep in
flight, and what can be done when workers die.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from typing import TYPE_CHECKING, Any, Protocol

from napari_genselfdiff.engine.slide_tasks import begin, forget
from napari_genselfdiff.engine.spawn import without_main
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.profile import Profile, available_cores

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

BATCH_NICENESS = 5  # the window and its own workers come first


class Workers(Protocol):
    """What a run asks of those who do its tasks."""

    @property
    def ahead(self) -> int:
        """How many tasks to hand over before the first of them is done."""

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Hand over a task."""

    def revived(self, error: BaseException) -> bool:
        """Whether this error only says that a worker died, and others can go on now."""

    def close(self) -> None:
        """Let the workers go; tasks that run are ended or forgotten."""


class HereWorkers:
    """One thread of this process: nothing is started, for small slides and tests."""

    ahead = 1

    def __init__(self) -> None:
        self._executor: Executor = ThreadPoolExecutor(1, "slide")

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Hand over a task."""
        return self._executor.submit(task, *arguments)

    def revived(self, _error: BaseException) -> bool:
        """A thread does not die alone."""
        return False

    def close(self) -> None:
        """Wait for the task that runs."""
        self._executor.shutdown(cancel_futures=True)
        forget()


class LocalWorkers:
    """Processes of this machine; dead ones are replaced.

    Parameters
    ----------
    number
        Of processes, 1 or more.
    niceness
        How much they give way to others (Unix).
    """

    def __init__(self, number: int, niceness: int = BATCH_NICENESS) -> None:
        if number < 1:
            raise ConfigError(f"{number} workers; at least 1 is needed")
        self._number, self._niceness = number, niceness
        self._executor: ProcessPoolExecutor | None = None

    @property
    def ahead(self) -> int:
        """Two tasks for each worker, so that none waits for its next one."""
        return 2 * self._number

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that were started."""
        processes = {} if self._executor is None else self._executor._processes
        return [] if processes is None else list(processes)

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Hand over a task; the processes start with the first."""
        with without_main():
            if self._executor is None:
                self._executor = ProcessPoolExecutor(
                    self._number,
                    multiprocessing.get_context("spawn"),
                    begin,
                    (self._niceness,),
                )
            return self._executor.submit(task, *arguments)

    def revived(self, error: BaseException) -> bool:
        """Take new processes where one died; all of them end with it."""
        if not isinstance(error, BrokenExecutor):
            return False
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        return True

    def close(self) -> None:
        """End the processes, also in the middle of a task: its files are whole or not there."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        processes = list((executor._processes or {}).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.join(0.1)
            if process.is_alive():
                process.kill()
                process.join()


def for_many_workers(profile: Profile, workers: int | None) -> tuple[Profile, int]:
    """Share this machine's cores among workers of one thread, which lose nothing by waiting.

    Parameters
    ----------
    profile
        As measured for one process. On a GPU it is left as it is.
    workers
        None for as many as there are cores; on a GPU two, so that it never waits for labels.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers; at least 1 is needed")
    if profile.device != "cpu":
        return profile, workers or min(4, available_cores())
    from dataclasses import replace

    number = workers or max(1, available_cores())
    threads = max(1, available_cores() // number)
    return replace(profile, threads=threads, parallel=1), number
