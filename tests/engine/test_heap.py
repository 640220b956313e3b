from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from napari_genselfdiff.engine.heap import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from napari_genselfdiff.engine.heap import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del_me = [np.ones(3_000_000, np.uint8) for _ in range(20)]
    del del_me
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    faults = {}
    for how in ("keep", "leave"):
        command = [sys.executable, "-c", FAULTS, how]
        faults[how] = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert faults["keep"] * 10 < faults["leave"]


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert keep_freed_memory() is False
