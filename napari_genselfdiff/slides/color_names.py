"""What the colours of a slide can be, by name."""

from __future__ import annotations

from typing import Literal, get_args

Colors = Literal["stored", "srgb"]
"""As the file stores them, or turned into sRGB by its profile."""
COLORS: tuple[Colors, ...] = get_args(Colors)
