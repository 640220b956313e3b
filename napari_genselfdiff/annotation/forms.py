"""Form and stain of all objects of an image at once; equal to what scikit-image measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Codes = NDArray[np.intp]
    Values = NDArray[np.float64]

# Optical density of pure haematoxylin, eosin and DAB in red, green and blue: Ruifrok & Johnston
# (2001), as in scikit-image.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255.0)  # by 8-bit value
_STRAIGHT, _SLANTED, _BENT = (5, 7, 15, 17, 25, 27), (21, 33), (13, 23)


def perimeters(codes: Codes, n: int) -> Values:
    """Length of each object's border in pixels, as ``skimage.measure.perimeter`` estimates it.

    ``codes`` (h, w) numbers the objects below ``n``, 0 is none; objects at the image's edge end
    there. Border pixels count 1, √2 or (1 + √2)/2, by which of their neighbours are border pixels
    of the same object.
    """
    _, own, lengths = _border(codes)
    total: Values = np.bincount(own, lengths, n).astype(np.float64)
    return total


def perimeter_inside(mask: NDArray[np.bool_], margin: int) -> float:
    """Length of the border pixels of a mask (h, w) that are further than a margin from its edge.

    With a margin of 2 or more, the parts of a large mask add up to what :func:`perimeters` gives.
    """
    at, _, lengths = _border(mask)
    rows, columns = np.divmod(at, mask.shape[1] + 2)
    inner = (rows > margin) & (rows <= mask.shape[0] - margin)
    inner &= (columns > margin) & (columns <= mask.shape[1] - margin)
    return float(lengths[inner].sum())


def _border(codes: NDArray[Any]) -> tuple[Codes, NDArray[np.int32], Values]:
    """Border pixels: places in the image with a frame of one pixel, objects, and lengths."""
    framed = np.pad(codes.astype(np.int32), 1)
    flat, row = framed.ravel(), framed.shape[1]
    at = np.flatnonzero(flat)
    own = flat[at]
    inside = np.ones(len(at), bool)
    for step in (1, row, -1, -row):
        inside &= flat[at + step] == own
    at, own = at[~inside], own[~inside]
    marked = np.zeros_like(flat)
    marked[at] = own
    kind = np.ones(len(at), np.intp)
    for step, weight in ((1, 2), (row, 2), (row + 1, 10), (row - 1, 10)):
        kind += weight * (marked[at + step] == own)
        kind += weight * (marked[at - step] == own)
    lengths = np.zeros(50)
    lengths[list(_STRAIGHT)] = 1.0
    lengths[list(_SLANTED)] = np.sqrt(2)
    lengths[list(_BENT)] = (1 + np.sqrt(2)) / 2
    return at, own, lengths[kind]


def eccentricities(codes: Codes, n: int) -> Values:
    """Eccentricity, 0 (round) to 1 (a line), of the ellipse with each object's second moments."""
    at = np.flatnonzero(codes)
    of = codes.ravel()[at]
    pixels = np.maximum(np.bincount(of, minlength=n), 1)
    y, x = (place.astype(np.float64) for place in np.divmod(at, codes.shape[1]))
    y -= (np.bincount(of, y, n) / pixels)[of]
    x -= (np.bincount(of, x, n) / pixels)[of]
    yy, xx, xy = (np.bincount(of, product, n) / pixels for product in (y * y, x * x, x * y))
    return eccentricity(yy, xx, xy)


def eccentricity(yy: Values, xx: Values, xy: Values) -> Values:
    """Eccentricity of ellipses with these second moments about their centres, each (n,)."""
    middle, spread = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    long = middle + spread
    ratio = np.divide(middle - spread, long, out=np.ones_like(long), where=long > 0)
    found: Values = np.sqrt(np.clip(1 - ratio, 0, 1))
    return found


def circularities(areas: Values, lengths: Values) -> Values:
    """4π area / perimeter², 1 for a circle; at most 1, as the estimate of small ones is beyond."""
    round_ = 4 * np.pi * areas
    found: Values = np.divide(round_, lengths**2, out=np.ones_like(round_), where=lengths > 0)
    return np.minimum(found, 1.0)


def stain_densities(rgb: NDArray[np.uint8], codes: Codes, n: int) -> tuple[Values, Values]:
    """Mean optical density of haematoxylin and of eosin in each object.

    ``rgb`` is (h, w, 3). Density is -log10 of the transmitted light, unmixed with the stain
    vectors of Ruifrok & Johnston (2001).
    """
    at = np.flatnonzero(codes)
    of, shown = codes.ravel()[at], rgb.reshape(-1, 3)[at]
    pixels = np.maximum(np.bincount(of, minlength=n), 1)
    means = [np.bincount(of, _DENSITY[shown[:, i]], n) / pixels for i in range(3)]
    unit = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    stains = np.stack(means, axis=1) @ np.linalg.inv(unit)  # of a mean as of every pixel
    return stains[:, 0], stains[:, 1]
