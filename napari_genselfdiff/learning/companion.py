"""A denoising loss beside fine-tuning: the network goes on mending images while it learns a task.

Off by default. The noise head exists only while training; what is saved for use is the
segmenter alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field
from torch import nn

from napari_genselfdiff.backbone.heads import OutputHead, SegmentationOutput, Segmenter
from napari_genselfdiff.learning.pretext import PretextConfig

if TYPE_CHECKING:
    from torch import Tensor

    from napari_genselfdiff.learning.data import Batch
    from napari_genselfdiff.learning.objectives import Pretext, Segmentation


class CompanionConfig(PretextConfig):
    """A pretext, and the weight of its loss beside that of the segmentation.

    Give it the settings that the backbone was pre-trained with, or its noise head starts wrong.
    """

    weight: float = Field(default=0.1, gt=0)


class AccompaniedSegmenter(nn.Module):
    """A segmenter and a noise head on the same U-Net."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.noise_head = OutputHead(segmenter.config, 3)

    def forward(self, x: Tensor, x_t: Tensor, t: Tensor) -> tuple[SegmentationOutput, Tensor]:
        """Segmentation of ``x``, and the answer to the damaged ``x_t``, both ``(B, 3, H, W)``."""
        return self.segmenter(x), self.noise_head(self.segmenter.unet(x_t, t), x_t)


@dataclass(frozen=True)
class Accompanied:
    """Segmentation loss + ``weight`` × the loss of a pretext on the same images.

    The model is an :class:`AccompaniedSegmenter`.
    """

    segmentation: Segmentation
    pretext: Pretext
    weight: float

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        damaged = self.pretext.damage(batch.images, batch.indices)
        output, answer = model(batch.images, damaged.images, damaged.t)
        loss, parts = self.segmentation.score(output, batch)
        mended, _ = self.pretext.score(answer, damaged)
        mended = mended * self.weight
        return loss + mended, {**parts, "companion": mended.detach()}


def without_companion(model: nn.Module) -> nn.Module:
    """The segmenter alone: what is saved for use."""
    return model.segmenter if isinstance(model, AccompaniedSegmenter) else model
