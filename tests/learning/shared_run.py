"""One of several processes that share a step; writes the gradients it ends with."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.loop import LoopConfig, Report, TrainState, train
from napari_genselfdiff.learning.objectives import Denoising
from napari_genselfdiff.learning.shares import ALONE, Shares
from tests.backbone.networks import TINY
from tests.learning.killable import pictures


def one_step(
    batch: int, shares: Shares = ALONE, **settings: object
) -> tuple[torch.Tensor, Report, torch.Tensor]:
    """Gradient of one step in float64, its report and the weights after it."""
    config = LoopConfig(total_images=batch, batch=batch, clip=None, **settings)  # type: ignore[arg-type]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    state = TrainState.create(Denoiser(TINY), config, shares=shares)
    state.model.double()
    state.ema.model.double()

    def doubled(indices: object) -> Batch:
        made = pictures(indices)  # type: ignore[arg-type]
        return made._replace(images=made.images.double())

    objective = Denoising(NoiseSchedule(NoiseConfig(timesteps=50)))
    (report,) = train(state, doubled, objective, config)
    gradients = [p.grad.flatten() for p in state.trainable if p.grad is not None]
    weights = [p.detach().flatten() for p in state.model.parameters()]
    return torch.cat(gradients), report, torch.cat(weights)


def main(rank: int, store: Path) -> None:
    """What each of two processes runs; they meet by a file."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store / 'meeting'}", rank=rank, world_size=2
    )
    shares = Shares(rank, 2)
    found = {}
    for batch in (7, 1):
        for reduction in ("mean", "sum"):
            gradient, report, weights = one_step(batch, shares, reduction=reduction)
            found[f"{batch} {reduction}"] = gradient
            found[f"{batch} {reduction} loss"] = torch.tensor(report.loss, dtype=torch.float64)
            found[f"{batch} {reduction} weights"] = weights
    stop, progress = shares.agree(rank == 1, 0.25 + rank)
    found["agreed"] = torch.tensor([stop, progress])
    torch.save(found, store / f"{rank}.pt")
    torch.distributed.destroy_process_group()
