"""What every benchmark shares: rows, the machine it ran on, command line, table and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval

LIBRARIES = ("numpy", "torch", "tifffile", "imagecodecs", "zarr", "openslide-python", "napari")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case.

    Parameters
    ----------
    value, unit
        The measurement; accuracies in Dice points (0-100).
    ratio, reference
        Value relative to what, and what that is, where a comparison was run.
    n
        Number of repetitions (or images) behind the value.
    low, high
        Ends of the 95 % interval (of the spread, for timings).
    """

    case: str
    value: float | None
    unit: str
    ratio: float | None = None
    reference: str | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None


def parser(description: str) -> argparse.ArgumentParser:
    """Make what reads ``--quick`` and ``--json FILE``, which every benchmark takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="smaller inputs, fewer repetitions")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    return made


def arguments(description: str, *, runs: bool = False) -> argparse.Namespace:
    """Read what every benchmark takes, and ``--runs N`` as some do."""
    reader = parser(description)
    if runs:
        reader.add_argument("--runs", type=int, metavar="N", help="another number of runs")
    return reader.parse_args()


def has_screen() -> bool:
    """Whether a window can be shown."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def seconds(call: Callable[[], Any], repeats: int = 1) -> list[float]:
    """Wall time of every one of ``repeats`` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def timing_row(
    case: str, times: Sequence[float], unit: str = "s", *, against: tuple[str, float] | None = None
) -> Row:
    """Row of the median of ``times``; ``against`` is (reference, its median in the same unit)."""
    middle = statistics.median(times)
    return Row(
        case=case,
        value=middle,
        unit=unit,
        ratio=middle / against[1] if against else None,
        reference=against[0] if against else None,
        n=len(times),
        low=min(times),
        high=max(times),
    )


def points(case: str, values: NDArray[np.float64], reference: str = "") -> Row:
    """Row of a mean of Dice, or of differences of it, 0-1, in points with its interval."""
    low, high = (None if np.isnan(end) else float(end) for end in bootstrap_interval(100 * values))
    mean = float(100 * values.mean())
    return Row(case, mean, "points", None, reference or None, len(values), low, high)


def machine() -> dict[str, Any]:
    """Describe processor, memory, GPU and library versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "memory_gib": _memory_gib(),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: v for name in LIBRARIES if (v := _version(name)) is not None},
    }


def finish(name: str, rows: Sequence[Row], path: Path | None) -> None:
    """Print the rows as a table and, where a path is given, write the JSON beside and replace."""
    table = Table(title=name)
    for column in ("case", "value", "unit", "ratio", "reference", "n", "low", "high"):
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(value) for value in asdict(row).values()))
    Console(file=sys.stderr if path == Path("-") else sys.stdout).print(table)
    if path is None:
        return
    document = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
        return
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None  # not told by this system


def _gpu() -> str | None:
    torch = sys.modules.get("torch")  # a benchmark without torch has no use for a GPU
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def _commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
