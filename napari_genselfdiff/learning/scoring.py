"""How well a network answers on tiles whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_genselfdiff.learning.gate import Counts, count_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.learning.corrections import CorrectionTile

KEEP_BLOCK = 128  # pixels; tissue without corrections is judged in larger pieces


def classify(model: Segmenter, image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Most probable channel of every pixel, ``(H, W)``, 0 = background."""
    height, width = image.shape[:2]
    multiple = model.config.multiple
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 127.5 - 1
    pad = (0, -width % multiple, 0, -height % multiple)
    x = F.pad(x, pad, mode="replicate").contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = model(x).logits[0, :, :height, :width]
    return np.asarray(logits.argmax(0).numpy())


def score(
    model: Segmenter,
    tiles: Sequence[CorrectionTile],
    scored: Sequence[NDArray[np.bool_]],
    index: NDArray[np.int64],
    *,
    block: int = 64,
) -> Counts:
    """Counts of a model on the scored pixels of tiles."""
    parts = [
        count_blocks(
            classify(model, tile.image), index[tile.classes], mask, model.n_classes, block=block
        )
        for tile, mask in zip(tiles, scored, strict=True)
        if mask.any()
    ]
    return Counts.join(parts, model.n_classes)
