"""How places are drawn where the model is not sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNSURE_COLOR: Final = "#56B4E9"
HATCH: Final = (12, 2)
"""Distance and width of the lines, in pixels of the task's grid."""


def hatched(mask: NDArray[np.bool_], y: int, x: int) -> NDArray[np.uint8]:
    """Diagonal lines where the mask is True; they do not move when the rectangle at (y, x) does."""
    distance, width = HATCH
    rows = (np.arange(mask.shape[0]) + y) % distance
    columns = (np.arange(mask.shape[1]) + x) % distance
    lines = (rows[:, None] + columns) % distance < width
    return (mask & lines).astype(np.uint8)
