"""Small networks and pictures for tests of learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from napari_genselfdiff.backbone.heads import SegmentationOutput, Segmenter
from napari_genselfdiff.learning.corrections import CorrectionTile, pack_tiles
from napari_genselfdiff.learning.data import ArraySource, Labels, PatchConfig, PatchSampler
from napari_genselfdiff.learning.loop import LoopConfig, TrainState, train
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.targets import distance_target
from napari_genselfdiff.registry.card import ClassSpec, TaskSpec
from napari_genselfdiff.registry.folder import Model, write_model
from tests.backbone.networks import TINY

NUCLEI = TaskSpec(
    name="Nuclei",
    kind="objects",
    mpp=0.25,
    classes=(ClassSpec(value=1, name="Nucleus", color="#0072B2", key="1"),),
)


def tissue(seed: int, size: int = 128) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Pink ground with dark discs, and their ids."""
    rng = np.random.default_rng(seed)
    image = rng.normal((225, 180, 205), 6, (size, size, 3))
    ids = np.zeros((size, size), np.uint32)
    yy, xx = np.mgrid[:size, :size]
    for number in range(1, size // 8):
        y, x = rng.uniform(8, size - 8, 2)
        disc = ((yy - y) ** 2 + (xx - x) ** 2 < rng.uniform(4, 7) ** 2) & (ids == 0)
        ids[disc] = number
        image[disc] = rng.normal((95, 65, 140), 8, (int(disc.sum()), 3))
    return image.clip(0, 255).astype(np.uint8), ids


def source(seed: int, size: int = 128) -> ArraySource:
    image, ids = tissue(seed, size)
    known = np.ones(ids.shape, bool)
    truth = Labels((ids > 0).astype(np.uint8), distance_target(ids.astype(np.int32)), known)
    return ArraySource(image, 0.25, truth)


def tile(seed: int, size: int = 128, provenance: int = 3) -> CorrectionTile:
    image, ids = tissue(seed, size)
    known = np.full(ids.shape, provenance, np.uint8)
    return CorrectionTile(image, (ids > 0).astype(np.uint8), ids, known, 0.25, f"test:{seed}")


def recoloured(tile: CorrectionTile) -> CorrectionTile:
    """The same tissue with nuclei that lost most of their stain."""
    image = tile.image.astype(float)
    image[tile.classes > 0] = image[tile.classes > 0] * 0.1 + np.array([205, 160, 190])
    return replace(tile, image=image.clip(0, 255).astype(np.uint8), source=f"{tile.source}:pale")


def trained_model(path: Path, steps: int = 90) -> Model:
    """A model that knows the usual tissue, with a keep-working set of it."""
    torch.manual_seed(0)
    config = LoopConfig(total_images=8 * steps, batch=8, lr=4e-3, warmup_images=16, ema_decay=0.9)
    state = TrainState.create(Segmenter(TINY, 1, 50), config)
    sampler = PatchSampler([source(n) for n in range(70, 74)], PatchConfig(size=64), 0)
    for _ in train(state, sampler.batch, Segmentation(), config):
        pass
    fields = {"task": NUCLEI, "mpp_range": (0.25, 0.5), "tile": 64, "halo": 16}
    keep = pack_tiles("keep", [tile(90), tile(91)])
    replay = pack_tiles("replay", [tile(92), tile(93)])
    reserve = pack_tiles("reserve", [tile(94), tile(95)])
    learnt = cast("Segmenter", state.ema.model)
    return write_model(path, fields, learnt, extras=keep | replay | reserve)


class Says(torch.nn.Module):
    """A network that is sure of one of three outputs everywhere."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self._channel = channel

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        logits = torch.zeros(len(x), 3, *x.shape[2:])
        logits[:, self._channel] = 8.0
        return SegmentationOutput(logits, torch.zeros(len(x), 1, *x.shape[2:]))
