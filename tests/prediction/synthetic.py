"""Probability maps of round objects, as a well trained network would give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_genselfdiff.backbone.heads import SegmentationOutput
from napari_genselfdiff.registry.card import ClassSpec, ModelCard, TaskSpec

Floats = NDArray[np.float32]


def make_card(kind: str = "objects", n_classes: int = 1, **values: Any) -> ModelCard:
    """A card for tests; classes have the values 3, 5, 7, … so that index and value differ."""
    classes = tuple(
        ClassSpec(value=2 * i + 3, name=f"class {i}", color="#00aa00") for i in range(n_classes)
    )
    fields: dict[str, Any] = {
        "name": "test",
        "task": TaskSpec.parse({"name": "Nuclei", "kind": kind, "classes": classes, "mpp": 0.5}),
        "architecture": {"preset": "tiny"},
        "timestep": 0,
        "mpp_range": (0.25, 0.5),
        "tile": 96,
        "halo": 16,
        "min_object_um2": 2.5,  # 10 px of 0.5 µm
        "created": "2026-11-01",
        "app_version": "0",
        "weights_sha256": "0" * 64,
    }
    return ModelCard(**(fields | values))


def blobs(
    seed: int, shape: tuple[int, int] = (160, 160), count: int = 40, noise: float = 0.01
) -> tuple[Floats, Floats]:
    """Foreground and distance of ``count`` ellipses, many of them touching."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    depth = np.zeros(shape, np.float32)
    for _ in range(count):
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        ry, rx = rng.uniform(5, 10, 2)
        depth = np.maximum(depth, 1 - np.hypot((yy - cy) / ry, (xx - cx) / rx))
    foreground = np.clip(depth * 6, 0, 1).astype(np.float32)
    distance = np.clip(1.3 * depth + rng.normal(0, noise, shape) * (depth > 0), 0, 1)
    return foreground, distance.astype(np.float32)


class Darkness(nn.Module):
    """A stand-in for a trained network: dark pixels are objects, blurred darkness the distance.

    Like the real one it also looks at the statistics of the whole tile.
    """

    def __init__(self, n_classes: int = 1) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, x: Tensor) -> SegmentationOutput:
        grey = x.mean(dim=1, keepdim=True)
        dark = 12 * (0.1 * grey.mean(dim=(2, 3), keepdim=True) + 0.1 - grey)
        soft = F.avg_pool2d(dark.sigmoid(), 7, stride=1, padding=3)
        others = [dark * (1 if i == 0 else 0.9) for i in range(self.n_classes)]
        return SegmentationOutput(torch.cat([-dark, *others], dim=1), 14 * (soft - 0.6))


@dataclass(frozen=True)
class StandIn:
    """A model whose network is given."""

    card: ModelCard
    network: nn.Module

    def load(self) -> Any:
        return self.network
