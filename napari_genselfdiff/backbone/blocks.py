"""The building blocks of the U-Net: residual block, linear and full attention, time embedding."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TimeMode = Literal["add", "film", "none"]
AttentionKind = Literal["none", "linear"]


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the timestep followed by a two-layer perceptron.

    ``(B,)`` timesteps become ``(B, 4 * dim)`` (Vaswani et al. 2017, section 3.5; Ho et al. 2020).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.expand = nn.Linear(dim, 4 * dim)
        self.project = nn.Linear(4 * dim, 4 * dim)

    def forward(self, t: Tensor) -> Tensor:
        half = self.dim // 2
        rates = torch.exp(
            torch.arange(half, device=t.device, dtype=torch.float32)
            * (-math.log(10_000) / (half - 1))
        )
        angles = t.float()[:, None] * rates[None]
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        projected: Tensor = self.project(F.gelu(self.expand(waves.to(self.expand.weight))))
        return projected


class ConvSiLU(nn.Conv2d):
    """A convolution with its SiLU, which a processor may compute in one pass."""

    def forward(self, input: Tensor) -> Tensor:
        return silu(super().forward(input))


def silu(fresh: Tensor) -> Tensor:
    """SiLU of what nobody else reads: in place where no gradient is needed."""
    return F.silu(fresh, inplace=not torch.is_grad_enabled())


def add(fresh: Tensor, other: Tensor) -> Tensor:
    """Sum with what nobody else reads: in place where no gradient is needed."""
    if fresh.dtype == other.dtype and not torch.is_grad_enabled():
        return fresh.add_(other)
    return fresh + other


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with GroupNorm and SiLU, conditioned on the timestep.

    ``add`` adds the projected time after the first activation (the paper's block). ``film``
    scales and shifts the first normalisation instead (Perez et al. 2018), so that a fixed
    timestep is an exact affine map of the normalised features.
    """

    def __init__(
        self, dim_in: int, dim_out: int, *, time_dim: int, time: TimeMode, groups: int = 8
    ) -> None:
        super().__init__()
        self.time_mode = time
        self.conv1 = nn.Conv2d(dim_in, dim_out, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, dim_out)
        self.conv2 = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, dim_out)
        self.shortcut = nn.Conv2d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()
        if time != "none":
            self.time = nn.Linear(time_dim, dim_out * (2 if time == "film" else 1))

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.norm1(self.conv1(x))
        if self.time_mode == "film" and time is not None:
            scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift.to(h.dtype), h, 1 + scale.to(h.dtype))
        h = silu(h)
        if self.time_mode == "add" and time is not None:
            h = h + self.time(F.silu(time))[:, :, None, None]
        h = silu(self.norm2(self.conv2(h)))
        return add(h, self.shortcut(x))


class LinearAttention(nn.Module):
    """Attention whose cost grows linearly with the number of pixels, with its residual.

    Softmax over channels for queries and over positions for keys (Shen et al. 2021).
    """

    def __init__(self, dim: int, *, heads: int = 4, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm = nn.GroupNorm(1, dim)
        self.qkv = nn.Conv2d(dim, 3 * heads * head_dim, 1, bias=False)
        self.out = nn.Conv2d(heads * head_dim, dim, 1)
        self.out_norm = nn.GroupNorm(1, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x))
        # Softmax copies what does not lie in memory as it goes through it: twice the same sums.
        in_order = x.is_contiguous(memory_format=torch.channels_last)
        mixed = self._by_position(qkv) if in_order else self._by_channel(qkv)
        return add(self.out_norm(self.out(mixed)), x)

    def _by_position(self, qkv: Tensor) -> Tensor:
        q, k, v = _split_heads(qkv, self.heads)
        context = (k.softmax(dim=-2).transpose(-1, -2) @ v) * self.head_dim**-0.5
        return _join_heads(q.softmax(dim=-1) @ context, qkv)

    def _by_channel(self, qkv: Tensor) -> Tensor:
        b, _, height, width = qkv.shape
        q, k, v = qkv.reshape(b, 3, self.heads, self.head_dim, height * width).unbind(1)
        q = q.softmax(dim=-2) * self.head_dim**-0.5
        context = v @ k.softmax(dim=-1).transpose(-1, -2)
        mixed: Tensor = (context @ q).reshape(b, -1, height, width)
        return mixed


class Attention(nn.Module):
    """Full multi-head self-attention over all positions, with its residual."""

    def __init__(self, dim: int, *, heads: int = 4, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm = nn.GroupNorm(1, dim)
        self.qkv = nn.Conv2d(dim, 3 * heads * head_dim, 1, bias=False)
        self.out = nn.Conv2d(heads * head_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _split_heads(self.qkv(self.norm(x)), self.heads)
        mixed = _join_heads(F.scaled_dot_product_attention(q, k, v), x)
        return add(self.out(mixed), x)


def _split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Queries, keys and values ``(B, heads, H * W, D)`` of ``(B, 3 * heads * D, H, W)``.

    Channels-last input is looked at, not copied.
    """
    b, channels, height, width = qkv.shape
    positions = qkv.permute(0, 2, 3, 1).reshape(
        b, height * width, 3, heads, channels // (3 * heads)
    )
    return positions.permute(2, 0, 3, 1, 4).unbind(0)


def _join_heads(mixed: Tensor, like: Tensor) -> Tensor:
    """``(B, heads, H * W, D)`` as ``(B, heads * D, H, W)``, sides and order of memory as given."""
    b, _, height, width = like.shape
    joined = mixed.transpose(1, 2).reshape(b, height, width, -1).permute(0, 3, 1, 2)
    in_order = like.is_contiguous(memory_format=torch.channels_last)
    return joined if in_order else joined.contiguous()
