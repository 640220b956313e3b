"""A checked place as two models see it, and the first look that shows it; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.learning.corrections import CorrectionTile


@dataclass(frozen=True)
class BeforeAfter:
    """A held-out place as the old and the new model see it; class values, all ``(h, w)``."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    known: NDArray[np.bool_]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


@dataclass(frozen=True)
class RefinePreview:
    """What the head alone learned; Dice 0-1 on corrections kept aside, ``seconds`` from the click.

    ``picture`` is None unless it is ``better`` than the model in use.
    """

    better: bool
    old: float
    new: float
    picture: BeforeAfter | None
    seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """What it found, in words."""
        if not self.better:
            return "Still learning: not better than before yet."
        return (
            f"A first look after {self.seconds:.1f} s: on corrections kept aside, Dice "
            f"{self.old:.2f} → {self.new:.2f}. Not in use; it goes on learning."
        )


def most_changed(
    before: Sequence[NDArray[np.int64]],
    after: Sequence[NDArray[np.int64]],
    tiles: Sequence[CorrectionTile],
    held: Sequence[NDArray[np.bool_]],
    values: NDArray[np.uint8],
) -> BeforeAfter:
    """The tile with the most held-out pixels on which two models disagree.

    ``before`` and ``after`` are output channels per tile, ``values`` the class value of each.
    """
    changed = [int(((a != b) & m).sum()) for a, b, m in zip(before, after, held, strict=True)]
    best = int(np.argmax(changed))
    tile = tiles[best]
    return BeforeAfter(
        tile.image, tile.classes, held[best], values[before[best]], values[after[best]]
    )
