"""One worker process seen from the window's side, and the jobs that wait for it."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.engine.inbox import Gone, Inbox
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
from napari_genselfdiff.engine.spawn import without_main
from napari_genselfdiff.engine.worker import serve

if TYPE_CHECKING:
    import threading
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from napari_genselfdiff.engine.job import Job

CANCEL_S = 0.9  # after that a job counts as cancelled, whatever its worker does
HUNG_S = 10.0  # after that a worker that did not react to a cancel is ended
SILENT_S = 60.0
"""After that without a word a worker with a job counts as hung; tiles and steps come far faster."""
_FIRST_WORD = 10  # times as long before a job's first word: the machine is measured, models load
_LOOK_S = 1.0  # most that one poll adds to the silence: a sleeping computer is not a hung worker
_DEATH_S = 1.0  # from the end of a pipe to the end of its process


class Lane:
    """A worker process, started when there is work, and a queue of jobs for it.

    Parameters
    ----------
    name
        For messages and the process's name.
    news
        Set when the worker has said something.
    niceness
        How much the process gives way to others (Unix).
    patience
        How many times SILENT_S a job may go on without a word.
    """

    def __init__(
        self, name: str, news: threading.Event, niceness: int = 0, patience: float = 1.0
    ) -> None:
        self.name, self._news = name, news
        self._niceness, self._patience = niceness, patience
        self._silence, self._looked_at, self._has_spoken = 0.0, 0.0, False
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._inbox: Inbox | None = None
        self._ready = False
        self._queue: deque[tuple[Job, Run]] = deque()
        self._running: Job | None = None
        self._cancelled_at: float | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None if there is none."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> Job | None:
        """The job the worker is at."""
        return self._running

    @property
    def queued(self) -> list[Job]:
        """Jobs that wait, the next one first."""
        return [job for job, _ in self._queue]

    def submit(self, job: Job, run: Run) -> None:
        """Add a job; it starts as soon as the worker is free."""
        self._queue.append((job, run))
        self._advance()

    def start(self) -> None:
        """Start the worker, if there is none."""
        if self._process is not None:
            return
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve,
            args=(theirs, self._niceness),
            name=f"genselfdiff-{self.name}",
            daemon=True,
        )
        with without_main():
            process.start()
        theirs.close()
        self._process, self._pipe, self._ready = process, ours, False
        self._inbox = Inbox(ours, self._news)

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or ask its worker to stop."""
        if job is not self._running:
            self._queue = deque(entry for entry in self._queue if entry[0] is not job)
            job.on_end("cancelled")
        elif self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
            self._send(Cancel(job.number))

    def conclude(self, job: Job) -> None:
        """Ask the worker of a running job to end it early, with what it has."""
        if job is self._running:
            self._send(Conclude(job.number))

    def poll(self, deadline: float) -> None:
        """Take in what the worker says, until nothing is left or the deadline has passed."""
        while self._inbox is not None:
            message = self._inbox.take()
            if message is None and self._process is not None and self._process.exitcode is not None:
                message = self._inbox.last() or Gone()
            if message is None:
                break
            if isinstance(message, Gone):
                self._on_death()
                break
            self._on_message(message)
            if time.monotonic() > deadline:
                break
        self._check_cancel()
        self._check_silence()
        self._advance()

    def quit(self) -> None:
        """Ask the worker to end; :meth:`close` makes sure."""
        for job, _ in self._queue:
            job.on_end("cancelled")
        self._queue.clear()
        if self._running is not None:
            self._end_running("cancelled")
        self._send(Quit())

    def close(self, patience: float) -> None:
        """Wait for the worker's end; after ``patience`` seconds, end it."""
        if self._process is not None:
            self._process.join(patience)
        self._discard()

    # -- inside ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._running is not None or not self._queue:
            return
        self.start()
        if not self._ready:
            return
        job, run = self._queue.popleft()
        self._running, self._cancelled_at = job, None
        self._silence, self._looked_at, self._has_spoken = 0.0, time.monotonic(), False
        job.on_running()
        self._send(run)

    def _send(self, message: object) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.send(message)
        except OSError:
            self._on_death()

    def _on_message(self, message: object) -> None:
        self._silence, self._has_spoken = 0.0, True
        if isinstance(message, Ready):
            self._ready = True
        elif isinstance(message, Partial):
            self._on_partial(message)
        elif isinstance(message, Finished | Stopped | Failed):
            self._on_ended(message)

    def _on_partial(self, message: Partial) -> None:
        job = self._running
        wanted = job is not None and not job.done and self._cancelled_at is None
        if wanted and job is not None and job.number == message.job:
            job.on_partial(message.value)

    def _on_ended(self, message: Finished | Stopped | Failed) -> None:
        if self._running is None or self._running.number != message.job:
            return
        if isinstance(message, Failed):
            self._running.log = message.log
            if not message.usable:
                self._discard()
            self._end_running("failed", error=message.sentence)
        elif isinstance(message, Finished) and self._cancelled_at is None:
            self._end_running("done", result=message.value)
        else:
            self._end_running("cancelled")

    def _end_running(self, state: Any, result: Any = None, error: str | None = None) -> None:
        job, self._running = self._running, None
        cancelled, self._cancelled_at = self._cancelled_at is not None, None
        if job is None or job.done:
            return
        if cancelled and state == "failed":
            job.on_end("cancelled")
        elif state == "failed":
            job.on_end("failed", error=f"{job.title} failed: {error}")
        else:
            job.on_end(state, result)

    def _check_cancel(self) -> None:
        if self._cancelled_at is None or self._running is None:
            return
        waited = time.monotonic() - self._cancelled_at
        if waited > CANCEL_S and not self._running.done:
            self._running.on_end("cancelled")
        if waited > HUNG_S:
            self._discard()
            self._end_running("cancelled")

    def _check_silence(self) -> None:
        """End a worker that says nothing for so long that it must hang."""
        now = time.monotonic()
        self._silence += min(now - self._looked_at, _LOOK_S)
        self._looked_at = now
        limit = SILENT_S * self._patience * (1 if self._has_spoken else _FIRST_WORD)
        if self._running is None or self._silence < limit:
            return
        self._discard()
        sentence = (
            f"its process did not answer for {limit:.0f} s and was ended; nothing that was saved "
            "is lost, try again"
        )
        self._end_running("failed", error=sentence)

    def _on_death(self) -> None:
        """The process ended by itself: its job failed, the next one gets a new process."""
        if self._process is not None:
            self._process.join(_DEATH_S)
        code = None if self._process is None else self._process.exitcode
        never_ready = not self._ready
        self._discard()
        sentence = _death_sentence(code)
        if self._running is not None:
            self._end_running("failed", error=sentence)
        elif never_ready and self._queue:
            # A process that cannot even start would be started for ever.
            job, _ = self._queue.popleft()
            job.on_end("failed", error=f"{job.title} failed: {sentence}")

    def _discard(self) -> None:
        process, inbox = self._process, self._inbox
        self._process = self._pipe = self._inbox = None
        self._ready = False
        if process is not None:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
        if inbox is not None:
            inbox.close()


def _death_sentence(code: int | None) -> str:
    if code is not None and code < 0:
        why = "was ended by the system, perhaps because the memory was not enough"
    else:
        why = f"ended unexpectedly (code {code})"
    return f"its process {why}; nothing that was saved is lost, try again"
