"""One time-conditioned U-Net with presets: ``paper``, ``paper_skip`` and ``fast``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_genselfdiff.backbone.blocks import (
    Attention,
    AttentionKind,
    LinearAttention,
    ResidualBlock,
    TimeEmbedding,
    TimeMode,
)
from napari_genselfdiff.errors import ConfigError

HeadKind = Literal["residual", "shuffle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Shape of the network.

    ``patch`` is the pixel-unshuffle of the stem; ``dims`` the channels of the levels, the first
    one at ``1/patch`` of the input's resolution and each following one at half of that before.
    ``join_first_skip`` lets the decoder read the first encoder level, which the paper's network
    stores but never uses.
    """

    preset: str = "paper"
    dims: tuple[int, ...] = (64, 128, 256, 512)
    init_dim: int = 42
    patch: int = 1
    stem_kernel: int = 7
    attention: tuple[AttentionKind, ...] = ("linear",) * 4
    time: TimeMode = "add"
    join_first_skip: bool = False
    head: HeadKind = "residual"
    head_dim: int = 8

    def __post_init__(self) -> None:
        if len(self.dims) < 2 or len(self.attention) != len(self.dims):
            raise ConfigError(
                f"a network needs 2 or more levels and one attention kind for each, got "
                f"{len(self.dims)} levels and {len(self.attention)} kinds"
            )
        if any(dim < 8 or dim % 8 for dim in self.dims):
            raise ConfigError(f"channels must be multiples of 8 (group norm), got {self.dims}")
        if self.patch not in (1, 2, 4):
            raise ConfigError(f"the stem's patch must be 1, 2 or 4, got {self.patch}")
        if self.head not in get_args(HeadKind):
            raise ConfigError(f"the head must be one of {get_args(HeadKind)}, got {self.head!r}")

    @property
    def multiple(self) -> int:
        """Input height and width must be multiples of this."""
        return self.patch * int(2 ** (len(self.dims) - 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model card."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> UNetConfig:
        """Read what :meth:`to_dict` wrote; ConfigError for unknown or missing fields."""
        try:
            fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**fields)
        except TypeError as err:
            raise ConfigError(f"the network description does not fit this version: {err}") from err


PRESETS: dict[str, UNetConfig] = {
    "paper": UNetConfig(),
    # The same with its one structural defect mended: the decoder reads the full resolution too.
    "paper_skip": UNetConfig(preset="paper_skip", join_first_skip=True),
    "fast": UNetConfig(
        preset="fast",
        dims=(32, 64, 128, 256),
        init_dim=32,
        patch=2,
        stem_kernel=3,
        attention=("none", "none", "linear", "linear"),
        time="film",
        join_first_skip=True,
        head="shuffle",
    ),
}


class Level(nn.Module):
    """Two residual blocks and, where configured, linear attention."""

    def __init__(self, dim_in: int, dim_out: int, kind: AttentionKind, config: UNetConfig) -> None:
        super().__init__()
        time_dim = 4 * config.dims[0]
        self.block1 = ResidualBlock(dim_in, dim_out, time_dim=time_dim, time=config.time)
        self.block2 = ResidualBlock(dim_out, dim_out, time_dim=time_dim, time=config.time)
        self.attention = LinearAttention(dim_out) if kind == "linear" else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        mixed: Tensor = self.attention(self.block2(self.block1(x, time), time))
        return mixed


class UNet(nn.Module):
    """Image and timestep in, features of the last decoder level out.

    Input ``(B, 3, H, W)`` in [-1, 1] with H, W multiples of ``config.multiple``, timesteps
    ``(B,)``; output ``(B, dims[0], H / patch, W / patch)``.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.dims
        self.time_embedding = TimeEmbedding(dims[0])
        self.stem = nn.Conv2d(
            3 * config.patch**2,
            config.init_dim,
            config.stem_kernel,
            padding=config.stem_kernel // 2,
        )
        ins = (config.init_dim, *dims[:-1])
        self.encoder = nn.ModuleList(
            Level(i, o, kind, config)
            for i, o, kind in zip(ins, dims, config.attention, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(d, d, 4, 2, 1) for d in dims[:-1])
        time_dim = 4 * dims[0]
        self.middle1 = ResidualBlock(dims[-1], dims[-1], time_dim=time_dim, time=config.time)
        self.middle_attention = Attention(dims[-1])
        self.middle2 = ResidualBlock(dims[-1], dims[-1], time_dim=time_dim, time=config.time)
        deep_to_shallow = list(range(len(dims) - 1, 0, -1))
        self.decoder = nn.ModuleList(
            Level(2 * dims[i], dims[i - 1], config.attention[i], config) for i in deep_to_shallow
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(dims[i - 1], dims[i - 1], 4, 2, 1) for i in deep_to_shallow
        )
        self.join = (
            ResidualBlock(2 * dims[0], dims[0], time_dim=time_dim, time=config.time)
            if config.join_first_skip
            else None
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time_embedding(t)
        return self.decode(*self.encode(x, time), time)

    def encode(self, x: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Bottleneck features and the skips of every level, shallow first."""
        if x.shape[-2] % self.config.multiple or x.shape[-1] % self.config.multiple:
            raise ConfigError(
                f"the network needs sides that are multiples of {self.config.multiple}, "
                f"got {tuple(x.shape[-2:])}"
            )
        h = self.stem(F.pixel_unshuffle(x, self.config.patch) if self.config.patch > 1 else x)
        skips: list[Tensor] = []
        for i, level in enumerate(self.encoder):
            h = level(h, time)
            skips.append(h)
            if i < len(self.down):
                h = self.down[i](h)
        return self.middle2(self.middle_attention(self.middle1(h, time)), time), skips

    def decode(self, h: Tensor, skips: list[Tensor], time: Tensor) -> Tensor:
        """Features of the last decoder level from what :meth:`encode` gave."""
        for i, level in enumerate(self.decoder):
            h = level(torch.cat([h, skips[-1 - i]], dim=1), time)
            h = self.up[i](h)
        if self.join is not None:
            h = self.join(torch.cat([h, skips[0]], dim=1), time)
        return h
