"""How far an answer can be trusted: calibration, and where the picture is hatched.

The network's probabilities are too sure or too modest. Temperature scaling (Guo et al. 2017)
divides their logits by one number, found on images the model never learned from; it changes no
label. The number is part of the model's card.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, optimize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import ModelCard

UNSURE_BELOW = 0.75
"""Calibrated confidence below which a place is hatched: one pixel in four may be wrong there."""
PATCH_UM = 4.0  # smaller than a nucleus: the rim that every object has is not worth hatching
_EDGE = 1e-3  # float16 knows no probability much nearer to 0 or 1
_COOLEST, _HOTTEST = 0.1, 10.0
BINS = 15


def temperature(card: ModelCard, flips: int) -> float:
    """What the logits of this model are divided by; 1 for a model that was not calibrated."""
    if card.calibration is None:
        return 1.0
    found = card.calibration.temperature.items()
    return next((heat for views, heat in found if views == str(flips)), 1.0)


def calibrated(confidence: NDArray[np.floating], heat: float) -> NDArray[np.float64]:
    """Confidence in [0, 1] after dividing its logit by a temperature."""
    clipped = np.clip(np.asarray(confidence, np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(1 / (1 + np.exp(-np.log(clipped / (1 - clipped)) / heat)))


def fit_temperature(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Temperature with the smallest cross-entropy.

    Parameters
    ----------
    confidence
        Probability of the drawn class for some pixels, ``(N,)``.
    right
        Whether that class is the true one.
    """

    def loss(log_heat: float) -> float:
        sure = calibrated(confidence, math.exp(log_heat))
        return -float(np.mean(np.log(np.where(right, sure, 1 - sure))))

    bounds = math.log(_COOLEST), math.log(_HOTTEST)
    return math.exp(float(optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def reliability(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS
) -> list[tuple[float, float, int]]:
    """Mean confidence, share that is right, and number of pixels for every bin that has any."""
    place = np.minimum((np.asarray(confidence, np.float64) * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    mean = np.bincount(place, confidence, bins) / np.maximum(count, 1)
    share = np.bincount(place, right, bins) / np.maximum(count, 1)
    return [(float(m), float(s), int(n)) for m, s, n in zip(mean, share, count, strict=True) if n]


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: mean distance of confidence and truth over the bins."""
    found = reliability(confidence, right)
    return sum(abs(m - s) * n for m, s, n in found) / sum(n for _, _, n in found)


def auroc(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float | None:
    """Probability that a wrong pixel is less sure than a right one; None if all are either."""
    from scipy.stats import rankdata

    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not (n_right and n_wrong):
        return None
    ranks = rankdata(confidence)
    return float((ranks[right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def unsure(
    confidence: NDArray[np.floating], card: ModelCard, mpp: float, flips: int
) -> NDArray[np.bool_]:
    """Places to hatch: patches of tissue most of whose pixels are below ``UNSURE_BELOW``.

    Parameters
    ----------
    confidence
        Probability of the drawn class, ``(H, W)``, not calibrated.
    card, mpp, flips
        The model's card, µm per pixel of the array, and views it was averaged over.
    """
    # The threshold is carried to the raw scale once, instead of every pixel to the calibrated one.
    logit = temperature(card, flips) * math.log(UNSURE_BELOW / (1 - UNSURE_BELOW))
    low = confidence < 1 / (1 + math.exp(-logit))
    side = max(1, round(PATCH_UM / mpp)) | 1
    share = ndimage.uniform_filter(low.astype(np.float32), side, mode="nearest")
    return np.asarray(share > 0.5)
