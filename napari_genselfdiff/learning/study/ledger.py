"""Results of a study as JSON lines: resumable, safe between processes, each list scored once."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)


class JsonLines:
    """A file of one JSON object a line, appended to by several processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))

    def read(self) -> list[dict[str, Any]]:
        """Every whole line; one that was cut off when a process died is reported and left out."""
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                value = json.loads(line or "null")
            except ValueError:
                _log.warning("%s: line %d is incomplete and left out", self.path, number)
                continue
            if isinstance(value, dict):
                found.append(value)
        return found

    def append(self, record: dict[str, Any]) -> None:
        """Add a line and wait until it is on the disk."""
        with self.locked():
            self._write(record)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from appending."""
        with disk_errors(f"write {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                yield

    def _write(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("ab+") as file:
            if file.tell() and not _ends_a_line(self.path):
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class ScoredLists(JsonLines):
    """Which configuration each row and arm was scored with on its development list."""

    def allow(
        self, scored: str, case: str, config: str, *, again: bool = False, about: str = ""
    ) -> bool:
        """Register that ``case`` (row and arm) is about to be scored on the list ``scored``.

        The same configuration may come as often as it has subsets and seeds. Another one is
        refused unless ``again``, and then remembered as such.

        Returns
        -------
        bool
            Whether the case was scored with another configuration before.

        Raises
        ------
        ConfigError
            If it was, and not ``again``.
        """
        with self.locked():
            before = [r for r in self.read() if (r["list"], r["case"]) == (scored, case)]
            mine = [r for r in before if r["config"] == config]
            if mine:
                return bool(mine[0]["again"])
            if before and not again:
                raise ConfigError(
                    f"{case} was scored on {scored} with configuration {before[-1]['config']}, "
                    f"now it is {config}; a list that is scored is scored once. Go back to the "
                    "first, or pass --again, which the table will say"
                )
            record = {"list": scored, "case": case, "config": config, "again": bool(before)}
            self._write({**record, "about": about})
            return bool(before)


@contextmanager
def claimed(folder: Path, key: str) -> Iterator[bool]:
    """Claim a run for this process; False if another one is at it. Ends with the process."""
    with disk_errors(f"write in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{key}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
