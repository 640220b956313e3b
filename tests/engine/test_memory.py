"""Memory of a slide of 100,000² pixels, as the operating system measures it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "whole_slide.py"


@pytest.mark.slow
def test_a_slide_of_100000_takes_less_than_2_gib(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    command = [sys.executable, str(BENCHMARK), "--quick", "--only", "memory", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["case"] == "peak_gib_100k"
    assert row["n"] > 50, "tiles were segmented"
    assert row["value"] < 2
