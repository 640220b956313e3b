"""A real ``genselfdiff refine``, killed at several points: the model in use stays the same.

What it leaves is never listed, and gone after the next one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_genselfdiff.commands.exchange import reopen
from napari_genselfdiff.registry.folder import Model, read_model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.slides.geometry import Region
from tests.commands.conftest import Run

# Dies before it renames a file or folder to a name that ends so, the first or second time.
_MAIN = """
import os, signal, sys
where, times = sys.argv.pop(1), int(sys.argv.pop(1))
def watch(event, arguments):
    global times
    if event == "os.rename" and str(arguments[1]).endswith(where):
        times -= 1
        if times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from napari_genselfdiff.cli import app
app()
"""
POINTS = {
    "first tile": ("labels.png", 1),
    "weights": ("weights.safetensors", 1),
    "card": ("model.json", 1),
    "verdict": ("model.json", 2),
    "folder": ("refined", 1),
}


@pytest.fixture
def corrected(run: Run, slide: Path, speed: Any) -> Path:
    run("segment", slide, "--region", "0,0,128,128", *speed)
    store = reopen(slide.with_name("case.tif.gsd.zarr"))
    store.accept("Nuclei", Region(0, 0, 128, 128))
    store.close()
    return slide


def _refine(slide: Path, out: Path, speed: Any, point: tuple[str, int]) -> subprocess.Popen[str]:
    arguments = ["refine", slide, "--out", out, "--budget-seconds", 1, *speed]
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, point[0], str(point[1]), *map(str, arguments)],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("name", ["learning", *POINTS])
def test_killed(
    run: Run, corrected: Path, model: Model, home: Path, speed: Any, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "refined"
    files = {p: p.read_bytes() for p in model.path.rglob("*") if p.is_file()}
    process = _refine(corrected, out, speed, POINTS.get(name, ("never", 1)))
    assert process.stderr is not None
    if name == "learning":
        assert any("learning" in line for line in process.stderr)
        process.kill()
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    left = list(tmp_path.glob(".refined.*.partial"))
    assert left  # the kill did hit a refine at work
    registry = Registry(home)
    assert registry.active("Nuclei") == model
    listed = json.loads(run("models", "list", "--json").stdout)
    assert listed["problems"] == {}
    assert {row["name"] for row in listed["models"]} == {"nuclei", "tiny"}
    assert {p: p.read_bytes() for p in model.path.rglob("*") if p.is_file()} == files
    run("refine", corrected, "--out", out, "--budget-seconds", 1, *speed)
    assert list(tmp_path.glob(".refined*")) == []
    assert read_model(out).card.parent == model.hash
