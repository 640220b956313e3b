"""The two segmentation losses of the released GenSelfDiff-HIS code, with their defects.

For measuring what the defects cost; :mod:`losses` holds the versions to use. The released code
knows no unknown pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from napari_genselfdiff.errors import TrainingError
from napari_genselfdiff.learning.losses import at_least_fp32

if TYPE_CHECKING:
    from torch import Tensor


def focal(logits: Tensor, classes: Tensor, known: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss on log(softmax), ``(B,)``: NaN as soon as a class has probability 0."""
    p, truth = _probabilities(logits, classes, known)
    return -((p - 1) ** gamma * truth * p.log()).sum(dim=1).mean(dim=(1, 2))


def structural_similarity(
    logits: Tensor, classes: Tensor, known: Tensor, *, beta: float = 0.1, stability: float = 0.01
) -> Tensor:
    """Structural error times the cross-entropy of the whole batch, ``(B,)``.

    Mean and deviation are those of the whole patch, not of a window around each pixel, and one
    number for the batch stands for the cross-entropy of every pixel. The mean over the samples
    is the released value; a single sample's depends on the others of its batch.
    """
    p, truth = _probabilities(logits, classes, known)
    error = (_standardised(truth, stability) - _standardised(p, stability)).abs()
    hard = (error > beta * error.amax(dim=(2, 3), keepdim=True)).to(error)
    cross_entropy = -(truth * p.log()).sum(dim=1).mean()
    share = (error * hard).sum(dim=(1, 2, 3)) / hard.sum()
    return len(logits) * share * cross_entropy


def _probabilities(logits: Tensor, classes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    if not bool(known.all()):
        raise TrainingError(
            "the released losses need every pixel labelled, got unknown ones; use patches that "
            "lie inside their image (patch.rotate=false), or leave the released losses off"
        )
    p = at_least_fp32(logits).softmax(dim=1)
    return p, F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(p)


def _standardised(plane: Tensor, stability: float) -> Tensor:
    mean = plane.mean(dim=(2, 3), keepdim=True)
    return (plane - mean + stability) / (plane.std(dim=(2, 3), keepdim=True) + stability)
