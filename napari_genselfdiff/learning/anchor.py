"""An objective that also keeps the weights near where they began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from napari_genselfdiff.learning.data import Batch
    from napari_genselfdiff.learning.objectives import Objective


@dataclass(frozen=True)
class Anchored:
    """``objective`` + ``strength`` · ‖w - start‖² (L2-SP, Li et al. 2018).

    ``start`` are the weights in the order of ``model.parameters()``.
    """

    objective: Objective
    start: Sequence[Tensor]
    strength: float

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = self.objective(model, batch)
        moved = torch.stack(
            [
                (weight - first).square().sum()
                for weight, first in zip(model.parameters(), self.start, strict=True)
            ]
        ).sum()
        return loss + self.strength * moved, {**parts, "moved": moved.detach().expand(len(loss))}
