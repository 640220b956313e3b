"""A segmenter is always asked at one timestep, so its time conditioning can be worked in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_genselfdiff.backbone.blocks import ResidualBlock

if TYPE_CHECKING:
    from napari_genselfdiff.backbone.heads import Segmenter


@torch.no_grad()
def fold_time(segmenter: Segmenter) -> Segmenter:
    """Work the fixed timestep into the normalisations, in place; for prediction only.

    With FiLM, norm(h)·(1 + scale) + shift is again a normalisation with other weights, so the
    answer stays the same up to rounding while one pass over the features is saved in every
    block. The paper's additive time cannot be folded (its padding is zero) and is left alone.
    A second call changes nothing; a folded segmenter must not be trained or saved.
    """
    blocks = [
        block
        for block in segmenter.modules()
        if isinstance(block, ResidualBlock) and block.time_mode == "film"
    ]
    if not blocks:
        return segmenter
    embedding = segmenter.unet.time_embedding
    t = torch.full((1,), segmenter.timestep, device=embedding.expand.weight.device)
    time = F.silu(embedding(t))
    for block in blocks:
        scale, shift = block.time(time)[0].chunk(2)
        block.norm1.weight.mul_(1 + scale)
        block.norm1.bias.mul_(1 + scale).add_(shift)
        block.time_mode = "none"
    return segmenter
