"""The photographic variations of the released code: brightness, contrast and blur.

What torchvision calls ColorJitter and GaussianBlur, for the recipes that repeat that code; our own
recipes vary the stain instead (:mod:`augment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.augment import StainDraw, draw_stain, restain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from napari_genselfdiff.learning.jitter import StainJitter

_GREY = (0.2989, 0.587, 0.114)  # ITU-R 601, what the usual libraries weigh the channels with


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraJitter:
    """Brightness and contrast scaled by up to 1 ± these, together, in a ``chance`` of the patches.

    ``blur`` is the chance of a Gaussian blur under a 3 × 3 window, of a deviation in ``sigma``.
    """

    brightness: float = 0.5
    contrast: float = 0.4
    chance: float = 0.3
    blur: float = 0.3
    sigma: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        """Refuse chances and ranges that are none."""
        for name in ("brightness", "contrast", "chance", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"camera.{name} must be 0..1, got {getattr(self, name)}")
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ConfigError(f"camera.sigma must be (low, high) above 0, got {self.sigma}")


@dataclass(frozen=True, slots=True)
class CameraDraw:
    """What is done to one patch, drawn beforehand; 1 and a blur of 0 change nothing."""

    brightness: float = 1.0
    contrast: float = 1.0
    contrast_first: bool = False
    blur: float = 0.0


Draw = StainDraw | CameraDraw


def draw_look(
    stain: StainJitter | None, camera: CameraJitter | None, rng: np.random.Generator
) -> Draw | None:
    """Draw how one patch looks: by its stain or by the camera, or not at all."""
    if camera is not None:
        return draw_camera(camera, rng)
    return None if stain is None else draw_stain(stain, rng)


def vary(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Apply draws of one kind to ``(B, 3, H, W)`` in [0, 255]; same shape and range."""
    cameras = [draw for draw in draws if isinstance(draw, CameraDraw)]
    if cameras:
        return rephotograph(images, cameras)
    return restain(images, [draw for draw in draws if isinstance(draw, StainDraw)])


def draw_camera(jitter: CameraJitter, rng: np.random.Generator) -> CameraDraw:
    """Draw brightness, contrast, their order, and blur of one patch."""
    b, c = (
        float(rng.uniform(1 - spread, 1 + spread))
        for spread in (jitter.brightness, jitter.contrast)
    )
    first, sigma = bool(rng.random() < 0.5), float(rng.uniform(*jitter.sigma))
    changed, blurred = rng.random() < jitter.chance, rng.random() < jitter.blur
    draw = CameraDraw(b, c, first) if changed else CameraDraw()
    return CameraDraw(
        draw.brightness, draw.contrast, draw.contrast_first, sigma if blurred else 0.0
    )


def rephotograph(images: Tensor, draws: Sequence[CameraDraw]) -> Tensor:
    """Apply one draw to each of ``(B, 3, H, W)`` in [0, 255]; same shape and range."""
    return torch.stack([_one(image, draw) for image, draw in zip(images, draws, strict=True)])


def _one(image: Tensor, draw: CameraDraw) -> Tensor:
    for contrast in (draw.contrast_first, not draw.contrast_first):
        image = _contrasted(image, draw.contrast) if contrast else image * draw.brightness
        image = image.clamp(0, 255)
    if draw.blur:
        axis = torch.exp(-(torch.arange(-1.0, 2.0, device=image.device) ** 2) / (2 * draw.blur**2))
        kernel = (torch.outer(axis, axis) / axis.sum() ** 2).expand(3, 1, 3, 3)
        image = F.conv2d(F.pad(image[None], (1, 1, 1, 1), mode="reflect"), kernel, groups=3)[0]
    return image


def _contrasted(image: Tensor, factor: float) -> Tensor:
    """Pixels moved away from, or towards, the mean grey of the image."""
    weights = torch.tensor(_GREY, device=image.device, dtype=image.dtype)[:, None, None]
    mean = (image * weights).sum(dim=0).mean()
    return mean + factor * (image - mean)
