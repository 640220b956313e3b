"""Exponential moving average of weights: the copy that is used, not the one that is trained."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Moving average of a model's weights.

    The decay warms up as (1 + n) / (10 + n), so that short runs are not dominated by the random
    start; ``decay`` 0.999 then averages over about the last 1,000 steps, 0 follows at once.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        averages, values = zip(*pairs, strict=True)
        torch._foreach_lerp_(list(averages), list(values), 1 - decay)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Average and number of steps."""
        return {"steps": self.steps, **self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Continue from a saved average."""
        weights = dict(state)
        self.steps = int(weights.pop("steps"))
        self.model.load_state_dict(weights)
