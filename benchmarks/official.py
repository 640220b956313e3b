"""The paper's network run as its scripts do: the reference of the speed benchmarks.

It runs in a process of its own, which has the memory settings a script has.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from types import TracebackType
from typing import Literal, Self

import numpy as np
import torch

from napari_genselfdiff.backbone.heads import Segmenter, build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide

SAMPLE, TILE = "cmu_small_region", 256
VIEW = Region(700, 600, 1024, 1024)  # a view of the user's, on no grid
Clock = Literal["perf_counter", "thread_time"]


class OfficialProcess:
    """Times the official network in another process."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def seconds(
        self,
        what: Literal["tile", "region"],
        threads: int,
        clock: Clock = "perf_counter",
        device: str = "cpu",
        repeats: int = 1,
    ) -> float:
        """Seconds of one tile of 256², or of ``VIEW`` from the file to classes."""
        return self._pool.submit(_seconds, what, threads, clock, device, repeats).result()


@cache
def _network(device: str) -> Segmenter:
    """The paper's network as its scripts hold it: fp32, contiguous, eval mode."""
    torch.manual_seed(0)
    return build_segmenter(PRESETS["paper"], 1, 0).to(device)


def _seconds(what: str, threads: int, clock: Clock, device: str, repeats: int) -> float:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    network, now = _network(device), getattr(time, clock)
    with open_slide(sample_path(SAMPLE)) as slide:
        tile = slide.read(Region(VIEW.y, VIEW.x, TILE, TILE))
        start = now()
        for _ in range(repeats):
            if what == "tile":
                _tile(network, tile)
            else:
                _region(network, slide.read(VIEW))
        return float(now() - start) / repeats


def _tile(network: Segmenter, tile: np.ndarray) -> np.ndarray:
    """One ``(256, 256, 3)`` tile to class probabilities."""
    device = next(network.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(tile.transpose(2, 0, 1)))[None].to(device)
    with torch.no_grad():
        shares: np.ndarray = network(x.float() / 127.5 - 1).logits.softmax(dim=1)[0].cpu().numpy()
        return shares


def _region(network: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """Run tiles one by one, without overlap; classes per pixel."""
    classes = np.zeros(pixels.shape[:2], np.uint8)
    for y in range(0, VIEW.height, TILE):
        for x in range(0, VIEW.width, TILE):
            part = slice(y, y + TILE), slice(x, x + TILE)
            classes[part] = _tile(network, pixels[part]).argmax(axis=0)
    return classes
