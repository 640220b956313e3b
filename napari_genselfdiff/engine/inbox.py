"""What a worker says, taken off its pipe on a thread of its own."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_JOIN_S: Final = 1.0  # from the end of a process to the end of its pipe


class Gone:
    """The last message: the pipe has ended."""


class Inbox:
    """Messages of one worker, in their order.

    The labels of a screen are many megabytes. Whoever reads them waits for the worker to write
    them, and unpacks them: longer than a turn of the window's event loop may take.

    Parameters
    ----------
    pipe
        End of the pipe that nobody else reads.
    news
        Set when there is something to take.
    """

    def __init__(self, pipe: Connection, news: threading.Event) -> None:
        self._pipe, self._news = pipe, news
        self._messages: SimpleQueue[object] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._listen, name="genselfdiff-listening", daemon=True
        )
        self._thread.start()

    def take(self) -> object | None:
        """Give the next message, None if none has come; a :class:`Gone` is the last one."""
        try:
            return self._messages.get_nowait()
        except Empty:
            return None

    def last(self) -> object | None:
        """Give the next message of a process that has ended; None if there will be no more."""
        self._thread.join(_JOIN_S)
        return self.take()

    def close(self) -> None:
        """Close the pipe; its process has ended."""
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # closing what is being read could close another file
            self._pipe.close()

    def _listen(self) -> None:
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                message = Gone()
            self._messages.put(message)
            self._news.set()
            if isinstance(message, Gone):
                return
