"""Hours of work in a minute: every tool by mouse on a slide of 100,000 x 100,000 pixels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.qt
TOOLS = {
    "Brush",
    "Erase",
    "Clear to unknown",
    "Polygon",
    "Lasso",
    "Fill holes",
    "Split",
    "Merge",
    "Smooth",
    "Delete",
    "Lasso delete",
    "Fill",
}
MIB_MORE_THAN_EMPTY = 1024


def annotate(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.widgets.long_annotation", str(folder), str(rounds)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.stdout, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(found: dict[str, Any]) -> None:
    assert set(found["expected"]) >= TOOLS
    assert found["steps"] == len(found["expected"])
    assert found["names"] == [*found["expected"], "Brush"]  # the stroke begun when it was closed
    assert found["last_stroke"]
    assert found["closed"]
    assert found["undone"]
    assert found["grown_mib"] <= MIB_MORE_THAN_EMPTY


@pytest.mark.slow
def test_a_long_annotation(tmp_path: Path) -> None:
    check(annotate(tmp_path, 4, 1800))
