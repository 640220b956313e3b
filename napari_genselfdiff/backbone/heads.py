"""What a backbone answers: the noise in an image, or classes and instance cues."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_genselfdiff.backbone.blocks import ConvSiLU, ResidualBlock
from napari_genselfdiff.backbone.unet import UNet, UNetConfig
from napari_genselfdiff.errors import ConfigError


class OutputHead(nn.Module):
    """From the last decoder level to ``out`` channels at the input's resolution.

    ``residual`` is the paper's final block. ``shuffle`` brings the half-resolution features up
    by a pixel shuffle and joins them with a shallow full-resolution look at the image, so that
    thin borders do not depend on the half-resolution grid.
    """

    def __init__(self, config: UNetConfig, out: int) -> None:
        super().__init__()
        self.config = config
        dim, wide = config.dims[0], 2 * config.head_dim
        if config.head == "residual":
            self.block = ResidualBlock(dim, dim, time_dim=0, time="none")
            self.out = nn.Conv2d(dim, out, 1)
        else:
            self.expand = ConvSiLU(dim, config.head_dim * config.patch**2, 1)
            self.look = ConvSiLU(3, config.head_dim, 3, padding=1)
            self.mix = ConvSiLU(wide, wide, 3, padding=1)
            self.out = nn.Conv2d(wide, out, 1)

    def forward(self, features: Tensor, x: Tensor) -> Tensor:
        if self.config.head == "residual":
            plain: Tensor = self.out(self.block(features))
            return plain
        raised = F.pixel_shuffle(self.expand(features), self.config.patch)
        answer: Tensor = self.out(self.mix(torch.cat([raised, self.look(x)], dim=1)))
        return answer


class Denoiser(nn.Module):
    """U-Net with a noise head: predicts ε, x0 or v, ``(B, 3, H, W)``."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config)
        self.head = OutputHead(config, 3)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.head(self.unet(x_t, t), x_t)
        return answer


class SegmentationOutput(NamedTuple):
    """Class logits ``(B, 1 + n_classes, H, W)`` and distance logit ``(B, 1, H, W)``.

    The sigmoid of ``distance`` is the normalised distance to the border of the object a pixel
    lies in: 1 at its core, 0 at its border and outside of objects.
    """

    logits: Tensor
    distance: Tensor


class Segmenter(nn.Module):
    """U-Net with a segmentation head, always asked at the same timestep.

    ``x`` is ``(B, 3, H, W)`` in [-1, 1]; no noise is added. ``n_classes`` leaves out the
    background.
    """

    def __init__(self, config: UNetConfig, n_classes: int, timestep: int) -> None:
        super().__init__()
        if n_classes < 1:
            raise ConfigError(f"a segmenter needs 1 or more classes, got {n_classes}")
        self.config, self.n_classes, self.timestep = config, n_classes, timestep
        self.unet = UNet(config)
        self.head = OutputHead(config, 1 + n_classes + 1)

    def forward(self, x: Tensor) -> SegmentationOutput:
        return self.answer(self.unet(x, self.times(x)), x)

    def times(self, x: Tensor) -> Tensor:
        """The fixed timestep for every image of a batch, ``(B,)``."""
        return torch.full((x.shape[0],), self.timestep, device=x.device, dtype=torch.long)

    def answer(self, features: Tensor, x: Tensor) -> SegmentationOutput:
        """Head alone, on features of the last decoder level."""
        channels = self.head(features, x)
        return SegmentationOutput(channels[:, :-1], channels[:, -1:])


def build_segmenter(config: UNetConfig, n_classes: int, timestep: int) -> Segmenter:
    """A segmenter with freshly initialised weights, in eval mode."""
    return Segmenter(config, n_classes, timestep).eval()
