"""Random geometry and stain, drawn per sample and applied to image and labels alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.learning.jitter import StainJitter

# Optical density of haematoxylin, eosin and what is left (Ruifrok & Johnston 2001), one a row.
_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
_STAINS = (_STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a patch is cut: centre and zoom in source pixels, angle, mirror."""

    y: float
    x: float
    zoom: float
    angle: float
    mirror: bool
    stretch_x: float = 1.0

    def on_level(self, downsample: float) -> Placement:
        """The same place in the pixels of a grid with this downsample."""
        y, x = ((c + 0.5) / downsample - 0.5 for c in (self.y, self.x))
        return replace(self, y=y, x=x, zoom=self.zoom / downsample)

    def reach(self, size: int) -> tuple[int, int]:
        """Half height and half width of the source window that holds the whole patch."""
        half = self.zoom * size / 2 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)))
        return math.ceil(half) + 2, math.ceil(half / self.stretch_x) + 2

    def source_grid(self, size: int, top: int, left: int) -> tuple[Tensor, Tensor]:
        """Rows and columns, relative to a window's corner, that the patch's pixels come from."""
        # sums of a row's and a column's part: far less arithmetic than turning every pixel
        v = np.arange(size, dtype=np.float64) - (size - 1) / 2
        u = -v if self.mirror else v
        cos, sin = math.cos(self.angle) * self.zoom, math.sin(self.angle) * self.zoom
        rows = (self.y - top + cos * v)[:, None] + (sin * u)[None]
        columns = (self.x - left - sin / self.stretch_x * v)[:, None] + (cos / self.stretch_x * u)
        rows, columns = rows.astype(np.float32), columns.astype(np.float32)
        return torch.from_numpy(rows), torch.from_numpy(columns)


def resample(plane: Tensor, rows: Tensor, columns: Tensor, *, nearest: bool) -> Tensor:
    """Values of ``plane (C, H, W)`` at fractional positions, edge values outside."""
    height, width = plane.shape[-2:]
    grid = np.empty((*rows.shape, 2), np.float32)
    grid[..., 0] = columns.numpy() * np.float32(2 / max(width - 1, 1)) - np.float32(1)
    grid[..., 1] = rows.numpy() * np.float32(2 / max(height - 1, 1)) - np.float32(1)
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(
        plane[None].float(),
        torch.from_numpy(grid)[None],
        mode=mode,
        padding_mode="border",
        align_corners=True,
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


@dataclass(frozen=True, slots=True)
class StainDraw:
    """What is done to the colours of one patch, drawn beforehand.

    Optical density of the three channels becomes ``matrix`` @ density + ``shift``; then the image
    is scaled by ``brightness``, blurred with a Gaussian of ``blur`` pixels and covered with grain
    of σ = ``grain`` (0-255), taken from a fixed plate at the share ``place`` of its free room.
    """

    matrix: NDArray[np.float32]
    shift: NDArray[np.float32]
    brightness: float = 1.0
    blur: float = 0.0
    grain: float = 0.0
    place: tuple[float, float] = (0.0, 0.0)


def draw_stain(jitter: StainJitter, rng: np.random.Generator) -> StainDraw:
    """Draw staining and exposure of one patch."""
    basis = _STAINS.astype(np.float64)
    moved = np.maximum(basis + rng.normal(0, jitter.basis, (3, 3)), 0.01)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    scale = rng.uniform(1 - jitter.concentration, 1 + jitter.concentration, 3)
    offset = rng.uniform(-jitter.offset, jitter.offset, 3)
    # density = basisᵀ c; a scaled and shifted c seen through the moved basis is linear in density
    matrix = moved.T @ np.diag(scale) @ np.linalg.inv(basis.T)
    brightness = rng.uniform(1 - jitter.brightness, 1 + jitter.brightness)
    blur = rng.uniform(0.4, 1.2) if rng.random() < jitter.blur else 0.0
    grain = 255 * jitter.noise * rng.random() if jitter.noise and rng.random() < 0.3 else 0.0
    return StainDraw(
        matrix.astype(np.float32),
        (moved.T @ offset).astype(np.float32),
        float(brightness),
        float(blur),
        float(grain),
        (float(rng.random()), float(rng.random())),
    )


def restain(images: Tensor, draws: Sequence[StainDraw]) -> Tensor:
    """Apply one draw to each of ``(B, 3, H, W)`` in [0, 255], on their device; same shape, range.

    Every sample comes out as if it were alone: equal for any batch, and on any device but for
    rounding.
    """
    device = images.device
    matrix = torch.from_numpy(np.stack([d.matrix for d in draws])).to(device)
    shift = torch.from_numpy(np.stack([d.shift for d in draws])).to(device)
    bright = torch.tensor([d.brightness for d in draws]).to(device)[:, None, None, None]
    density = images.add(1).div_(256).log_().neg_()
    # written out, as a matrix product may be rounded to 10 bits on a GPU
    out = torch.addcmul(shift[:, :, None, None], matrix[:, :, :1, None], density[:, :1])
    for channel in (1, 2):
        out.addcmul_(matrix[:, :, channel, None, None], density[:, channel, None])
    out = out.neg_().exp_().mul_(256).sub_(1).mul_(bright)
    blurred = [i for i, d in enumerate(draws) if d.blur]
    if blurred:
        out[blurred] = _blur(out[blurred], [draws[i].blur for i in blurred])
    for i, d in enumerate(draws):
        if d.grain:
            out[i] += d.grain * _grain(d.place, tuple(out.shape[-2:]), device)
    return out.clamp_(0, 255)


def _blur(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Blur every image of ``(B, 3, H, W)`` with its own σ."""
    count, channels, height, width = images.shape
    axis = torch.arange(-2, 3, dtype=torch.float32)
    kernels = torch.stack([torch.exp(-(axis**2) / (2 * sigma**2)) for sigma in sigmas])
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    kernels = kernels[:, None, None].to(images.device)
    planes = images.reshape(1, count * channels, height, width)
    padded = F.pad(planes, (2, 2, 2, 2), mode="reflect")
    rows = F.conv2d(padded, kernels, groups=count * channels)
    return F.conv2d(rows, kernels.transpose(2, 3), groups=count * channels).view_as(images)


def _grain(place: tuple[float, float], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Part of the plate, ``(3, *shape)``."""
    plate = _plate(2 * max(shape), str(device))
    y, x = (int(p * (plate.shape[-1] - side)) for p, side in zip(place, shape, strict=True))
    return plate[:, y : y + shape[0], x : x + shape[1]]


@lru_cache(maxsize=4)
def _plate(side: int, device: str) -> Tensor:
    """Normal noise ``(3, side, side)``, the same everywhere, so that none has to travel."""
    noise = np.random.default_rng(0).standard_normal((3, side, side), np.float32)
    return torch.from_numpy(noise).to(device)
