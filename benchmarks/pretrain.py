"""How fast a pre-training step is: python benchmarks/pretrain.py [--quick] [--json FILE].

"official" is the paper's network trained as its scripts do: fp32, contiguous, 256² images, batch
8, Adam without weight decay, clipping or average, no autocast. `paper_step` is the same network
and batch in this program's loop, `fast_step` the `fast` preset. Cases are timed in turns within
one run, each step with everything around it (noise, loss, optimiser, moving average), on images
that are already in memory. A ratio is the median over the rounds of official / ours per image
(above 1 = ours is faster). `..._share_of_peak` is the network's arithmetic over what a large
convolution reaches in the same round and precision. Rows ending in `_1thread` are processor
seconds of one thread, which neighbours on the machine stretch least.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from report import Row, arguments, finish
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.loop import LoopConfig, Precision, Report, TrainState, train
from napari_genselfdiff.learning.objectives import Denoising
from napari_genselfdiff.prediction.profile import available_cores, has_cpu_bf16

SIDE, BATCH, GPU_BATCH = 256, 8, 128
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """A way to train: ``step()`` learns from ``images`` images."""

    name: str
    step: Callable[[], object]
    images: int
    precision: str
    flops: float


def objective() -> Denoising:
    return Denoising(NoiseSchedule(NoiseConfig()))


def batch_of(count: int, device: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator) * 2 - 1
    return Batch(images.to(device), tuple(range(count)))


def official(device: str, count: int = BATCH) -> Case:
    """The released code's step: plain Adam on the batch's loss."""
    model = Denoiser(PRESETS["paper"]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    loss_of, batch = objective(), batch_of(count, device)

    def step() -> None:
        optimizer.zero_grad()
        losses, _ = loss_of(model, batch)
        losses.sum().backward()
        optimizer.step()

    return Case("official", step, count, "fp32", step_flops("paper"))


def ours(preset: str, device: str, config: LoopConfig, name: str) -> Case:
    """One step of this program's loop."""
    torch.manual_seed(0)
    config = replace(config, total_images=10**9)
    state = TrainState.create(Denoiser(PRESETS[preset]), config, device)
    batch = batch_of(config.batch, device)

    def same(indices: Sequence[int]) -> Batch:
        return batch._replace(indices=tuple(indices))

    reports: Iterator[Report] = train(state, same, objective(), config)
    return Case(name, lambda: next(reports), config.batch, config.precision, step_flops(preset))


def step_flops(preset: str) -> float:
    """Multiplications and additions of one image forward and back; a multiply-add counts as two."""
    with torch.device("meta"):
        model = Denoiser(PRESETS[preset])
        x, t = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(x, t).sum().backward()
    return float(counter.get_total_flops())


def peak(precision: str, device: str) -> tuple[Callable[[], Tensor], float]:
    """A convolution large enough to reach what the processor can, and its arithmetic."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    channels, side = (512, 128) if device == "cuda" else (256, 64)
    count = 32 if device == "cuda" else 4
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype)
    layer = layer.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    x = torch.randn(count, channels, side, side, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    return lambda: layer(x), 2.0 * count * side**2 * channels**2 * 9


def timed(call: Callable[[], object], clock: Clock, repeats: int = 1) -> float:
    """Seconds per call; a GPU has finished when the clock is read."""
    wait()
    start = clock()
    for _ in range(repeats):
        call()
    wait()
    return (clock() - start) / repeats


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(
    cases: Sequence[Case], rounds: int, device: str, clock: Clock, repeats: dict[str, int]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds per image and share of the peak of every case, round by round."""
    peaks = {p: peak(p, device) for p in {case.precision for case in cases}}
    for call in [case.step for case in cases] + [layer for layer, _ in peaks.values()]:
        call()
    per_image: dict[str, list[float]] = {case.name: [] for case in cases}
    shares: dict[str, list[float]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        best = {p: flops / timed(layer, clock, 3) for p, (layer, flops) in peaks.items()}
        for case in cases:
            seconds = timed(case.step, clock, repeats.get(case.name, 1)) / case.images
            per_image[case.name].append(seconds)
            shares[case.name].append(case.flops / seconds / best[case.precision])
    return per_image, shares


def rows_of(
    per_image: dict[str, list[float]], shares: dict[str, list[float]], unit: str
) -> list[Row]:
    """A row for every case in s a step of 8 or in images/s, and its share of the peak."""
    rows, reference = [], per_image["official"]
    per_step = unit == "s"
    for name, seconds in per_image.items():
        values = sorted(s * BATCH if per_step else 1 / s for s in seconds)
        ratio = statistics.median(o / s for o, s in zip(reference, seconds, strict=True))
        mine = name == "official"
        rows.append(
            Row(
                case=name if not mine else "official_step" + ("" if per_step else "_gpu"),
                value=statistics.median(values),
                unit="s per 8 images" if per_step else "images/s",
                ratio=None if mine else ratio,
                reference=None if mine else "official step, per image",
                n=len(values),
                low=values[0],
                high=values[-1],
            )
        )
        share = statistics.median(shares[name])
        rows.append(Row(f"{rows[-1].case}_share_of_peak", share, "of a convolution", n=len(values)))
    return rows


def cpu_cases() -> list[Case]:
    """Official, ours as the paper's network, and ours as shipped."""
    precision: Precision = "bf16" if has_cpu_bf16() else "fp32"
    loop = LoopConfig(total_images=BATCH, batch=BATCH)
    cases = [
        official("cpu"),
        ours("paper", "cpu", loop, "paper_step_cpu"),
        ours("fast", "cpu", replace(loop, precision=precision), "fast_step_cpu"),
    ]
    if precision == "bf16":
        cases.append(ours("fast", "cpu", loop, "fast_step_fp32_cpu"))
    return cases


def one_thread_cases() -> list[Case]:
    """Single images, so that the official step stays short."""
    loop = LoopConfig(total_images=1, batch=1)
    cases = [official("cpu", 1), ours("fast", "cpu", loop, "fast_fp32_1thread")]
    if has_cpu_bf16():
        cases.append(ours("fast", "cpu", replace(loop, precision="bf16"), "fast_bf16_1thread"))
    return cases


def gpu_cases() -> list[Case]:
    """Ours compiled, in bf16 where there is one, at a batch that fills a large card."""
    precision: Precision = "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    large = LoopConfig(total_images=1, batch=GPU_BATCH, precision=precision)
    compiled = replace(large, compile="default")
    return [
        official("cuda"),
        ours("fast", "cuda", compiled, "fast_images_per_s_gpu"),
        ours("fast", "cuda", large, "fast_eager_images_per_s_gpu"),
        ours("paper", "cuda", replace(compiled, batch=GPU_BATCH // 2), "paper_images_per_s_gpu"),
    ]


def main() -> None:
    asked = arguments("Speed of a pre-training step against the official one.")
    torch.set_num_threads(available_cores())
    rounds, clock = (1, 3) if asked.quick else (3, 5), time.perf_counter
    several = {"fast_step_cpu": 3, "fast_step_fp32_cpu": 2}
    rows = rows_of(*measure(cpu_cases(), rounds[0], "cpu", clock, several), "s")
    torch.set_num_threads(1)
    single = measure(one_thread_cases(), rounds[1], "cpu", time.thread_time, {})
    for row in rows_of(*single, "s"):
        name = row.case if "1thread" in row.case else f"{row.case}_1thread"
        rows.append(replace(row, case=name))
    torch.set_num_threads(available_cores())
    if torch.cuda.is_available():
        cases = gpu_cases()
        # The loop takes 20 steps before it reads their results.
        repeats = {case.name: 20 if case.name == "official" else 40 for case in cases}
        gpu = measure(cases, rounds[1], "cuda", clock, repeats)
        rows += rows_of(*gpu, "images/s")
    finish("pretrain", rows, asked.json)


if __name__ == "__main__":
    main()
