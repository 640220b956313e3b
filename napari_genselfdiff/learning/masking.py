"""Masked diffusion: patches of an image are hidden instead of noised, the network fills them in.

Pan, Chen & Shi, "Masked Diffusion as Self-supervised Representation Learner" (MDM,
arXiv 2308.05695): the timestep says which share of the patches is hidden, the network answers
the clean image, and structural similarity says how well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
import torch.nn.functional as F

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning import losses
from napari_genselfdiff.learning.objectives import Damaged, sample_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from napari_genselfdiff.learning.data import Batch

MaskLoss = Literal["ssim", "l2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskConfig:
    """Side of the hidden patches in pixels, number of timesteps, and the loss.

    The defaults are the rival's for images of 256 pixels.
    """

    patch: int = 8
    timesteps: int = 1000
    loss: MaskLoss = "ssim"

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ConfigError(f"the side of masked patches must be 1 or more, got {self.patch}")
        if self.timesteps < 2:
            raise ConfigError(f"masking timesteps must be 2 or more, got {self.timesteps}")
        if self.loss not in get_args(MaskLoss):
            raise ConfigError(
                f"the loss of masked diffusion must be one of {', '.join(get_args(MaskLoss))}, "
                f"got {self.loss!r}"
            )


@dataclass(frozen=True)
class Masking:
    """Fill in the hidden patches of an image.

    At timestep t the share t / T of the patches is hidden, drawn without replacement; which ones
    depends on (seed, sample index) alone. A hidden pixel is 0, the middle of [-1, 1].
    """

    config: MaskConfig = MaskConfig()
    seed: int = 0

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        damaged = self.damage(batch.images, batch.indices)
        return self.score(model(damaged.images, damaged.t), damaged)

    def damage(self, images: Tensor, indices: Sequence[int]) -> Damaged:
        """Images with patches hidden, at a random timestep each."""
        return self.hide(images, indices, None)

    def score(self, answer: Tensor, damaged: Damaged) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over the whole image per sample, ``(B,)``: structural dissimilarity or L2."""
        answer, target = losses.at_least_fp32(answer), losses.at_least_fp32(damaged.target)
        mse = (answer - target).square().mean(dim=(1, 2, 3))
        loss = mse if self.config.loss == "l2" else losses.dissimilarity(answer, target)
        return loss * damaged.weight.to(loss.dtype), {"mse": mse.detach()}

    @torch.no_grad()
    def restore(
        self, model: nn.Module, images: Tensor, indices: Sequence[int], *, share: float = 0.25
    ) -> tuple[Tensor, Tensor]:
        """Images with that share of their patches hidden, and what one pass makes of them."""
        hidden = self.hide(images, indices, round(share * (self.config.timesteps - 1)))
        restored: Tensor = model(hidden.images, hidden.t)
        return hidden.images, restored

    def generate(self, model: nn.Module, indices: Sequence[int], shape: tuple[int, ...]) -> None:
        """None: with everything hidden, the network can only answer the mean image."""

    def hide(self, images: Tensor, indices: Sequence[int], at: int | None) -> Damaged:
        """Images with patches hidden, at the timestep ``at``, or a random one each."""
        rows, columns = self._grid(images)
        grids, times = [], []
        for index in indices:
            generator = sample_generator(self.seed, index)
            drawn = torch.randint(self.config.timesteps, (1,), generator=generator)
            t = drawn if at is None else torch.full_like(drawn, at)
            count = rows * columns
            keep = count * (self.config.timesteps - int(t)) // self.config.timesteps
            shown = torch.zeros(count, dtype=torch.bool)
            shown[torch.randperm(count, generator=generator)[:keep]] = True
            grids.append(shown.view(1, rows, columns))
            times.append(t)
        shown = torch.stack(grids).to(images.device, images.dtype, non_blocking=True)
        mask = F.interpolate(shown, scale_factor=self.config.patch, mode="nearest")
        t = torch.cat(times).to(images.device, non_blocking=True)
        return Damaged(images * mask, t, images, torch.ones(len(t), device=images.device))

    def _grid(self, images: Tensor) -> tuple[int, int]:
        height, width = images.shape[-2:]
        if height % self.config.patch or width % self.config.patch:
            raise ConfigError(
                f"masks of {self.config.patch} pixels do not fit images of {height} × {width}; "
                "change masking.patch or patch.size"
            )
        return height // self.config.patch, width // self.config.patch
