"""Random geometry and stain, drawn per sample and applied to image and labels alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Optical density of haematoxylin, eosin and what is left (Ruifrok & Johnston 2001), one a row.
_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
_STAINS = (_STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class StainJitter:
    """How far staining and camera may differ from slide to slide.

    ``concentration`` scales each stain's optical density by 1 ± this, ``basis`` moves the stain
    colours, ``brightness`` scales the image, ``blur`` and ``noise`` are chances and a σ.
    """

    concentration: float = 0.35
    offset: float = 0.05
    basis: float = 0.08
    brightness: float = 0.1
    blur: float = 0.2
    noise: float = 0.03


DEFAULT_JITTER = StainJitter()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a patch is cut: centre and zoom in source pixels, angle, mirror."""

    y: float
    x: float
    zoom: float
    angle: float
    mirror: bool
    stretch_x: float = 1.0

    def reach(self, size: int) -> tuple[int, int]:
        """Half height and half width of the source window that holds the whole patch."""
        half = self.zoom * size / 2 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)))
        return math.ceil(half) + 2, math.ceil(half / self.stretch_x) + 2

    def source_grid(self, size: int, top: int, left: int) -> tuple[Tensor, Tensor]:
        """Rows and columns, relative to a window's corner, that the patch's pixels come from."""
        axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        v, u = torch.meshgrid(axis, -axis if self.mirror else axis, indexing="ij")
        cos, sin = math.cos(self.angle) * self.zoom, math.sin(self.angle) * self.zoom
        rows = self.y - top + sin * u + cos * v
        columns = self.x - left + (cos * u - sin * v) / self.stretch_x
        return rows, columns


def resample(plane: Tensor, rows: Tensor, columns: Tensor, *, nearest: bool) -> Tensor:
    """Values of ``plane (C, H, W)`` at fractional positions, edge values outside."""
    height, width = plane.shape[-2:]
    grid = torch.stack(
        [2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1
    )
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(
        plane[None].float(), grid[None], mode=mode, padding_mode="border", align_corners=True
    )[0]


def cut_image(
    window: NDArray[np.uint8], placement: Placement, size: int, top: int, left: int
) -> Tensor:
    """Patch ``(3, size, size)`` float in [0, 255] from a source window ``(h, w, 3)``."""
    rows, columns = placement.source_grid(size, top, left)
    plane = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1))).float()
    factor = int(placement.zoom)
    if factor >= 2:  # average before taking every n-th pixel, or fine texture turns to moiré
        plane = F.avg_pool2d(plane, factor)
        rows, columns = ((c - (factor - 1) / 2) / factor for c in (rows, columns))
    return resample(plane, rows, columns, nearest=False)


def jitter_stain(image: Tensor, jitter: StainJitter, rng: np.random.Generator) -> Tensor:
    """Redraw staining and exposure of ``(3, H, W)`` in [0, 255]; same shape and range."""
    basis = torch.from_numpy(_STAINS)
    moved = basis + torch.from_numpy(rng.normal(0, jitter.basis, (3, 3)).astype(np.float32))
    moved = moved.clamp_min(0.01) / moved.clamp_min(0.01).norm(dim=1, keepdim=True)
    scale = rng.uniform(1 - jitter.concentration, 1 + jitter.concentration, 3)
    offset = rng.uniform(-jitter.offset, jitter.offset, 3)
    od = -torch.log((image.flatten(1) + 1) / 256)
    concentration = torch.linalg.solve(basis.T, od)
    concentration = concentration * torch.from_numpy(scale.astype(np.float32))[:, None]
    concentration = concentration + torch.from_numpy(offset.astype(np.float32))[:, None]
    out = torch.exp(-(moved.T @ concentration)).view_as(image) * 256 - 1
    out = out * rng.uniform(1 - jitter.brightness, 1 + jitter.brightness)
    if rng.random() < jitter.blur:
        out = _blur(out, rng.uniform(0.4, 1.2))
    if jitter.noise and rng.random() < 0.3:
        grain = rng.normal(0, 255 * jitter.noise * rng.random(), tuple(out.shape))
        out = out + torch.from_numpy(grain.astype(np.float32))
    return out.clamp(0, 255)


def _blur(image: Tensor, sigma: float) -> Tensor:
    axis = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 5)
    padded = F.pad(image[None], (2, 2, 2, 2), mode="reflect")
    rows = F.conv2d(padded, kernel, groups=3)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=3)[0]
