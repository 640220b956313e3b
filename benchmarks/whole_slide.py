"""Whole slides: time against the network's own, two workers against one, memory, growth.

``slide40k_vs_network`` goes from the file to the annotations and GeoJSON. Its ratio is the time on
the wall over the network's own: the seconds the workers' networks took in that very run, shared
among the workers, so that what else the machine does stretches both. ``--quick`` takes a smaller
slide and says so in the row; nothing is extrapolated. ``..._busy`` compare processor time instead
(network alone, one thread), which neighbours stretch less.

``speedup_2_workers_2_cores`` is the usual speed-up, one worker on one core against two on two: the
process that owns the annotations, and merges, shares their cores. In ``speedup_2_workers`` the one
worker has all cores of the machine, so that on two of them the owner has one to itself.

``peak_gib_100k`` is measured by the operating system (the most memory a process ever held) above
what the same process held before, everything imported: one worker and the owner of the annotations
in one process, on a slide of 100,000² pixels that is glass but for islands of tissue.

``--growth FILE.png`` also draws how the time grows with the slide.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from report import Row, finish
from synthetic_slides import write_dense, write_sparse

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.commands.slide_job import write_shapes
from napari_genselfdiff.engine.headless import SlideOutcome, segment_whole
from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.engine.slide_request import SlideRequest
from napari_genselfdiff.engine.workers import HereWorkers, LocalWorkers, Workers
from napari_genselfdiff.evaluation.curves import CurvePoint, draw_curves
from napari_genselfdiff.prediction.profile import Profile, available_cores, has_cpu_bf16
from napari_genselfdiff.registry.folder import Model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.slides.slide import open_slide

SIDES = (5_000, 10_000, 20_000, 40_000)
QUICK = (2_500, 5_000)


def profile() -> Profile:
    """One thread a worker, in the arithmetic this processor does itself."""
    import torch

    if torch.cuda.is_available():
        return Profile(device="cuda", precision="bf16", batch=16)
    return Profile(threads=1, precision="bf16" if has_cpu_bf16() else "fp32")


def segment(
    path: Path, folder: Path, workers: Callable[[], Workers], geojson: bool = False
) -> tuple[SlideOutcome, float]:
    """From the file to annotations (and GeoJSON); what was done and seconds on the wall."""
    model, started = Registry().resolve("default"), time.perf_counter()
    with open_slide(path) as slide:
        store = AnnotationStore.open(
            folder / f"{path.stem}-{time.time_ns()}.gsd.zarr",
            slide_path=path,
            slide_hash=slide.hash,
            shape=slide.shape,
            mpp=slide.mpp or 0.25,
            mpp_assumed=False,
        )
        with store:
            task = model.card.task
            store.add_task(task)
            request = SlideRequest(slide, store, task.name, model, profile())
            done = segment_whole(request, lambda _plan: workers())
            if geojson:
                begun = time.perf_counter()
                write_shapes(store, task.name, folder / f"{path.stem}.geojson", slide)
                done.seconds["geojson"] = time.perf_counter() - begun
    return done, time.perf_counter() - started


def busy_seconds() -> float:
    """Processor time of this process and all its children that ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def network_busy(model: Model, tiles: int = 20) -> float:
    """Processor seconds of the network alone for a tile, one thread."""
    import numpy as np
    import torch

    from napari_genselfdiff.prediction.network import Network

    torch.set_num_threads(1)
    network, side = Network(model.load(), profile()), model.card.tile
    pixels = np.random.default_rng(0).integers(0, 255, (1, side, side, 3)).astype(np.uint8)
    network(pixels)
    times = []
    for _ in range(tiles):
        start = time.thread_time()
        network(pixels)
        times.append(time.thread_time() - start)
    return statistics.median(times)


def against_network(path: Path, folder: Path, number: int) -> tuple[list[Row], float]:
    """Rows of the yard-stick slide, and its seconds."""
    before = busy_seconds()
    done, wall = segment(path, folder, lambda: LocalWorkers(number, 0), geojson=True)
    busy = busy_seconds() - before
    own = done.seconds["network"] / number
    side = path.stem.split("_")[-1]
    what = f"network's own time in this run; slide of {side}² px, {number} workers"
    alone = done.tiles * network_busy(Registry().resolve("default"))
    rows = [
        Row("slide40k_vs_network", wall, "s", wall / own, what, done.tiles),
        Row("slide40k_busy", busy, "s", busy / alone, "processor time of the network", done.tiles),
    ]
    steps = ("read", "network", "instances", "write", "annotations", "geojson")
    rows += [Row(f"slide40k_{s}", done.seconds.get(s, 0.0), "s", n=done.tiles) for s in steps]
    return rows, wall


def speedup(path: Path, folder: Path, rounds: int) -> list[Row]:
    """One worker of one thread against two, in turns: on as many cores as workers, and on all."""
    ways = {"own core": (1, 1), "all cores": (1, None), "two": (2, None)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (number, cores) in ways.items():
            with _on_cores(cores):
                workers = _started(number)
                done, _ = segment(path, folder, lambda workers=workers: workers)  # type: ignore[misc]
            times[name].append(done.seconds["total"])
    return [
        _ratio("speedup_2_workers_2_cores", times["own core"], times["two"], "one, on one core"),
        _ratio("speedup_2_workers", times["all cores"], times["two"], "one, others free to merge"),
    ]


def _ratio(name: str, one: list[float], two: list[float], what: str) -> Row:
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    middle = statistics.median(ratios)
    against = f"{what}: {statistics.median(one):.1f} s"
    return Row(name, middle, "x", middle, against, len(two), min(ratios), max(ratios))


@contextmanager
def _on_cores(number: int | None) -> Iterator[None]:
    """Keep this process, and those it starts, to so many cores; None is all of them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _started(number: int) -> LocalWorkers:
    """Workers that have imported everything, which takes the same time for a slide of any size."""
    workers = LocalWorkers(number, 0)
    everything = "import napari_genselfdiff.prediction.network"  # torch with it
    waiting = [workers.submit(exec, everything) for _ in range(number)]
    waiting += [workers.submit(time.sleep, 0.2) for _ in range(4 * number)]
    for one in waiting:
        one.result()
    return workers


def peak_above_base(path: Path) -> dict[str, float]:
    """What a process of its own is asked: segment and tell how much more memory it took, in GiB."""
    import torch

    import napari_genselfdiff.prediction.network  # noqa: F401  (part of the base)

    torch.set_num_threads(1)
    base = _most_memory()
    with tempfile.TemporaryDirectory() as folder:
        done, wall = segment(path, Path(folder), HereWorkers)
    return {"gib": (_most_memory() - base) / 2**20, "tiles": done.tiles, "seconds": wall}


def _most_memory() -> float:
    """The most memory this process ever held, in KiB, as Linux counts it."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def peak_row(path: Path) -> Row:
    command = [sys.executable, __file__, "--peak-of", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    return Row("peak_gib_100k", found["gib"], "GiB", n=int(found["tiles"]), reference="its base")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Whole slides: time, scaling, memory, growth.")
    parser.add_argument("--quick", action="store_true", help="smaller slides, fewer repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--growth", type=Path, metavar="PNG", help="draw time against area")
    parser.add_argument("--side", type=int, help="largest side in pixels; 40000, quick 5000")
    parser.add_argument("--only", choices=["time", "speedup", "memory"], help="one part alone")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    asked = options()
    keep_freed_memory()  # as the command line does
    if asked.peak_of is not None:
        print(json.dumps(peak_above_base(asked.peak_of)))
        return
    sides = [s for s in (QUICK if asked.quick else SIDES) if s <= (asked.side or s)]
    sides = sorted({*sides, asked.side or sides[-1]})
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory() as name:
            rows.extend(measured(asked, Path(name), sides))
    finally:  # the first part takes long: what it found is told whatever becomes of the others
        finish("whole_slide", rows, asked.json)


def measured(asked: argparse.Namespace, folder: Path, sides: list[int]) -> Iterator[Row]:
    """Rows of all parts, or of the one that is asked for."""
    number = available_cores() if profile().device == "cpu" else 4
    if asked.only in (None, "speedup"):
        side = 2500 if asked.quick else 10_000
        path = folder / f"speed_{side}.tif"
        write_dense(path, side)
        yield from speedup(path, folder, 1 if asked.quick else 3)
    if asked.only in (None, "memory"):
        path = folder / "sparse_100000.tif"
        write_sparse(path, 100_000, 4 if asked.quick else 40)
        yield peak_row(path)
    if asked.only in (None, "time"):
        yield from time_rows(folder, sides, number, asked.growth)


def time_rows(folder: Path, sides: list[int], number: int, plot: Path | None) -> list[Row]:
    """The largest slide against the network, and how the time grows up to it."""
    rows: list[Row] = []
    points = []
    for side in sides:
        path = folder / f"dense_{side}.tif"
        write_dense(path, side)
        found, wall = against_network(path, folder, number)
        rows.append(Row(f"growth_{side}", wall, "s", wall / (side / 1000) ** 2, "s per Mpx"))
        points.append(CurvePoint(side**2 / 1e6, wall, wall, wall))
        if side == sides[-1]:
            rows += found
        path.unlink()
    if plot is not None:
        curves = {"from file to annotations and GeoJSON": points}
        draw_curves(curves, plot, x_name="slide, million pixels", y_name="seconds")
    return rows


if __name__ == "__main__":
    main()
