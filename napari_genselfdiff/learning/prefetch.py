"""Batches made ahead of the training thread, which then finds them ready."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from napari_genselfdiff.learning.data import Batch, PatchSampler

Indices = tuple[int, ...]
_MOST_WORKERS = 12


class Prefetch:
    """Wraps what makes batches: while one is used, the following ones are made on threads.

    Decoding, cutting and staining happen in libraries that release the interpreter lock. A batch
    depends on its indices alone, so results are those of the wrapped function, whatever is
    guessed; a wrong guess costs time only. An error of a batch is raised where that batch is
    asked for. Use it as a context manager, or call `close`.

    Parameters
    ----------
    make
        Gives the batch of some sample indices; called from several threads at once.
    total
        Indices from here on are not made ahead.
    workers
        Threads.
    ahead
        Batches that wait or are being made, besides the one in use: the bound on memory. None is
        one more than there are threads.
    """

    def __init__(
        self,
        make: Callable[[Sequence[int]], Batch],
        *,
        total: int,
        workers: int = 1,
        ahead: int | None = None,
    ) -> None:
        self._make, self._total = make, total
        self._ahead = workers + 1 if ahead is None else ahead
        # One core for each thread: torch keeps this number per thread, so that of the caller stays.
        self._pool = ThreadPoolExecutor(
            workers, "patches", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._waiting: dict[Indices, Future[Batch]] = {}
        self._last: Indices = ()

    @classmethod
    def of(cls, sampler: PatchSampler, total: int, device: str) -> Self:
        """Make a sampler's batches ahead; those for a GPU are finished there."""
        on_cpu = device.startswith("cpu")
        make = sampler.batch if on_cpu else sampler.raw_batch
        return cls(make, total=total, workers=1 if on_cpu else _workers_beside_gpu())

    def __call__(self, indices: Sequence[int]) -> Batch:
        """Give the batch of these indices, and have the next ones made."""
        wanted = tuple(indices)
        ready = self._waiting.pop(wanted, None)
        if ready is None:  # the first batch, or the caller went elsewhere
            self._drop()
            ready = self._pool.submit(self._make, wanted)
        self._make_ahead(wanted)
        return ready.result()

    def close(self) -> None:
        """Stop making batches; waits for the one in the making."""
        self._drop()
        self._pool.shutdown(wait=True, cancel_futures=True)

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

    def _make_ahead(self, now: Indices) -> None:
        """Guess that the indices go on as they did: by the batch, or by all processes' batches."""
        step = now[0] - self._last[0] if self._last else len(now)
        if step <= 0:
            step = len(now)
        self._last = now
        for number in range(1, self._ahead + 1):
            following = tuple(i + number * step for i in now if i + number * step < self._total)
            if following and following not in self._waiting:
                self._waiting[following] = self._pool.submit(self._make, following)

    def _drop(self) -> None:
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()


def _workers_beside_gpu() -> int:
    return max(1, min(_MOST_WORKERS, (os.cpu_count() or 2) - 1))
