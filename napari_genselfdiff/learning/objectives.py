"""What the optimisation loop minimises: denoising or segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from napari_genselfdiff.errors import TrainingError
from napari_genselfdiff.learning import losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.backbone.noise import NoiseSchedule, Prediction, Weighting
    from napari_genselfdiff.learning.data import Batch


class Objective(Protocol):
    """Model and batch in, one loss per sample out, ``(B,)``, with named parts for the log."""

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]: ...


@dataclass(frozen=True)
class Denoising:
    """Weighted squared error of the network's answer to a noised image (Ho et al. 2020, eq. 14).

    Noise and timestep of a sample depend on (seed, sample index) alone.
    """

    schedule: NoiseSchedule
    weighting: Weighting = "p2"
    prediction: Prediction = "epsilon"
    seed: int = 0

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x0 = batch.images
        noise, t = self.draw(batch.indices, tuple(x0.shape[1:]))
        noise, t = noise.to(x0), t.to(x0.device)
        answer = losses.at_least_fp32(model(self.schedule.add_noise(x0, noise, t), t))
        target = self.schedule.target(x0, noise, t, self.prediction)
        error = (answer - target).square().mean(dim=(1, 2, 3))
        weight = self.schedule.weights(self.weighting, self.prediction).to(error.device)[t]
        return error * weight.to(error.dtype), {"mse": error.detach()}

    def draw(self, indices: Sequence[int], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Noise ``(B, C, H, W)`` and timesteps ``(B,)`` of these samples."""
        noise, times = [], []
        for index in indices:
            (word,) = np.random.SeedSequence([self.seed, 1, index]).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(word) >> 1)
            times.append(torch.randint(self.schedule.timesteps, (1,), generator=generator))
            noise.append(torch.randn(shape, generator=generator))
        return torch.stack(noise), torch.cat(times)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Structural similarity + focal loss (the method's), soft Dice and the distance cue.

    Each number weighs one part; only known pixels count.
    """

    focal: float = 1.0
    structural: float = 1.0
    dice: float = 0.5
    distance: float = 1.0
    gamma: float = 2.0

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        if batch.classes is None or batch.distance is None or batch.known is None:
            raise TrainingError("segmentation needs labelled patches, got unlabelled ones")
        logits, distance = model(batch.images)
        truth = (batch.classes, batch.known)
        parts = {
            "focal": losses.focal(logits, *truth, gamma=self.gamma) * self.focal,
            "structural": losses.structural_similarity(logits, *truth) * self.structural,
            "dice": losses.soft_dice(logits, *truth) * self.dice,
            "distance": losses.distance_loss(distance, batch.distance, batch.known) * self.distance,
        }
        total = torch.stack(list(parts.values())).sum(dim=0)
        return total, {name: part.detach() for name, part in parts.items()}
