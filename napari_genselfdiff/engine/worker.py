"""The other end of the pipe: a process that runs one job after the other.

A thread listens to the pipe all the time, so that a cancel arrives while a job runs, and so that
the process ends by itself when the window's process is gone, whatever it is doing.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.engine.messages import (
    Cancel,
    Conclude,
    Failed,
    Finished,
    Partial,
    Quit,
    Ready,
    Run,
    Stopped,
)
from napari_genselfdiff.engine.spawn import settle_in
from napari_genselfdiff.errors import GenSelfDiffError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from napari_genselfdiff.engine.tasks import Context

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate")


class Mailbox:
    """Jobs in the order they came, and which of them were cancelled."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._jobs: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._concluded: set[int] = set()
        self._quitting = False
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    def next_job(self) -> Run | None:
        """Wait for a job; None means the end."""
        return self._jobs.get()

    def should_stop(self, job: int) -> bool:
        """Whether a job was cancelled."""
        return self._quitting or job in self._cancelled

    def should_conclude(self, job: int) -> bool:
        """Whether somebody wants the result of a job now."""
        return job in self._concluded

    def _listen(self) -> None:
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                os._exit(1)  # the window's process is gone; nobody wants a result any more
            if isinstance(message, Run):
                self._jobs.put(message)
            elif isinstance(message, Cancel):
                self._cancelled.add(message.job)
            elif isinstance(message, Conclude):
                self._concluded.add(message.job)
            elif isinstance(message, Quit):
                self._quitting = True
                self._jobs.put(None)


def serve(pipe: Connection, niceness: int) -> None:
    """Run jobs until told to quit; the main function of a worker process."""
    if niceness:
        # Threads that wait in a loop for each other would take the time of Predict's; it counts
        # because torch, which reads this, is not imported yet.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    settle_in(niceness)
    mailbox = Mailbox(pipe)
    pipe.send(Ready())
    from napari_genselfdiff.engine.tasks import Context

    context = Context()
    while (run := mailbox.next_job()) is not None:
        context.should_stop = partial(mailbox.should_stop, run.job)
        context.should_conclude = partial(mailbox.should_conclude, run.job)
        context.tell = partial(_tell, pipe, run.job)
        if not _run(pipe, context, run):
            break
    context.close()


def _run(pipe: Connection, context: Context, run: Run) -> bool:
    """Run one job and tell how it ended; False if this process should not be used any more."""
    try:
        result = None if context.should_stop() else _drive(context, run)
        if context.should_stop():
            pipe.send(Stopped(run.job))
        else:
            pipe.send(Finished(run.job, result))
    except GenSelfDiffError as err:
        pipe.send(Failed(run.job, str(err)))
    except Exception as err:  # noqa: BLE001  (the border of a process: whatever it is, tell it)
        pipe.send(Failed(run.job, sentence_for(err), traceback.format_exc(), usable=False))
        return False
    return True


def _drive(context: Context, run: Run) -> Any:
    """Send what the task yields and give what it returns."""

    def relay() -> Any:
        result = yield from run.task(context, *run.arguments)
        return result

    steps = relay()
    while True:
        try:
            value = next(steps)
        except StopIteration as end:
            return end.value
        context.tell(value)


def _tell(pipe: Connection, job: int, value: Any) -> None:
    pipe.send(Partial(job, value))


def sentence_for(error: Exception) -> str:
    """One line for the user about an error nobody expected."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _NO_MEMORY):
        return (
            "the memory of this computer was not enough; close other programs or choose a "
            "smaller region, and try again"
        )
    return f"it stopped because of an unexpected error ({type(error).__name__}: {text[:200]})"
