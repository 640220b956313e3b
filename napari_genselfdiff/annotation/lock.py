"""One owner per store: an operating-system lock, with a note that says who holds it."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from napari_genselfdiff.annotation.disk import disk_errors, replace_file
from napari_genselfdiff.errors import StoreLockedError

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME, OWNER_NAME = "lock", "owner.json"


class StoreLock:
    """The right to write a store, held until :meth:`release` or the end of the process.

    The operating system frees the lock when its process dies, however it dies, so a lock left
    behind on this machine is simply taken over; ``left`` is what its owner had noted (with
    :meth:`note`), None if it was let go. A note from another machine is believed: a lock cannot be
    asked across every kind of network drive.

    Raises
    ------
    StoreLockedError
        If another window, process or machine owns the store.
    StoreError
        If the folder cannot be written.
    """

    def __init__(self, store: Path) -> None:
        self.folder = store
        self._note = store / OWNER_NAME
        self._lock = FileLock(str(store / LOCK_NAME), timeout=0, thread_local=False)
        with disk_errors(f"lock the annotations {store.name}"):
            try:
                self._lock.acquire()
            except Timeout as err:
                raise StoreLockedError(_held(store, _read_note(self._note))) from err
        try:
            self.left = self._take_over(store)
        except BaseException:
            self._lock.release()
            raise

    def _take_over(self, store: Path) -> dict[str, str] | None:
        """Write our note; the one of a process that died on this machine, if it had left one."""
        left = _read_note(self._note)
        if left is not None and left["host"] != socket.gethostname():
            raise StoreLockedError(_held(store, left))
        self.note(**{k: v for k, v in (left or {}).items() if k not in {"pid", "host"}})
        return left

    def note(self, **facts: object) -> None:
        """Note something for whoever finds this lock left behind; StoreError if the disk refuses.

        It takes the place of what was noted before. Until then an earlier owner's note is kept.
        """
        note = {**facts, "pid": os.getpid(), "host": socket.gethostname()}
        with disk_errors(f"lock the annotations {self._note.parent.name}"):
            replace_file(self._note, json.dumps(note).encode())

    def release(self) -> None:
        """Let others write; harmless when called twice."""
        if not self._lock.is_locked:
            return
        with disk_errors("unlock the annotations"):
            self._note.unlink(missing_ok=True)
        self._lock.release()


def _read_note(path: Path) -> dict[str, str] | None:
    try:
        note = json.loads(path.read_bytes()[:4096])
    except (OSError, ValueError):
        return None
    if not isinstance(note, dict):
        return None
    return {"pid": "?", "host": "?", **{str(key): str(value) for key, value in note.items()}}


def _held(store: Path, note: dict[str, str] | None) -> str:
    by = f"process {note['pid']} on {note['host']}" if note else "another program"
    return (
        f"the annotations {store.name} are open in another window ({by}); close it there, "
        f"or open them read-only. If that computer stopped, delete {OWNER_NAME} in the folder"
    )
