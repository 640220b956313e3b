"""A run of a second or so that dies where it is told to, in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.backbone.unet import UNetConfig
from napari_genselfdiff.backbone.weights import write_weights
from napari_genselfdiff.learning import checkpoint
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.loop import LoopConfig, Report, TrainState
from napari_genselfdiff.learning.objectives import Denoising
from napari_genselfdiff.learning.run import RunFolder, RunOptions, run
from napari_genselfdiff.registry.folder import WEIGHTS_FILE
from tests.backbone.networks import TINY

TOTAL, BATCH, EVERY = 48, 4, 12
LOOP = LoopConfig(
    total_images=TOTAL, batch=BATCH, micro_batch=2, lr=1e-3, warmup_images=8, precision="fp32"
)


class Recipe(BaseModel):
    """What a run is checked against when it goes on."""

    loop: LoopConfig = LOOP


class Death(NamedTuple):
    """Where a process kills itself: once so many images are seen, in or between the saves."""

    images_seen: int
    where: Literal["step", "writing", "renaming"]


def pictures(indices: Sequence[int]) -> Batch:
    """Stripes, other ones for every index."""
    lines = torch.arange(16) / 15
    rows = [torch.sin(lines * (3 + index % 5)) for index in indices]
    images = torch.stack([row.expand(3, 16, 16) for row in rows]).contiguous()
    return Batch(images, tuple(indices))


def learn(
    out: Path,
    *,
    resume: bool = False,
    death: Death | None = None,
    recipe: Recipe | None = None,
    network: UNetConfig = TINY,
    options: RunOptions | None = None,
    make_batch: Callable[[Sequence[int]], Batch] = pictures,
) -> list[Report]:
    """Run to the end, or to the death."""
    recipe = recipe or Recipe()
    folder = RunFolder(out, recipe, resume=resume)
    torch.manual_seed(0)
    state = TrainState.create(Denoiser(network), recipe.loop)
    if death is not None:
        _arm(death, state)
    return list(
        run(
            folder,
            state,
            make_batch,
            Denoising(NoiseSchedule(NoiseConfig(timesteps=50))),
            recipe.loop,
            every_images=EVERY,
            snapshot=lambda: write_weights(out / WEIGHTS_FILE, state.ema.model),
            options=options or RunOptions(resume=resume),
        )
    )


def _arm(death: Death, state: TrainState) -> None:
    """Put the death in the way of what it is to happen in."""
    patch = pytest.MonkeyPatch()  # never undone: the process ends
    write, average, rename = checkpoint.write_file, state.ema.update, Path.replace  # type: ignore[attr-defined]

    def die_if_due() -> None:
        if state.images_seen >= death.images_seen:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_write(path: Path, data: bytes) -> None:
        write(path, data[: len(data) // 2])
        die_if_due()
        write(path, data)

    def dying_average(model: nn.Module) -> None:
        die_if_due()
        average(model)

    def dying_rename(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        if target.name == "checkpoint.previous.pt":
            die_if_due()
        return moved

    if death.where == "step":
        patch.setattr(state.ema, "update", dying_average)
    elif death.where == "writing":
        patch.setattr(checkpoint, "write_file", dying_write)
    else:
        patch.setattr(Path, "replace", dying_rename)


def learn_with_one_thread(out: Path, resume: bool, death: Death | None) -> None:
    """What a child process runs."""
    torch.set_num_threads(1)
    learn(out, resume=resume, death=death)
