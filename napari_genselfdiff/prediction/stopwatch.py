"""Where the time of a prediction goes."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up the time spent on each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Add the time since the last lap to a step."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now

    def skip(self) -> None:
        """Leave out the time since the last lap (somebody else's)."""
        self._last = time.perf_counter()

    def share(self, seconds: dict[str, float], number: int) -> None:
        """Add what one of ``number`` stopwatches that run at once has, instead of this one's time.

        What they took together is ``number`` times as long as one waits for it.
        """
        for step, spent in seconds.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + spent / number
        self.skip()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started
