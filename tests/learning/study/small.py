"""A data set, a network and a study small enough for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.learning.study.plan import StudyPlan
from napari_genselfdiff.registry.folder import write_backbone
from tests.backbone.networks import TINY
from tests.learning import tiny

# Three levels: attention in the middle of a whole tile is slow with two.
NETWORK = replace(TINY, dims=(8, 8, 16), attention=("none", "none", "linear"))
TRAIN, DEV = ["a", "b", "c", "d"], ["y", "z"]
TINY_NETWORK = ("preset=tiny", "patch.size=32", "loop.batch=4", "loop.precision=fp32")


def write_set(root: Path, side: int = 64) -> None:
    """Six pictures with masks, lists, and two subsets of one image."""
    for folder in ("labelled/toy/images", "labelled/toy/masks", "splits"):
        (root / folder).mkdir(parents=True)
    for seed, stem in enumerate([*TRAIN, *DEV]):
        image, ids = tiny.tissue(seed, side)
        Image.fromarray(image).save(root / f"labelled/toy/images/{stem}.png")
        Image.fromarray(ids.astype(np.uint16)).save(root / f"labelled/toy/masks/{stem}.png")
    lists = {"train": TRAIN, "dev": DEV, "n1_subset0": ["a"], "n1_subset1": ["b"]}
    for name, stems in lists.items():
        (root / f"splits/toy_{name}.txt").write_text("\n".join(stems) + "\n")


def write_tiny_backbone(path: Path, schedule: str = "quadratic") -> Path:
    """A backbone folder with random weights."""
    torch.manual_seed(0)
    fields = {
        "name": "tiny",
        "schedule": schedule,
        "timesteps": 100,
        "prediction": "epsilon",
        "mpp_range": (0.25, 0.5),
        "images_seen": 0,
    }
    return write_backbone(path, fields, Denoiser(NETWORK)).path


def plan(arms: dict[str, Any], **changes: Any) -> StudyPlan:
    """A study of the toy set at one label, two subsets."""
    toy = {
        "folder": "labelled/toy",
        "train": "splits/toy_train.txt",
        "dev": "splits/toy_dev.txt",
        "subset": "splits/toy_n{n}_subset{subset}.txt",
        "full": 4,
        "mpp": 0.25,
        "work_mpp": 0.25,
        "min_object_um2": 0.5,
        "task": tiny.NUCLEI.model_dump(),
    }
    row = {"set": "toy", "n": 1, "subsets": [0, 1], "seeds": [0], "images": 8}
    values = {"name": "toy", "sets": {"toy": toy}, "rows": [row], "arms": arms, "aside": 1}
    return StudyPlan.model_validate({**values, **changes})
