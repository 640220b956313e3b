"""How fast the network and Predict are, against the paper's network run as its scripts do.

"official" is the `paper` preset in fp32, contiguous, 256² tiles one by one at t = 0 with softmax,
timed in turns with ours: every round runs each case once, so that a noisy neighbour meets all of
them. A ratio is the median over the rounds of official / ours (above 1 = ours is faster); rows
named `..._best` compare the fastest rounds, `..._1thread` uses one core, all others use every core.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from official import SAMPLE, TILE, VIEW, OfficialProcess
from report import Row, arguments, finish, has_screen
from window import gap_rows

from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.backbone.heads import Segmenter, build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.engine.heap import keep_freed_memory
from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.prediction.network import Network
from napari_genselfdiff.prediction.profile import (
    Profile,
    available_cores,
    cpu_profiles,
    has_cpu_bf16,
    seconds_per_tile,
)
from napari_genselfdiff.prediction.region import predict_region, segment_region
from napari_genselfdiff.registry.folder import Model, read_model, write_model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide

TILES_A_ROUND, GPU_BATCH = 8, 16
Case = Callable[[], float]


def timed(
    call: Callable[[], object], repeats: int = 1, clock: Callable[[], float] = time.perf_counter
) -> Case:
    """Seconds per call, over ``repeats`` calls."""

    def case() -> float:
        start = clock()
        for _ in range(repeats):
            call()
        return (clock() - start) / repeats

    return case


def in_turns(cases: dict[str, Case], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Run every case once a round, with ``warm`` after one round that is not counted."""
    for case in cases.values() if warm else ():
        case()
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            times[name].append(case())
    return times


def rows_of(times: dict[str, list[float]], unit: str, reference: str) -> list[Row]:
    """A row for every case, and one for its fastest round against the official's fastest."""
    scale = {"ms": 1e3, "s": 1.0}[unit]
    rows, official, against = [], times["official"], f"official {reference}"
    for name, ours in times.items():
        values, n = [t * scale for t in ours], len(ours)
        middle, low, high = statistics.median(values), min(values), max(values)
        if name == "official":
            rows.append(Row(f"official_{reference}", middle, unit, n=n, low=low, high=high))
            continue
        ratio = statistics.median(o / t for o, t in zip(official, ours, strict=True))
        rows.append(Row(name, middle, unit, ratio, against, n, low, high))
        rows.append(Row(f"{name}_best", low, unit, min(official) / min(ours), against, n))
    return rows


def precisions() -> list[str]:
    """What this processor calculates in itself."""
    return ["fp32", "bf16"] if has_cpu_bf16() else ["fp32"]


def cpu_profile(precision: str) -> Profile:
    return Profile(precision=precision, threads=available_cores(), batch=1)  # type: ignore[arg-type]


def together(precision: str) -> Profile:
    """With all threads at the same tiles, two at once."""
    return Profile(precision=precision, threads=available_cores(), batch=2)  # type: ignore[arg-type]


def measured_profile(precision: str, segmenter: Segmenter) -> Profile:
    """The fastest of those that a user's profile is chosen from."""
    found = [profile for profile in cpu_profiles() if profile.precision == precision]
    return min(found, key=lambda profile: seconds_per_tile(segmenter, profile, 6))


def network_rows(official: OfficialProcess, tile: np.ndarray, rounds: int) -> list[Row]:
    """One 256² tile through the network, ours with everything Predict does around it."""
    cases: dict[str, Case] = {"official": lambda: official.seconds("tile", available_cores())}
    for precision in precisions():
        ours = Network(build_segmenter(PRESETS["fast"], 1, 0), cpu_profile(precision))
        run = timed(lambda ours=ours: ours(tile[None]), TILES_A_ROUND)  # type: ignore[misc]
        cases[f"network_{precision}_cpu"] = run
    return rows_of(in_turns(cases, rounds), "ms", "tile")


def one_thread_rows(official: OfficialProcess, tile: np.ndarray, rounds: int) -> list[Row]:
    """The same in processor seconds of one thread, which neighbours on the machine cannot stretch.

    Pessimistic for us: with one thread torch runs small convolutions on a slower path.
    """
    torch.set_num_threads(1)
    clock = time.thread_time
    cases: dict[str, Case] = {"official": lambda: official.seconds("tile", 1, "thread_time")}
    for precision in precisions():
        ours = Network(build_segmenter(PRESETS["fast"], 1, 0), Profile(precision=precision))  # type: ignore[arg-type]
        run = timed(lambda ours=ours: ours(tile[None]), TILES_A_ROUND, clock)  # type: ignore[misc]
        cases[f"network_{precision}_1thread"] = run
    rows = rows_of(in_turns(cases, rounds), "ms", "tile_1thread")
    torch.set_num_threads(available_cores())
    return rows


def region_rows(official: OfficialProcess, model: Model, slide: Slide, rounds: int) -> list[Row]:
    """1024² from the file to labels (and, ours only, objects), read and decided anew each time.

    ``..._read`` and so on tell where our time went; ``..._batch``, ``..._threads`` and
    ``..._parallel`` how many tiles were run at once, on how many threads, and that how often side
    by side. ``..._together`` is the same region with all threads at the same two tiles.
    """
    segmenter = model.load()
    spent: dict[str, list[dict[str, float]]] = {}
    ways: list[Row] = []
    cases: dict[str, Case] = {"official": lambda: official.seconds("region", available_cores())}
    for precision in precisions():
        name, profile = f"region1024_{precision}_cpu", measured_profile(precision, segmenter)
        steps = spent.setdefault(name, [])
        for what, unit in (("batch", "tiles"), ("threads", "threads"), ("parallel", "batches")):
            ways.append(Row(f"{name}_{what}", getattr(profile, what), unit))

        def ours(steps: list[dict[str, float]] = steps, profile: Profile = profile) -> None:
            done = segment_region(slide, model, VIEW, profile, segmenter=segmenter)
            steps.append(done.seconds)

        cases[name] = timed(ours)
        cases[f"region1024_{precision}_together"] = timed(
            partial(segment_region, slide, model, VIEW, together(precision), segmenter=segmenter)
        )
    rows = rows_of(in_turns(cases, rounds, warm=False), "s", "region")
    for name, steps in spent.items():
        for step in ("read", "network", "instances", "confidence"):
            values = [seconds[step] for seconds in steps]
            rows.append(Row(f"{name}_{step}", statistics.median(values), "s", n=len(values)))
    return rows + ways


def region_one_thread_rows(
    official: OfficialProcess, model: Model, slide: Slide, rounds: int
) -> list[Row]:
    """The same view in processor seconds of one thread, which neighbours cannot stretch."""
    torch.set_num_threads(1)
    segmenter, clock = model.load(), time.thread_time
    cases: dict[str, Case] = {"official": lambda: official.seconds("region", 1, "thread_time")}
    for precision in precisions():
        profile = Profile(precision=precision)  # type: ignore[arg-type]

        def ours(profile: Profile = profile) -> None:
            segment_region(slide, model, VIEW, profile, segmenter=segmenter)

        ours()
        cases[f"region1024_{precision}_1thread"] = timed(ours, 1, clock)
    rows = rows_of(in_turns(cases, rounds, warm=False), "s", "region_1thread")
    torch.set_num_threads(available_cores())
    return rows


def first_pixels_row(model: Model, slide: Slide, rounds: int) -> Row:
    """From Predict to the first tile on screen, the network read from disk within."""
    profile = measured_profile(precisions()[-1], model.load())

    def call() -> None:
        network = read_model(model.path).load()
        for _ in predict_region(slide, model, network, VIEW, profile):
            return

    case = timed(call)
    times = [case() for _ in range(rounds)]
    return Row(
        "first_pixels_s", statistics.median(times), "s", n=rounds, low=min(times), high=max(times)
    )


def gpu_rows(official: OfficialProcess, tile: np.ndarray, rounds: int) -> list[Row]:
    """Tiles on a GPU: ours in batches, the official one by one, results back in memory."""
    bf16 = torch.cuda.is_bf16_supported()
    profile = Profile(device="cuda", precision="bf16" if bf16 else "fp32", batch=GPU_BATCH)
    ours = Network(build_segmenter(PRESETS["fast"], 1, 0), profile)
    batch = np.repeat(tile[None], GPU_BATCH, axis=0)
    whole = timed(lambda: ours(batch), 10)
    cases: dict[str, Case] = {
        "official": lambda: official.seconds("tile", available_cores(), device="cuda", repeats=20),
        "network_gpu": lambda: whole() / GPU_BATCH,
    }
    return rows_of(in_turns(cases, rounds), "ms", "tile_gpu")


def usable_model(folder: Path) -> Model:
    """The shipped model, or one with random weights, which is as fast but finds nothing real."""
    try:
        return Registry().resolve("default")
    except ModelFileError as err:
        print(f"{err} Timing a network with random weights instead.")
        torch.manual_seed(0)
        fields = {"task": NUCLEI, "mpp_range": (0.25, 0.5)}
        return write_model(folder / "random", fields, build_segmenter(PRESETS["fast"], 1, 0))


def main() -> None:
    asked = arguments("Speed of the network and of Predict against the official network.")
    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    keep_freed_memory()  # as the workers of the window and the command line do
    with (
        tempfile.TemporaryDirectory() as folder,
        open_slide(sample_path(SAMPLE)) as slide,
        OfficialProcess() as official,
    ):
        model = usable_model(Path(folder))
        tile = slide.read(Region(VIEW.y, VIEW.x, TILE, TILE))
        rows = network_rows(official, tile, 3 if asked.quick else 12)
        rows += one_thread_rows(official, tile, 2 if asked.quick else 6)
        rows += region_rows(official, model, slide, 3 if asked.quick else 5)
        rows += region_one_thread_rows(official, model, slide, 1 if asked.quick else 3)
        rows.append(first_pixels_row(model, slide, 2 if asked.quick else 5))
        if torch.cuda.is_available():
            rows += gpu_rows(official, tile, 3 if asked.quick else 10)
    if has_screen():
        rows += gap_rows(15 if asked.quick else 60)
    else:
        print("No screen, so no window_gap_p99_ms; run under xvfb-run.")
    finish("predict", rows, asked.json)


if __name__ == "__main__":
    main()
