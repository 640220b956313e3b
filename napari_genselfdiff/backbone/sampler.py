"""Reverse steps: from noise, or a noised image, back to an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from napari_genselfdiff.backbone.noise import NoiseSchedule, Prediction

Network = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def ddim(
    network: Network,
    schedule: NoiseSchedule,
    x_t: Tensor,
    *,
    start: int,
    steps: int,
    prediction: Prediction = "epsilon",
) -> Tensor:
    """Deterministic reverse process from timestep ``start`` to a clean image in [-1, 1].

    DDIM with η = 0 (Song et al. 2021, eq. 12) over ``steps`` evenly spaced timesteps. ``x_t`` is
    ``(B, 3, H, W)`` at the noise level of ``start``.
    """
    times = torch.linspace(start, 0, min(steps, start + 1)).round().long().tolist()
    x = x_t
    for now, after in zip(times, [*times[1:], -1], strict=True):
        t = torch.full((x.shape[0],), now, device=x.device, dtype=torch.long)
        x0 = schedule.to_x0(x, network(x, t), t, prediction).clamp(-1, 1)
        if after < 0:
            return x0
        a_now, a_after = schedule.alpha_bar[now].item(), schedule.alpha_bar[after].item()
        noise = (x - a_now**0.5 * x0) / (1 - a_now) ** 0.5
        x = a_after**0.5 * x0 + (1 - a_after) ** 0.5 * noise
    return x


@torch.no_grad()
def ddpm_step(
    network: Network,
    schedule: NoiseSchedule,
    x_t: Tensor,
    t: int,
    noise: Tensor,
    *,
    prediction: Prediction = "epsilon",
) -> Tensor:
    """One stochastic reverse step x_t → x_{t-1} (Ho et al. 2020, eq. 6-7; for ε, algorithm 2)."""
    times = torch.full((x_t.shape[0],), t, device=x_t.device, dtype=torch.long)
    x0 = schedule.to_x0(x_t, network(x_t, times), times, prediction)
    if t == 0:
        return x0
    beta = schedule.betas[t].item()
    now, before = schedule.alpha_bar[t].item(), schedule.alpha_bar[t - 1].item()
    of_x0, of_x_t = before**0.5 * beta, (1 - beta) ** 0.5 * (1 - before)
    sigma = float(schedule.posterior_variance[t].sqrt())
    mean: Tensor = (of_x0 * x0 + of_x_t * x_t) / (1 - now)
    return mean + sigma * noise
