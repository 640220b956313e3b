"""Colours of a scanner turned into sRGB with the profile (ICC) its slide holds."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.levels import WHITE, Level, Tile, TileDamagedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_PROFILE = "the file holds no colour profile, so its colours are taken for sRGB"
MAX_PROFILE_BYTES = 16 * 2**20
_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError, MemoryError)


class ToSRGB:
    """Turns 8-bit colours into sRGB; safe between threads.

    The rendering intent is the one the profile names, as scanner makers ask for.

    Parameters
    ----------
    profile
        An ICC profile of RGB colours.
    name
        Of the slide, for the message.

    Raises
    ------
    SlideError
        If it is damaged, or not for RGB.
    """

    def __init__(self, profile: bytes, name: str) -> None:
        hint = "read the slide with its colours as stored"
        if len(profile) > MAX_PROFILE_BYTES:
            raise SlideError(f"{name}: a colour profile of {len(profile)} bytes is none; {hint}")
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            self._transform = ImageCms.buildTransform(
                source,
                ImageCms.createProfile("sRGB"),
                "RGB",
                "RGB",
                ImageCms.Intent(ImageCms.getDefaultIntent(source)),
            )
        except _ERRORS as error:
            text = " ".join(str(error).split())
            raise SlideError(
                f"{name}: its colour profile cannot be used ({text}); {hint}"
            ) from error

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give ``(H, W, 3)`` uint8 in sRGB."""
        picture = Image.fromarray(np.ascontiguousarray(rgb))
        return np.array(self._transform.apply(picture))


class ColorLevel(Level):
    """Another level in other colours; white outside stays white."""

    def __init__(self, level: Level, to_srgb: ToSRGB) -> None:
        super().__init__(level.shape, level.tile_shape, level.cache)
        self._level, self._to_srgb = level, to_srgb
        self.nbytes = level.nbytes

    def decode(self, row: int, column: int) -> Tile:
        """Decode the other level's tile and turn its colours; a damaged one stays white."""
        try:
            stored = self._level.decode(row, column)
        except TileDamagedError:
            self.cache.report_damage((self._level, row, column))  # once, in whatever colours
            return np.full((*self.tile_shape, 3), WHITE, np.uint8)
        out = self._to_srgb(stored)
        height, width = self.tile_shape
        out[max(self.shape[0] - row * height, 0) :] = WHITE
        out[:, max(self.shape[1] - column * width, 0) :] = WHITE
        return out
