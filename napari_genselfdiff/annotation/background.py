"""One piece of work on another thread that every other change of the annotations waits for."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from psygnal import SignalGroup

T = TypeVar("T")


class Background:
    """Lets one thread at a time write, so that nothing is locked and nothing can go stale.

    Parameters
    ----------
    events
        Signals that may be emitted by the work; listeners hear of them in the thread that calls
        :meth:`settle`, once the work is over.
    """

    def __init__(self, events: SignalGroup) -> None:
        self._signals = [events[name] for name in events]
        self._pending: Future[Any] | None = None
        self._worker: int | None = None

    def start(self, pool: Executor, work: Callable[[], T]) -> Future[T]:
        """Begin some work, which may change the annotations; earlier work is waited for.

        Whoever started it calls :meth:`settle` when the future is done.
        """
        self.settle()
        for signal in self._signals:
            signal.pause()

        def run() -> T:
            self._worker = threading.get_ident()
            try:
                return work()
            finally:
                self._worker = None

        future = pool.submit(run)
        self._pending = future
        return future

    def settle(self) -> None:
        """Wait for the work, and tell what it changed; errors stay in its future.

        Nothing happens where there is none, or in the work itself.
        """
        if self._worker == threading.get_ident():
            return
        pending, self._pending = self._pending, None
        if pending is None:
            return
        wait([pending])
        for signal in self._signals:
            signal.resume()
