"""One piece of long work, as the rest of the program sees it."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from psygnal import Signal

from napari_genselfdiff.errors import JobFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL: tuple[State, ...] = ("done", "failed", "cancelled")
_MOST_PARTIALS = 10_000  # nobody is listening if that many wait


class Job:
    """Work that was handed to the engine.

    Signals are emitted while ``Engine.poll`` (or :meth:`wait`) runs, in that thread.

    Attributes
    ----------
    number
        Unique within the engine.
    title
        What it is, for messages ("Predict").
    state
        "queued", "running", "done", "failed" or "cancelled".
    progress
        The newest partial result, or None.
    partials
        Partial results that nobody took yet, oldest first.
    result
        What the work gave, once the state is "done".
    error
        Why it failed, in a sentence for the user, once the state is "failed".
    log
        Traceback of an unexpected failure, for a bug report.
    """

    partial = Signal(object)
    finished = Signal(str)

    def __init__(
        self,
        number: int,
        title: str,
        cancel: Callable[[Job], None],
        pump: Callable[[float | None], None],
        conclude: Callable[[Job], None],
    ) -> None:
        self.number, self.title = number, title
        self.state: State = "queued"
        self.progress: Any = None
        self.partials: deque[Any] = deque(maxlen=_MOST_PARTIALS)
        self.result: Any = None
        self.error: str | None = None
        self.log = ""
        self._cancel, self._pump, self._conclude = cancel, pump, conclude

    @property
    def done(self) -> bool:
        """Whether it ended, in whatever way."""
        return self.state in FINAL

    def cancel(self) -> None:
        """Ask for an end at the next tile or step; within a second the state is "cancelled"."""
        if not self.done:
            self._cancel(self)

    def conclude(self) -> None:
        """Ask for a result now, from what is there; work that cannot do that goes on as before."""
        if not self.done:
            self._conclude(self)

    def take_partials(self) -> list[Any]:
        """Partial results since the last call, oldest first."""
        taken = list(self.partials)
        self.partials.clear()
        return taken

    def value(self) -> Any:
        """The result; None of a cancelled job.

        Raises
        ------
        JobFailedError
            If it failed, or has not ended yet.
        """
        if self.state == "failed":
            raise JobFailedError(self.error or f"{self.title} failed")
        if not self.done:
            raise JobFailedError(f"{self.title} is still {self.state}; wait for it first")
        return self.result

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for the end, without a window, and give :meth:`value`.

        Raises
        ------
        JobFailedError
            If it failed, or did not end within ``timeout`` seconds (it goes on then).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.done:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise JobFailedError(f"{self.title} did not end within {timeout:g} s")
            self._pump(left)
        return self.value()

    # -- told by the engine ---------------------------------------------------------------------

    def on_running(self) -> None:
        """Note that a worker took it up."""
        self.state = "running"

    def on_partial(self, value: Any) -> None:
        """Note a partial result."""
        self.progress = value
        self.partials.append(value)
        self.partial.emit(value)

    def on_end(self, state: State, result: Any = None, error: str | None = None) -> None:
        """Note the end."""
        self.state, self.result, self.error = state, result, error
        self.finished.emit(state)
