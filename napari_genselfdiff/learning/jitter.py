"""How far slides differ in colour, for augmentation; without torch, which settings do not need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StainJitter:
    """How far staining and camera may differ from slide to slide.

    ``concentration`` scales each stain's optical density by 1 ± this, ``basis`` moves the stain
    colours, ``brightness`` scales the image, ``blur`` and ``noise`` are chances and a σ.
    """

    concentration: float = 0.35
    offset: float = 0.05
    basis: float = 0.08
    brightness: float = 0.1
    blur: float = 0.2
    noise: float = 0.03


DEFAULT_JITTER = StainJitter()
