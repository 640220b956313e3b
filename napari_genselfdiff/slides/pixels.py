"""From whatever samples a file holds to 8-bit RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ToRGB:
    """How the samples of one file become 8-bit RGB.

    Attributes
    ----------
    white
        Sample value shown as 255; 255 leaves 8-bit samples alone.
    inverted
        Zero is white.
    ycbcr
        Samples are luminance and two colour differences.
    palette
        ``(n, 3)`` uint8, for samples that are indices.
    alpha
        The fourth (or second) sample is opacity.
    """

    white: float = 255.0
    inverted: bool = False
    ycbcr: bool = False
    palette: NDArray[np.uint8] | None = None
    alpha: bool = False

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert ``(H, W, S)`` of any real type to ``(H, W, 3)`` uint8."""
        if self.palette is not None:
            index = np.minimum(samples[..., 0], len(self.palette) - 1)
            rgb: NDArray[np.uint8] = self.palette[index]
            return rgb
        eight = self._to_8_bit(samples)
        count = eight.shape[2]
        if count >= 3:
            rgb = eight[..., :3]
        else:
            rgb = np.broadcast_to(eight[..., :1], (*eight.shape[:2], 3))
        if self.ycbcr:
            rgb = ycbcr_to_rgb(rgb)
        if self.alpha and count in (2, 4):
            rgb = over_white(rgb, eight[..., -1:])
        return rgb

    def _to_8_bit(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        if samples.dtype == np.uint8 and self.white == 255.0:
            eight = samples
        elif samples.dtype == np.bool_:
            eight = samples.astype(np.uint8) * np.uint8(255)
        else:
            scaled = np.nan_to_num(samples.astype(np.float32), nan=0.0) * (255.0 / self.white)
            eight = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
        return np.uint8(255) - eight if self.inverted else eight


def white_level(samples: NDArray[Any]) -> float:
    """Sample value to show as 255, from a look at some samples of the file.

    Cameras have 8, 10, 12 ... bits: the smallest power of two above every sample, less one.
    Floating samples not above 1 are taken as fractions.
    """
    if samples.dtype in (np.uint8, np.bool_):
        return 255.0
    finite = samples[np.isfinite(samples)]
    top = float(finite.max()) if finite.size else 0.0
    if samples.dtype.kind == "f" and top <= 1.0:
        return 1.0
    return float(2 ** max(int(top).bit_length(), 8) - 1)


def ycbcr_to_rgb(ycbcr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert full-range BT.601, as JPEG uses it."""
    luma = ycbcr[..., 0].astype(np.float32)
    blue, red = (ycbcr[..., i].astype(np.float32) - 128.0 for i in (1, 2))
    rgb = np.stack(
        [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1
    )
    return np.clip(rgb + 0.5, 0, 255).astype(np.uint8)


def over_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay partly transparent pixels (not premultiplied) over white; alpha is ``(H, W, 1)``."""
    opacity = alpha.astype(np.uint32)
    mixed = rgb.astype(np.uint32) * opacity + 255 * (255 - opacity)
    return ((mixed + 127) // 255).astype(np.uint8)
