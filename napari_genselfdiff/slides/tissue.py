"""Where the tissue is, on a small picture of a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMOOTH = 1.5  # pixels; takes JPEG noise out before the threshold
_FAINTEST = 0.03  # optical density; below this it is glass whatever Otsu says
_CLEAR = 0.04  # optical density; above this it is tissue whatever Otsu says
_GLASS = 0.08  # optical density; glass and lamp absorb no more than this
_GREY = 0.02  # colour, as a difference of optical densities, below which a picture is grey
_SMALLEST_SHARE = 1 / 2000  # of the picture; smaller specks are dust, smaller holes are filled


def tissue_mask(
    rgb: NDArray[np.uint8], threshold: float | None = None, smallest: int | None = None
) -> NDArray[np.bool_]:
    """Tell tissue from glass.

    Stain is colour: the difference between the strongest and the weakest absorbed of red, green and
    blue, in optical density. Otsu's threshold on it, kept within what glass and stain can be, then
    cleaned of dust. Pictures without any colour are judged by their darkness.

    Parameters
    ----------
    rgb
        ``(H, W, 3)`` uint8, such as a thumbnail of about 1024 pixels; 4 to 16 µm per pixel is best.
    threshold
        Optical density above which it is tissue, such as 0.04; None finds it.
    smallest
        Pixels below which a piece is dust and a hole is filled; None is a share of the picture.

    Returns
    -------
    ndarray
        ``(H, W)`` bool.

    Raises
    ------
    ConfigError
        If the array has another shape or type.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ConfigError(f"an array {rgb.shape} of {rgb.dtype}; (H, W, 3) of uint8 is needed")
    signal = _signal(rgb)
    mask = signal > (_threshold(signal) if threshold is None else threshold)
    return _cleaned(
        mask, max(1, round(mask.size * _SMALLEST_SHARE)) if smallest is None else smallest
    )


def tissue_threshold(rgb: NDArray[np.uint8]) -> float:
    """Give the threshold that :func:`tissue_mask` finds by itself, in optical density."""
    return _threshold(_signal(rgb))


def _signal(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much stain there is, as an optical density."""
    density = -np.log10((rgb.astype(np.float32) + 1.0) / 256.0)
    smooth = ndimage.gaussian_filter(density, (_SMOOTH, _SMOOTH, 0), mode="nearest")
    smooth -= _glass(smooth)
    signal: NDArray[np.float32] = smooth.max(axis=2) - smooth.min(axis=2)
    if float(np.percentile(signal, 99)) < _GREY:
        signal = smooth.mean(axis=2)
    return signal


def _glass(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colour of the empty slide: the middle of the brightest twentieth of all pixels."""
    darkness = density.mean(axis=2)
    bright = density[darkness <= np.percentile(darkness, 5)]
    middle: NDArray[np.float32] = np.median(bright, axis=0).astype(np.float32)
    return np.clip(middle, 0.0, np.float32(_GLASS))


def _threshold(signal: NDArray[np.float32]) -> float:
    low, high = float(signal.min()), float(signal.max())
    if high - low < 1e-6:
        return _FAINTEST  # one flat colour: all glass or all tissue
    otsu = threshold_otsu(signal)  # type: ignore[no-untyped-call]  # scikit-image has no types here
    return float(np.clip(otsu, _FAINTEST, _CLEAR))


def _cleaned(mask: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    padded = np.pad(mask, 3, mode="edge")  # tissue cut by the border stays
    closed = ndimage.binary_closing(padded, _disk(3))[3:-3, 3:-3] | mask
    solid = remove_small_objects(closed, max_size=smallest)
    result: NDArray[np.bool_] = remove_small_holes(solid, max_size=smallest)
    return result


def _disk(radius: int) -> NDArray[np.bool_]:
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    inside: NDArray[np.bool_] = yy**2 + xx**2 <= radius**2
    return inside
