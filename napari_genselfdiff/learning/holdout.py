"""Which corrected pixels are kept aside to judge a refined model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.learning.corrections import CorrectionTile

BLOCK = 64
_FEW = 16  # corrected pixels that make a block one with corrections


def block_ids(shape: tuple[int, int], block: int = BLOCK) -> NDArray[np.int64]:
    """Number of the block each pixel lies in, ``(H, W)``."""
    rows, columns = np.arange(shape[0]) // block, np.arange(shape[1]) // block
    across = -(-shape[1] // block)
    return np.asarray(rows[:, None] * across + columns[None, :], np.int64)


def hold_out(
    tiles: Sequence[CorrectionTile],
    *,
    share: float = 0.25,
    seed: int = 0,
    apart: Sequence[int] = (),
) -> list[NDArray[np.bool_]]:
    """Known pixels of every tile that are not trained on, ``(h, w)`` bool each.

    Blocks of 64 pixels with known pixels are drawn over all tiles together, at least one as soon
    as there are two; blocks with corrections and blocks without are drawn apart, so that both
    kinds are judged; so are blocks with classes of the values ``apart``, of which there may be few.
    An object belongs to the side that most of it lies on, so none is split.
    """
    rng = np.random.default_rng([seed, 7])
    blocks = [block_ids(tile.classes.shape) for tile in tiles]
    drawn: list[set[int]] = [set() for _ in tiles]
    groups: list[list[tuple[int, int]]] = []
    masks = [[tile.known & (tile.classes == value) for tile in tiles] for value in apart]
    for mask in (*masks, [tile.human for tile in tiles]):
        before = {place for group in groups for place in group}
        groups.append([c for c in _candidates(mask, blocks, _FEW) if c not in before])
    before = {place for group in groups for place in group}
    agreed = _candidates([tile.known for tile in tiles], blocks, BLOCK * BLOCK // 10)
    for group, least in (*((group, 1) for group in groups), (sorted(set(agreed) - before), 0)):
        count = round(share * len(group))
        if len(group) >= 2:
            count = max(count, least)
        for pick in rng.permutation(len(group))[:count]:
            number, block = group[int(pick)]
            drawn[number].add(block)
    return [
        _with_whole_objects(tile, np.isin(ids, sorted(chosen))) & tile.known
        for tile, ids, chosen in zip(tiles, blocks, drawn, strict=True)
    ]


def by_hand(
    tiles: Sequence[CorrectionTile], masks: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.bool_]]:
    """Of these pixels those that a person changed; all of them if there are none.

    What was merely accepted is the model's own answer, which no other model can beat there.
    """
    changed = [tile.human & mask for tile, mask in zip(tiles, masks, strict=True)]
    return changed if any(mask.any() for mask in changed) else list(masks)


def _candidates(
    masks: Sequence[NDArray[np.bool_]], blocks: Sequence[NDArray[np.int64]], least: int
) -> list[tuple[int, int]]:
    """(tile number, block number) of blocks with enough pixels of the masks."""
    found = []
    for number, (mask, ids) in enumerate(zip(masks, blocks, strict=True)):
        counts = np.bincount(ids[mask], minlength=1)
        found += [(number, int(block)) for block in np.flatnonzero(counts >= least)]
    return found


def _with_whole_objects(tile: CorrectionTile, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if tile.objects is None or not held.any():
        return held
    numbered = np.unique(tile.objects, return_inverse=True)[1].reshape(held.shape)
    size = np.bincount(numbered.ravel())
    inside = np.bincount(numbered.ravel(), held.ravel())
    mostly = inside * 2 > size
    return np.where(tile.objects > 0, mostly[numbered], held)
