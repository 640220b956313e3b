"""How far to go from the base to what was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_genselfdiff.learning.gate import ALLOWED_LOSS, change_interval
from napari_genselfdiff.learning.holdout import by_hand
from napari_genselfdiff.learning.scoring import KEEP_BLOCK, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.learning.corrections import CorrectionTile


@dataclass(frozen=True)
class Asides:
    """Tiles, and the known pixels of them that nobody trained on."""

    tiles: Sequence[CorrectionTile]
    tuning: Sequence[NDArray[np.bool_]]


@torch.no_grad()
def blend(
    learnt: Segmenter,
    start: Segmenter,
    reserve: Sequence[CorrectionTile],
    asides: Asides,
    index: NDArray[np.int64],
    shares: Sequence[float],
) -> float:
    """Go back part of the way: every weight becomes start + share · (learnt - start), in place.

    Most of what is learnt stays and most of what would be forgotten comes back (Wortsman et al.
    2022, "Robust fine-tuning of zero-shot models"). Takes, and returns, the share that is best on
    the corrections kept for tuning among those with which the ``reserve`` tiles, on which nobody
    trained, pass the gate's test with half of its margin; the smallest one if none does.
    """
    goal = [weight.clone() for weight in learnt.parameters()]
    first = list(start.parameters())
    known = [tile.known for tile in reserve]
    tuned = by_hand(asides.tiles, asides.tuning)
    before = score(start, reserve, known, index, block=KEEP_BLOCK)

    def go_to(share: float) -> None:
        for weight, a, b in zip(learnt.parameters(), first, goal, strict=True):
            weight.copy_(torch.lerp(a, b, share))

    gains: dict[float, float] = {}
    for share in shares:
        go_to(share)
        found = score(learnt, asides.tiles, tuned, index, background=True)
        gains[share] = found.mean_dice()
    # The best first, the farthest among equals; the reserve is asked until one passes.
    for share in sorted(gains, key=lambda share: (-gains[share], -share)):
        go_to(share)
        after = score(learnt, reserve, known, index, block=KEEP_BLOCK)
        if not reserve or change_interval(before, after, 0)[0] > -ALLOWED_LOSS / 2:
            return share
    chosen = min(shares)
    go_to(chosen)
    return chosen
