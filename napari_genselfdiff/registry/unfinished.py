"""Work in progress on disk: who is at it, and what a killed process left behind.

Whoever writes a folder holds a lock beside it. The operating system frees the lock when its
process dies, however it dies, so what can be locked and is not finished is nobody's any more.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from typing import TYPE_CHECKING
from uuid import uuid4

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = ".lock"


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Hold the right to write ``path``, which lies in a folder that exists.

    ``filelock.Timeout`` at once if another process, or another thread, holds it.
    """
    lock_file = path.with_name(path.name + _LOCK)
    with FileLock(str(lock_file), timeout=0):
        try:
            yield
        finally:
            with suppress(OSError):  # where an open file cannot be removed, the next start does it
                lock_file.unlink(missing_ok=True)


def clean(folder: Path, pattern: str) -> list[Path]:
    """Remove what matches ``pattern`` in a folder and nobody works on; give what was removed.

    A disk that cannot be written keeps it; that is no reason to fail.
    """
    found = {p.with_name(p.name.removesuffix(_LOCK)) for p in folder.glob(pattern)}
    found |= {p.with_name(p.name.removesuffix(_LOCK)) for p in folder.glob(pattern + _LOCK)}
    removed = []
    for path in sorted(found):
        with suppress(Timeout, OSError), owned(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def clean_partials(folder: Path, name: str | None = None) -> list[Path]:
    """Remove half-written folders left in ``folder``, all or those of one final name."""
    return clean(folder, ".*.partial" if name is None else f".{escape(name)}.*.partial")


class Scratch:
    """A folder for one job's files that the next start removes if this process dies.

    Parameters
    ----------
    parent
        Folder of such folders; made if it is missing.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.path = parent / uuid4().hex
        self._owner = ExitStack()
        self._owner.enter_context(owned(self.path))
        self.path.mkdir()

    def remove(self) -> None:
        """Remove the folder and all that is in it; harmless when called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._owner.close()

    close = remove  # for contextlib.closing
