"""One change of the models at a time, whichever process makes it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.registry.files import plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_WAIT_S = 30.0  # others hold the lock while they copy a model, a second or two


def models_lock(root: Path) -> FileLock:
    """Make the lock of everything below ``root``; one thread may hold it several times over."""
    return FileLock(str(root / "models.lock"))


@contextmanager
def changing(root: Path, lock: FileLock, wait_s: float | None = None) -> Iterator[None]:
    """Hold the right to change models and choice; a process that dies gives it back."""
    wait_s = LOCK_WAIT_S if wait_s is None else wait_s
    with plain_errors(f"Changing the models in {root}"):
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=wait_s)
        except Timeout as err:
            raise ModelFileError(
                f"the models in {root} are being changed by another program for more "
                f"than {wait_s:g} s; try again when it is done"
            ) from err
    try:
        yield
    finally:
        lock.release()
