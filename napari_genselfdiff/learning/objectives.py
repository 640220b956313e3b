"""What the optimisation loop minimises: an objective; denoising and segmentation are two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from napari_genselfdiff.backbone.sampler import ddim
from napari_genselfdiff.errors import TrainingError
from napari_genselfdiff.learning import losses, released_losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.backbone.heads import SegmentationOutput
    from napari_genselfdiff.backbone.noise import NoiseSchedule, Prediction, Weighting
    from napari_genselfdiff.learning.data import Batch


class Objective(Protocol):
    """Model and batch in, one loss per sample out, ``(B,)``, with named parts for the log."""

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]: ...


class Damaged(NamedTuple):
    """Images made worse, and what the network is to answer to them.

    ``images`` and ``target`` ``(B, 3, H, W)``; ``t`` ``(B,)`` int64, how much was done to them;
    ``weight`` ``(B,)`` of each sample's loss.
    """

    images: Tensor
    t: Tensor
    target: Tensor
    weight: Tensor


class Pretext(Protocol):
    """A way to learn from images without labels: damage them, ask the network to mend them.

    What happens to a sample depends on (``seed``, sample index) alone.
    """

    @property
    def seed(self) -> int: ...

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]: ...

    def damage(self, images: Tensor, indices: Sequence[int]) -> Damaged:
        """Damage images ``(B, 3, H, W)`` in [-1, 1] of these sample indices."""
        ...

    def score(self, answer: Tensor, damaged: Damaged) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss per sample ``(B,)`` of the network's answer, with named parts."""
        ...

    def restore(
        self, model: nn.Module, images: Tensor, indices: Sequence[int], *, share: float = 0.25
    ) -> tuple[Tensor, Tensor]:
        """Images damaged so far and what the network makes of them; for pictures.

        ``share`` is the place in 0..1 between the image and nothing of it (t / T).
        """
        ...

    def generate(
        self, model: nn.Module, indices: Sequence[int], shape: tuple[int, ...]
    ) -> Tensor | None:
        """One image of ``shape`` (3, H, W) out of nothing per index, or None: it cannot."""
        ...


@dataclass(frozen=True)
class Denoising:
    """Weighted squared error of the network's answer to a noised image (Ho et al. 2020, eq. 14).

    Noise and timestep of a sample depend on (seed, sample index) alone; the noise also on the
    kind of device, since it is drawn where the images are.
    """

    schedule: NoiseSchedule
    weighting: Weighting = "p2"
    prediction: Prediction = "epsilon"
    seed: int = 0

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        damaged = self.damage(batch.images, batch.indices)
        return self.score(model(damaged.images, damaged.t), damaged)

    def damage(self, images: Tensor, indices: Sequence[int]) -> Damaged:
        """Noised images, at a random timestep each."""
        noise, t = self.draw(indices, tuple(images.shape[1:]), images.device)
        noise = noise.to(images)
        return Damaged(
            self.schedule.add_noise(images, noise, t),
            t,
            self.schedule.target(images, noise, t, self.prediction),
            self.schedule.weight_at(t, self.weighting, self.prediction),
        )

    def score(self, answer: Tensor, damaged: Damaged) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean squared error per sample, ``(B,)``."""
        answer = losses.at_least_fp32(answer)
        error = (answer - damaged.target).square().mean(dim=(1, 2, 3))
        return error * damaged.weight.to(error.dtype), {"mse": error.detach()}

    def draw(
        self, indices: Sequence[int], shape: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Noise ``(B, C, H, W)`` and timesteps ``(B,)`` of these samples, on ``device``."""
        noise, times = [], []
        for index in indices:
            generator = sample_generator(self.seed, index)
            times.append(torch.randint(self.schedule.timesteps, (1,), generator=generator))
            if torch.device(device).type != "cpu":
                generator = sample_generator(self.seed, index, device)
            noise.append(torch.randn(shape, generator=generator, device=device))
        return torch.stack(noise), torch.cat(times).to(device, non_blocking=True)

    def restore(
        self, model: nn.Module, images: Tensor, indices: Sequence[int], *, share: float = 0.25
    ) -> tuple[Tensor, Tensor]:
        """Images noised to t = share · T, and what up to 50 DDIM steps make of them."""
        start = round(share * (self.schedule.timesteps - 1))
        steps = max(1, round(50 * share))
        noise, _ = self.draw(indices, tuple(images.shape[1:]), images.device)
        t = torch.full((len(images),), start, device=images.device)
        noised = self.schedule.add_noise(images, noise.to(images), t)
        return noised, ddim(
            model, self.schedule, noised, start=start, steps=steps, prediction=self.prediction
        )

    def generate(self, model: nn.Module, indices: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        """Images from pure noise by 50 DDIM steps."""
        device = next(model.parameters()).device
        noise, _ = self.draw(indices, shape, device)
        start = self.schedule.timesteps - 1
        return ddim(model, self.schedule, noise, start=start, steps=50, prediction=self.prediction)


def sample_generator(seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator that depends on (seed, sample index) alone."""
    (word,) = np.random.SeedSequence([seed, 1, index]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(word) >> 1)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Structural similarity + focal loss (the method's), soft Dice and the distance cue.

    Each number weighs one part; only known pixels count. ``released_focal`` and
    ``released_structural`` take these two as the released code computes them, defects included.
    """

    focal: float = 1.0
    structural: float = 1.0
    dice: float = 0.5
    distance: float = 1.0
    gamma: float = 2.0
    released_focal: bool = False
    released_structural: bool = False

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.score(model(batch.images), batch)

    def score(self, output: SegmentationOutput, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss per sample ``(B,)`` of a segmenter's output, with named parts."""
        if batch.classes is None or batch.distance is None or batch.known is None:
            raise TrainingError("segmentation needs labelled patches, got unlabelled ones")
        logits, distance = output
        truth = (batch.classes, batch.known)
        focal = (released_losses if self.released_focal else losses).focal
        structural = (released_losses if self.released_structural else losses).structural_similarity
        parts = {
            "focal": focal(logits, *truth, gamma=self.gamma) * self.focal,
            "structural": structural(logits, *truth) * self.structural,
            "dice": losses.soft_dice(logits, *truth) * self.dice,
            "distance": losses.distance_loss(distance, batch.distance, batch.known) * self.distance,
        }
        total = torch.stack(list(parts.values())).sum(dim=0)
        return total, {name: part.detach() for name, part in parts.items()}
