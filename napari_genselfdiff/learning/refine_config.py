"""How a refine learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_genselfdiff.learning.jitter import StainJitter

SMALL_JITTER = StainJitter(concentration=0.12, offset=0.02, basis=0.02, brightness=0.05)
Practice = Literal["stored", "generated", "none"]


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """How a refine learns; the defaults come from a few trials on training-list images.

    ``practice`` says on what it goes on practising so as not to forget: tiles stored with the base,
    tissue drawn by the diffusion backbone, or nothing; ``replay_share`` of the patches come from
    there. ``anchor`` is the strength of a pull back to the base's weights, 0 for none.

    ``stain`` is how far patches differ in colour, ``zoom`` up to how much in size, either way.
    With a ``layer_decay`` below 1, layers far from the output learn more slowly.
    """

    budget_s: float = 30.0
    patch: int = 192
    batch: int = 4
    lr: float = 1e-4
    most_steps: int = 240
    fewest_steps: int = 12
    practice: Practice = "stored"
    replay_share: float = 0.5
    anchor: float = 0.0
    stain: StainJitter = SMALL_JITTER
    zoom: float = 1.15
    layer_decay: float = 1.0
    blends: tuple[float, ...] = (1.0, 0.7, 0.5, 0.3, 0.15)
    seed: int = 0
