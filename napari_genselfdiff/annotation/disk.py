"""Writing files whole or not at all, and saying in plain words why a disk refused."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.errors import GenSelfDiffError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and try again",
    errno.EDQUOT: "your disk quota is used up; free some space and try again",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "writing is not permitted there; choose another folder",
    errno.EPERM: "writing is not permitted there; choose another folder",
    errno.ENOENT: "the folder is gone; connect its drive again",
    errno.EIO: "the drive does not answer; check its connection",
    errno.ESTALE: "the network drive is gone; connect it again",
}


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn an OSError into a StoreError that says what could not be done, why, and what to do."""
    try:
        yield
    except GenSelfDiffError:
        raise
    except OSError as err:
        reason = _REASONS.get(err.errno or 0, f"{err.strerror or err}")
        raise StoreError(f"cannot {doing}: {reason}") from err


def write_file(path: Path, data: bytes) -> None:
    """Write the bytes of a new file; every byte this package stores goes through here."""
    with path.open("wb") as file:
        file.write(data)


def flush_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk itself, not in the machine's memory."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a place to write a file, which gets its name once it is complete and goes away else."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file so that ``path`` is at any moment either the old file or the whole new one."""
    with new_file(path) as partial:
        write_file(partial, data)
        if durable:
            flush_file(partial)


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours that may be incomplete; nothing happens where it is missing."""
    shutil.rmtree(folder, ignore_errors=True)


def append_file(path: Path, data: bytes) -> None:
    """Add bytes to the end of a file and wait until they are on the disk itself."""
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
