"""What it brings that processes which compute keep the memory they free (engine/heap.py).

A slide of 5,000² pixels is segmented with it and without, in the main thread of a process of its
own as a worker does, in turns. ``objects`` and ``network`` are the seconds of these steps,
``processor`` of the whole run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from report import Row, arguments, finish
from synthetic_slides import write_dense
from whole_slide import busy_seconds, segment

from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.engine.workers import HereWorkers

CHILD = "--child"


class MainThread(HereWorkers):
    """Does a task at once, in the thread that asks: other threads have heaps of their own."""

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do a task."""
        done: Future[Any] = Future()
        done.set_result(task(*arguments))
        return done


def child(slide: Path, folder: Path, kept: bool) -> dict[str, float]:
    """Seconds of the run in this process."""
    torch.set_num_threads(1)
    if kept and not keep_freed_memory():
        raise SystemExit("only glibc can be asked to keep memory; nothing to measure here")
    before = busy_seconds()
    done, _ = segment(slide, folder, MainThread)
    steps = {"objects": done.seconds["instances"], "network": done.seconds["network"]}
    return {**steps, "processor": busy_seconds() - before}


def main() -> None:
    asked = arguments("What keeping freed memory brings.")
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "dense.tif"
        write_dense(slide, 2500 if asked.quick else 5000)
        for _ in range(1 if asked.quick else 3):
            rounds.append({})
            for how in ("keep", "leave"):
                command = [sys.executable, __file__, CHILD, str(slide), folder, how]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                rounds[-1][how] = json.loads(printed.splitlines()[-1])
    rows = []
    for case in rounds[0]["keep"]:
        kept = [found["keep"][case] for found in rounds]
        ratios = [found["leave"][case] / found["keep"][case] for found in rounds]
        middle, low, high = statistics.median(kept), min(kept), max(kept)
        ratio, against = statistics.median(ratios), "memory given back"
        rows.append(Row(f"kept_{case}", middle, "s", ratio, against, len(rounds), low, high))
    finish("freed_memory", rows, asked.json)


if __name__ == "__main__":
    if CHILD in sys.argv:
        slide, folder, how = sys.argv[-3:]
        print(json.dumps(child(Path(slide), Path(folder), how == "keep")))
    else:
        main()
