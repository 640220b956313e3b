"""What a run tells of itself on disk: ``log.csv``, and TensorBoard's files where asked for."""

from __future__ import annotations

import csv
import logging
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from napari_genselfdiff.annotation.disk import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.learning.loop import Report

_LOGGER = logging.getLogger(__name__)
_SECONDS_BETWEEN_POINTS = 2.0


class Log(Protocol):
    """Takes one report per step."""

    def write(self, report: Report) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def row_of(report: Report) -> dict[str, float]:
    """The numbers of a report by column, ``images_seen`` first."""
    values = asdict(report)
    metrics = values.pop("metrics")
    columns = ("lr", "gradient_norm", "images_per_s")
    return {
        "images_seen": report.images_seen,
        "loss": report.loss,
        **metrics,
        **{name: values[name] for name in columns},
    }


class CsvLog:
    """One line per step; lines of steps after ``images_seen`` are cut off before going on.

    A run that was killed had written lines beyond its last checkpoint, the last of them perhaps
    only in part.
    """

    def __init__(self, path: Path, images_seen: int) -> None:
        self.columns: list[str] | None = None
        if path.exists():
            self._cut(path, images_seen)
        self._file = path.open("a", newline="", encoding="utf-8")

    def _cut(self, path: Path, images_seen: int) -> None:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        if not lines:
            return
        self.columns = next(csv.reader(lines))
        kept = [line for line in lines[1:] if _is_whole(line, len(self.columns), images_seen)]
        replace_file(path, "".join(f"{line}\n" for line in (lines[0], *kept)).encode())

    def write(self, report: Report) -> None:
        """Append one line; the machine may hold it back, a killed process does not lose it."""
        row = row_of(report)
        if self.columns is None:
            self.columns = list(row)
            self._file.write(",".join(self.columns) + "\n")
        self._file.write(",".join(_cell(row.get(name)) for name in self.columns) + "\n")
        self._file.flush()

    def flush(self) -> None:
        """Wait until every line is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardLog:
    """The same numbers for TensorBoard, a point every two seconds; needs the extra."""

    def __init__(self, folder: Path, images_seen: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=images_seen + 1)
        self._last: float | None = None

    def write(self, report: Report) -> None:
        """Add a point, unless the last one is very recent."""
        now = time.monotonic()
        if self._last is not None and now - self._last < _SECONDS_BETWEEN_POINTS:
            return
        self._last = now
        row = row_of(report)
        for name in row.keys() - {"images_seen"}:
            self._writer.add_scalar(name, row[name], report.images_seen)

    def flush(self) -> None:
        """Hand everything to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


def open_logs(folder: Path, images_seen: int, *, tensorboard: bool) -> list[Log]:
    """The logs of a run in ``folder`` that goes on after ``images_seen``."""
    logs: list[Log] = [CsvLog(folder / "log.csv", images_seen)]
    if tensorboard:
        try:
            logs.append(TensorBoardLog(folder / "tensorboard", images_seen))
        except ImportError:
            _LOGGER.warning(
                "no TensorBoard log: pip install 'napari-genselfdiff[tensorboard]'; log.csv has "
                "the same numbers"
            )
    return logs


def read_log(path: Path) -> dict[str, list[float]]:
    """Columns of a log, as far as they are numbers; empty where there is none."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def _is_whole(line: str, columns: int, images_seen: int) -> bool:
    cells = line.split(",")
    return len(cells) == columns and 0 <= _number(cells[0]) <= images_seen


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
