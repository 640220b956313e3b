"""How far to go from the base to what was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import torch

from napari_genselfdiff.learning.gate import change_interval
from napari_genselfdiff.learning.holdout import by_hand
from napari_genselfdiff.learning.scoring import on_known, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.gate import Counts


@dataclass(frozen=True)
class Limit:
    """Tiles on which new weights may not lose more than ``allowed`` Dice, in all likelihood.

    ``before`` are the counts of the model they are compared with, as :func:`on_known` gives them.
    """

    tiles: Sequence[CorrectionTile]
    before: Counts
    allowed: float
    seed: int = 0

    def holds(self, learnt: Segmenter, index: NDArray[np.int64]) -> bool:
        """Whether the lower end of the 95 % interval of the change stays above -``allowed``."""
        if not self.tiles:
            return True
        after = on_known(learnt, self.tiles, index)
        return change_interval(self.before, after, self.seed)[0] > -self.allowed


@dataclass(frozen=True)
class Asides:
    """Tiles, and the known pixels of them that nobody trained on."""

    tiles: Sequence[CorrectionTile]
    tuning: Sequence[NDArray[np.bool_]]


@torch.no_grad()
def blend(
    learnt: Segmenter,
    start: Segmenter,
    limits: Sequence[Limit],
    asides: Asides,
    index: NDArray[np.int64],
    shares: Sequence[float],
) -> float:
    """Go back part of the way: every weight becomes start + share · (learnt - start), in place.

    Most of what is learnt stays and most of what would be forgotten comes back (Wortsman et al.
    2022, "Robust fine-tuning of zero-shot models"). Takes, and returns, the share that is best on
    the corrections kept for tuning among those within all limits. Where none is, the limits at
    the end of the list are given up, one after the other; the smallest share if none is within
    the first.
    """
    goal = [weight.clone() for weight in learnt.parameters()]
    first = list(start.parameters())
    tuned = by_hand(asides.tiles, asides.tuning)

    def go_to(share: float) -> None:
        for weight, a, b in zip(learnt.parameters(), first, goal, strict=True):
            weight.copy_(torch.lerp(a, b, share))

    gains: dict[float, float] = {}
    for share in shares:
        go_to(share)
        found = score(learnt, asides.tiles, tuned, index, background=True)
        gains[share] = found.mean_dice()
    chosen, most = min(shares), 0
    # The best first, the farthest among equals; further ones are tried until one is within all.
    for share in sorted(gains, key=lambda share: (-gains[share], -share)):
        go_to(share)
        within = len(list(takewhile(lambda limit: limit.holds(learnt, index), limits)))
        if within > most or not limits:
            chosen, most = share, within
        if within == len(limits):
            break
    go_to(chosen)
    return chosen
