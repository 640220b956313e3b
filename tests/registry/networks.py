"""A tiny network, so that a model is written and read in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from napari_genselfdiff.backbone.heads import Denoiser, Segmenter, build_segmenter
from napari_genselfdiff.backbone.unet import UNetConfig
from napari_genselfdiff.registry.card import ClassSpec, TaskSpec
from napari_genselfdiff.registry.folder import Backbone, Model, write_backbone

TINY = UNetConfig(
    preset="tiny", dims=(8, 16), init_dim=8, patch=2, stem_kernel=3, attention=("none", "none"),
    time="film", join_first_skip=True, head="shuffle",
)  # fmt: skip

WriteModel = Callable[..., Model]


def task(name: str = "Nuclei") -> TaskSpec:
    nucleus = ClassSpec(value=1, name="Nucleus", color="#0072b2", key="1")
    return TaskSpec(name=name, kind="objects", classes=(nucleus,), mpp=0.25)


def network(seed: int = 0, classes: int = 1) -> Segmenter:
    torch.manual_seed(seed)
    return build_segmenter(TINY, classes, 0)


def make_backbone(folder: Path, seed: int = 0, **fields: Any) -> Backbone:
    """Write the folder of a tiny diffusion backbone; ``seed`` decides its weights."""
    values = {
        "schedule": "quadratic",
        "timesteps": 1000,
        "prediction": "epsilon",
        "mpp_range": (0.25, 0.5),
        "images_seen": 10 * seed,
        **fields,
    }
    torch.manual_seed(seed)
    return write_backbone(folder, values, Denoiser(TINY))
