"""How a refine learns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """How a refine learns; the defaults come from a few trials on training-list images."""

    budget_s: float = 30.0
    patch: int = 192
    batch: int = 4
    lr: float = 1e-4
    most_steps: int = 240
    fewest_steps: int = 12
    replay_share: float = 0.5
    blends: tuple[float, ...] = (1.0, 0.7, 0.5, 0.3, 0.15)
    seed: int = 0
