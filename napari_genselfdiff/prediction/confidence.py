"""How far an answer can be trusted: from the surroundings, calibrated, and hatched where it is low.

A pixel about which the network is sure is wrong more often where it hesitates all around, so its
logit is averaged with those nearby. What comes of it is too sure or too modest. Temperature scaling
(Guo et al. 2017) divides the logits by one number, found on images the model never learned from; it
changes no label. The number is part of the model's card.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import ModelCard

UNSURE_BELOW = 0.75
"""Calibrated confidence below which a place is hatched: one pixel in four may be wrong there."""
NEARBY_UM = 1.0  # half a side of the square that is averaged
OWN = 0.25  # weight of the pixel itself; best for both training lists (docs/decisions/predict.md)
PATCH_UM = 4.0  # smaller than a nucleus: the rim that every object has is not worth hatching
_EDGE = 1e-3  # float16 knows no probability much nearer to 0 or 1
_COOLEST, _HOTTEST = 0.1, 10.0
BINS = 15


def nearby(mpp: float) -> int:
    """How many pixels away the confidence looks."""
    return round(NEARBY_UM / mpp)


def drawn_confidence(
    class_prob: NDArray[np.floating], classes: NDArray[np.uint8], card: ModelCard, mpp: float
) -> NDArray[np.float32]:
    """How sure it is that every pixel has the class that is drawn, ``(H, W)`` in [0, 1].

    Parameters
    ----------
    class_prob
        ``(C, H, W)``, one for each class of the task, in the card's order.
    classes
        Class values that are drawn, ``(H, W)``, 0 = background.
    card, mpp
        The model's card, and micrometre per pixel of these arrays.
    """
    if len(class_prob) == 1:  # the background's logit is that of the class, turned round
        logit = _steadied(class_prob[0], mpp)
        np.negative(logit, out=logit, where=classes == 0)
    else:
        logit = _steadied(1 - class_prob.sum(axis=0), mpp)
        for spec, probability in zip(card.task.classes, class_prob, strict=True):
            np.copyto(logit, _steadied(probability, mpp), where=classes == spec.value)
    np.negative(logit, out=logit)
    np.exp(logit, out=logit)
    logit += 1
    return np.reciprocal(logit, out=logit)


def _steadied(probability: NDArray[np.floating], mpp: float) -> NDArray[np.float32]:
    """Logit of a probability ``(H, W)``, averaged with the logits around."""
    logit = np.clip(probability, _EDGE, 1 - _EDGE, dtype=np.float32, casting="same_kind")
    logit /= 1 - logit
    np.log(logit, out=logit)
    side = 2 * nearby(mpp) + 1
    around = box_sum(logit, side)
    around *= (1 - OWN) / side**2
    logit *= OWN
    logit += around
    return np.asarray(logit)


def box_sum(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Sum over the square of an odd side around every pixel; beyond the border its pixels go on.

    Always added up in the same order, whatever the size of the array, so that a part of a picture
    has the same sums to the last bit.
    """
    padded = np.pad(values, side // 2, mode="edge") if side > 1 else values
    return _running(_running(padded, side, 0), side, 1)


def _running(values: NDArray[Any], side: int, axis: int) -> NDArray[Any]:
    """Sums of ``side`` neighbours along an axis, put together from sums of 1, 2, 4 and so on."""

    def part(source: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        return source[start:stop] if axis == 0 else source[:, start:stop]

    length = values.shape[axis]
    width, done, sums = 1, 0, values
    total: NDArray[Any] | None = None
    while True:
        if side & width:
            piece = part(sums, done, done + length - side + 1)
            total = piece if total is None else total + piece
            done += width
        if done == side and total is not None:
            return total
        end = sums.shape[axis]
        sums = part(sums, 0, end - width) + part(sums, width, end)
        width *= 2


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


def object_confidences(
    objects: NDArray[np.uint32], confidence: NDArray[np.floating], card: ModelCard, flips: int
) -> NDArray[np.float64]:
    """Mean calibrated confidence of the pixels of each object: the share expected to be right.

    Parameters
    ----------
    objects
        Ids, ``(H, W)``, 0 = none.
    confidence
        Of the drawn class, ``(H, W)``, see :func:`drawn_confidence`; not calibrated.
    card, flips
        The model's card, and the views it was averaged over.

    Returns
    -------
    ndarray
        By id, from 0 to the highest; NaN for ids without a pixel.
    """
    inside = objects > 0
    ids = objects[inside]
    n = int(ids.max(initial=0)) + 1
    sure = calibrated(confidence[inside], temperature(card, flips))
    pixels = np.bincount(ids, minlength=n)
    total = np.bincount(ids, sure, n)
    return np.asarray(np.divide(total, pixels, out=np.full(n, np.nan), where=pixels > 0))


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
        Of the drawn class, ``(H, W)``, see :func:`drawn_confidence`; not calibrated.
    card, mpp, flips
        The model's card, µm per pixel of the array, and views it was averaged over.
    """
    # The threshold is carried to the raw scale once, instead of every pixel to the calibrated one.
    logit = temperature(card, flips) * math.log(UNSURE_BELOW / (1 - UNSURE_BELOW))
    low = confidence < 1 / (1 + math.exp(-logit))
    side = max(1, round(PATCH_UM / mpp)) | 1
    return np.asarray(box_sum(low.astype(np.uint16), side) > side**2 // 2)
