"""Segmentation losses on known pixels, one value per sample.

Every loss divides by the sample's own known pixels, so that splitting a batch changes nothing,
and an unknown pixel gets a gradient of exactly zero.
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


def at_least_fp32(values: Tensor) -> Tensor:
    """Half precision raised to fp32, anything else as it is."""
    return values.float() if values.itemsize < 4 else values


def _mean_known(values: Tensor, known: Tensor) -> Tensor:
    total = torch.where(known, values, 0).sum(dim=(1, 2))
    return total / known.sum(dim=(1, 2)).clamp_min(1)


def _standardised(plane: Tensor, stability: float) -> Tensor:
    """(value - local mean + C) / (local deviation + C) of every channel."""
    offsets = torch.tensor([1.0, 0.0, 1.0], device=plane.device, dtype=plane.dtype)
    axis = torch.exp(-offsets / (2 * 1.5**2))
    kernel = torch.outer(axis, axis) / axis.sum() ** 2
    kernel = kernel.expand(plane.shape[1], 1, 3, 3)

    def local(values: Tensor) -> Tensor:
        padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, kernel, groups=plane.shape[1])

    mean = local(plane)
    deviation = (local(plane**2) - mean**2).clamp_min(0).sqrt()
    return (plane - mean + stability) / (deviation + stability)
