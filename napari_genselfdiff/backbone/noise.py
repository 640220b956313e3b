"""How noise grows over the timesteps: schedules, signal-to-noise ratio, loss weightings.

Everything is kept in float64 and cast where it is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

Schedule = Literal["quadratic", "linear", "cosine", "sigmoid"]
Weighting = Literal["uniform", "p2", "min_snr"]
Prediction = Literal["epsilon", "sample", "v"]


def quadratic_betas(timesteps: int, *, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """β growing as the square of a straight line, shape ``(T,)``, float64.

    The schedule of GenSelfDiff-HIS (its released code, T = 1000).
    """
    return torch.linspace(first**0.5, last**0.5, timesteps, dtype=torch.float64) ** 2


def linear_betas(timesteps: int, *, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """β growing in a straight line, shape ``(T,)``, float64 (Ho et al. 2020, section 4)."""
    return torch.linspace(first, last, timesteps, dtype=torch.float64)


def cosine_betas(timesteps: int, *, offset: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """β of the cosine schedule, shape ``(T,)``, float64.

    Nichol & Dhariwal (2021), eq. 17. β is capped so that the last step keeps some signal.
    """
    t = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)


def sigmoid_betas(timesteps: int, *, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """β following a sigmoid between -6 and 6, shape ``(T,)``, float64."""
    x = torch.linspace(-6, 6, timesteps, dtype=torch.float64)
    return torch.sigmoid(x) * (last - first) + first


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig:
    """A noise schedule by name and length."""

    timesteps: int = 1000
    schedule: Schedule = "quadratic"

    def __post_init__(self) -> None:
        if self.timesteps < 2:
            raise ConfigError(f"noise timesteps must be 2 or more, got {self.timesteps}")
        if self.schedule not in get_args(Schedule):
            raise ConfigError(
                f"the noise schedule must be one of {', '.join(get_args(Schedule))}, "
                f"got {self.schedule!r}"
            )


class NoiseSchedule:
    """The forward process q(x_t | x_0) of a fixed sequence of β."""

    def __init__(self, config: NoiseConfig) -> None:
        make: dict[Schedule, Callable[[int], Tensor]] = {
            "quadratic": quadratic_betas,
            "linear": linear_betas,
            "cosine": cosine_betas,
            "sigmoid": sigmoid_betas,
        }
        self.config = config
        self.betas = make[config.schedule](config.timesteps)
        self.alpha_bar = torch.cumprod(1 - self.betas, dim=0)
        self._tables: dict[tuple[torch.device, str], Tensor] = {}

    @property
    def timesteps(self) -> int:
        """Number of timesteps T."""
        return self.config.timesteps

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio ᾱ/(1 - ᾱ) of every timestep, shape ``(T,)``."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def posterior_variance(self) -> Tensor:
        """Variance of q(x_{t-1} | x_t, x_0), shape ``(T,)`` (Ho et al. 2020, eq. 7)."""
        before = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])
        return self.betas * (1 - before) / (1 - self.alpha_bar)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Sample x_t in closed form (Ho et al. 2020, eq. 4).

        ``x0`` and ``noise`` are ``(B, C, H, W)``; ``t`` is ``(B,)`` int64 in ``[0, T)``.
        """
        signal, sigma = self._scales(t, x0)
        return signal * x0 + sigma * noise

    def to_x0(self, x_t: Tensor, output: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """Clean image implied by a network output of the given prediction type."""
        signal, sigma = self._scales(t, x_t)
        if prediction == "epsilon":
            return (x_t - sigma * output) / signal
        if prediction == "v":
            return signal * x_t - sigma * output
        return output

    def target(self, x0: Tensor, noise: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """What the network should answer: noise, clean image, or v.

        v = √ᾱ ε - √(1 - ᾱ) x0 (Salimans & Ho 2022, section 4).
        """
        if prediction == "epsilon":
            return noise
        if prediction == "sample":
            return x0
        signal, sigma = self._scales(t, x0)
        return signal * noise - sigma * x0

    def weights(self, weighting: Weighting, prediction: Prediction = "epsilon") -> Tensor:
        """Loss weight of every timestep, shape ``(T,)``, float64.

        ``uniform``: the plain squared error of whatever the network predicts.
        ``p2``: (1 + SNR)^-1 on the noise, k = γ = 1 (Choi et al. 2022, eq. 8), which is 1 - ᾱ.
        ``min_snr``: min(SNR, 5) on the clean image (Hang et al. 2023, Min-SNR-γ).
        The latter two are turned into the weight that gives the same loss for the prediction
        type at hand: a squared error e in x0 is SNR·e in ε and (SNR + 1)·e in v.
        """
        snr = self.snr
        if weighting == "uniform":
            return torch.ones_like(snr)
        on_x0 = snr / (1 + snr) if weighting == "p2" else snr.clamp(max=5.0)
        if prediction == "sample":
            return on_x0
        return on_x0 / (snr if prediction == "epsilon" else snr + 1)

    def weight_at(self, t: Tensor, weighting: Weighting, prediction: Prediction) -> Tensor:
        """Loss weights of timesteps ``t`` (B,) on their device, ``(B,)`` float64."""
        name = f"{weighting} {prediction}"
        return self._on(t.device, name, lambda: self.weights(weighting, prediction))[t]

    def _on(self, device: torch.device, name: str, make: Callable[[], Tensor]) -> Tensor:
        """A table over the timesteps, copied to a device once: a copy a step would stall it."""
        if (device, name) not in self._tables:
            self._tables[device, name] = make().to(device)
        return self._tables[device, name]

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self._on(t.device, "alpha_bar", lambda: self.alpha_bar)[t].view(-1, 1, 1, 1)
        return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)
