"""Faults of real file systems, where this machine lets us make small ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_A_SMALL_DISK = 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"'


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "sh", "-c", IN_A_SMALL_DISK, str(folder), "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path, home: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("no right to mount a small disk here")
    command = ["unshare", "-rm", "sh", "-c", IN_A_SMALL_DISK, str(disk)]
    work = [sys.executable, "-m", "tests.annotation.full_disk", str(disk)]
    done = subprocess.run([*command, *work], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "full after" in done.stdout
