"""How several processes share one run: who learns from which samples, how gradients add up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Shares:
    """Process ``rank`` of ``world``; each takes a contiguous part of every batch.

    Only the first writes files. Several need a process group that is already open.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def part(self, indices: Sequence[int]) -> Sequence[int]:
        """Own part of a batch; empty where there are fewer samples than processes."""
        count = len(indices)
        return indices[count * self.rank // self.world : count * (self.rank + 1) // self.world]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over the processes, in place."""
        if self.world == 1:
            return
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            kinds[tensor.device, tensor.dtype].append(tensor)
        for group in kinds.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            torch.distributed.all_reduce(flat)
            start = 0
            for tensor in group:
                tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
                start += tensor.numel()

    def agree(
        self, stop: bool, progress: float, device: torch.device | str = "cpu"
    ) -> tuple[bool, float]:
        """Stop where any process wants to; time goes by the first one's clock."""
        if self.world == 1:
            return stop, progress
        said = torch.tensor(
            [float(stop), progress if self.is_first else 0.0], dtype=torch.float64, device=device
        )
        torch.distributed.all_reduce(said)
        stops, shared = said.tolist()
        return stops > 0, shared


ALONE = Shares()
