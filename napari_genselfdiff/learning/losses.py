"""Losses, one value per sample: segmentation on known pixels, and likeness of images.

Every segmentation loss divides by the sample's own known pixels, so that splitting a batch
changes nothing, and an unknown pixel gets a gradient of exactly zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal(logits: Tensor, classes: Tensor, known: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss, ``(B,)`` (Lin et al. 2017, eq. 4), from logits ``(B, C, H, W)``.

    Log-softmax keeps it finite where the released code's log(softmax) gives NaN.
    """
    log_p = F.log_softmax(at_least_fp32(logits), dim=1).gather(1, classes[:, None])[:, 0]
    return _mean_known(-((1 - log_p.exp()) ** gamma) * log_p, known)


def structural_similarity(
    logits: Tensor, classes: Tensor, known: Tensor, *, beta: float = 0.1, stability: float = 0.01
) -> Tensor:
    """Structure-weighted cross-entropy, ``(B,)`` (Zhao et al. 2019, eq. 5-8).

    Local means and deviations under a 3 × 3 Gaussian window say how much the prediction's
    structure differs from the truth's; pixels above ``beta`` of the largest difference count,
    in proportion to it. The weights carry no gradient, so that a known pixel never teaches its
    unknown neighbour.
    """
    log_p = F.log_softmax(at_least_fp32(logits), dim=1)
    with torch.no_grad():
        truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(log_p)
        mask = known[:, None].to(log_p)
        error = (
            _standardised(truth * mask, stability) - _standardised(log_p.exp() * mask, stability)
        ).abs() * mask
        hard = error > beta * error.amax(dim=(2, 3), keepdim=True)
        weight = error * hard
    per_class = -truth * log_p - (1 - truth) * torch.log1p(-log_p.exp().clamp(max=1 - 1e-6))
    total = (weight * torch.where(known[:, None], per_class, 0)).sum(dim=(1, 2, 3))
    return total / hard.sum(dim=(1, 2, 3)).clamp_min(1)


def soft_dice(logits: Tensor, classes: Tensor, known: Tensor) -> Tensor:
    """1 - mean soft Dice over the classes present among the known pixels, ``(B,)``."""
    p = F.softmax(at_least_fp32(logits), dim=1) * known[:, None]
    truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(p) * known[:, None]
    overlap = (p * truth).sum(dim=(2, 3))
    size = p.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    present = truth.sum(dim=(2, 3)) > 0
    dice = (2 * overlap + 1) / (size + 1)
    return ((1 - dice) * present).sum(dim=1) / present.sum(dim=1).clamp_min(1)


def distance_loss(logit: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy of the distance cue above its own minimum, ``(B,)``.

    ``logit`` is ``(B, 1, H, W)``, ``target`` ``(B, H, W)`` in [0, 1]. The target's entropy is
    taken off, so that a perfect answer costs nothing.
    """
    value = F.binary_cross_entropy_with_logits(
        at_least_fp32(logit[:, 0]), at_least_fp32(target), reduction="none"
    )
    floor = -(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target))
    return _mean_known(value - floor, known)


def dissimilarity(answer: Tensor, target: Tensor) -> Tensor:
    """(1 - mean SSIM) / 2 of images ``(B, C, H, W)`` in [-1, 1], ``(B,)`` in [0, 1]."""
    return (1 - similarity(answer, target)).mean(dim=(1, 2, 3)) / 2


def similarity(answer: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of every pixel of images in [-1, 1], in [-1, 1], same shape.

    Wang et al. (2004), eq. 13, under a 5 × 5 Gaussian window of deviation 1.5.
    """
    answer, target = at_least_fp32(answer), at_least_fp32(target)
    small, less_small = (2 * 0.01) ** 2, (2 * 0.03) ** 2
    mean_a, mean_b = _local_mean(answer, 5), _local_mean(target, 5)
    variance_a = (_local_mean(answer**2, 5) - mean_a**2).clamp_min(0)
    variance_b = (_local_mean(target**2, 5) - mean_b**2).clamp_min(0)
    covariance = _local_mean(answer * target, 5) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + small) * (2 * covariance + less_small)
    likeness = likeness / (mean_a**2 + mean_b**2 + small)
    return likeness / (variance_a + variance_b + less_small)


def at_least_fp32(values: Tensor) -> Tensor:
    """Half precision raised to fp32, anything else as it is."""
    return values.float() if values.itemsize < 4 else values


def _mean_known(values: Tensor, known: Tensor) -> Tensor:
    total = torch.where(known, values, 0).sum(dim=(1, 2))
    return total / known.sum(dim=(1, 2)).clamp_min(1)


def _standardised(plane: Tensor, stability: float) -> Tensor:
    """(value - local mean + C) / (local deviation + C) of every channel."""
    mean = _local_mean(plane, 3)
    deviation = (_local_mean(plane**2, 3) - mean**2).clamp_min(0).sqrt()
    return (plane - mean + stability) / (deviation + stability)


def _local_mean(planes: Tensor, size: int) -> Tensor:
    """Mean under a ``size`` × ``size`` Gaussian window of deviation 1.5, of every channel.

    Never in half precision: the variance is a small difference of two of these.
    """
    offsets = torch.arange(size, device=planes.device, dtype=planes.dtype) - size // 2
    axis = torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = (torch.outer(axis, axis) / axis.sum() ** 2).expand(planes.shape[1], 1, size, size)
    with torch.autocast(planes.device.type, enabled=False):
        padded = F.pad(planes, (size // 2,) * 4, mode="replicate")
        return F.conv2d(padded, kernel, groups=planes.shape[1])
