"""How well a network answers on tiles whose truth is known."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_genselfdiff.learning.gate import Counts, count_blocks
from napari_genselfdiff.learning.holdout import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.prediction.profile import Profile

KEEP_BLOCK = 128  # pixels; tissue without corrections is judged in larger pieces


def classify(model: Segmenter, image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Most probable channel of every pixel, ``(H, W)``, 0 = background."""
    with torch.inference_mode():
        return np.asarray(_logits(model, image).argmax(0).cpu().numpy())


def classify_surely(
    model: Segmenter, image: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Most probable channel of every pixel, as :func:`classify`, and its probability, 0-1."""
    with torch.inference_mode():
        logits = _logits(model, image)
        probability = logits.float().softmax(0).amax(0)
        return np.asarray(logits.argmax(0).cpu().numpy()), np.asarray(probability.cpu().numpy())


def _logits(model: Segmenter, image: NDArray[np.uint8]) -> Tensor:
    height, width = image.shape[:2]
    logits: Tensor = model(whole_input(model, image)).logits[0, :, :height, :width]
    return logits


def whole_input(model: Segmenter, image: NDArray[np.uint8]) -> Tensor:
    """An image ``(H, W, 3)`` as the network takes it, filled up at its lower and right edges.

    ``(1, 3, H', W')`` in [-1, 1] on the model's device.
    """
    height, width = image.shape[:2]
    multiple = model.config.multiple
    device = next(model.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device)
    pad = (0, -width % multiple, 0, -height % multiple)
    x = F.pad(x.float() / 127.5 - 1, pad, mode="replicate")
    return x.contiguous(memory_format=torch.channels_last)


@contextmanager
def as_predicted(profile: Profile) -> Iterator[None]:
    """Answers in this block are computed in the precision in which Predict computes them.

    Nothing is cached, as weights may change inside.
    """
    kind = torch.device(profile.device).type
    is_bf16 = profile.precision == "bf16"
    with torch.autocast(kind, torch.bfloat16, enabled=is_bf16, cache_enabled=False):
        yield


def count(
    answers: Sequence[NDArray[np.int64]],
    tiles: Sequence[CorrectionTile],
    scored: Sequence[NDArray[np.bool_]],
    index: NDArray[np.int64],
    n_classes: int,
    *,
    block: int = BLOCK,
    background: bool = False,
) -> Counts:
    """Counts of answers, one per tile as :func:`classify` gives them, on the scored pixels.

    With ``background`` that is a class, too, and the first one: where people delete what is false,
    nothing else is left to be right about.
    """
    more = int(background)
    parts = [
        count_blocks(
            as_asked(answer, tile, index) + more,
            index[tile.classes] + more,
            mask,
            n_classes + more,
            block=block,
        )
        for answer, tile, mask in zip(answers, tiles, scored, strict=True)
        if mask.any()
    ]
    return Counts.join(parts, n_classes + more)


def as_asked(
    answer: NDArray[np.int64], tile: CorrectionTile, index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """An answer in the classes a tile tells apart: later ones are called as they were before."""
    if not tile.open:
        return answer
    lookup = np.arange(256)
    for value, home in tile.open.items():
        lookup[index[value]] = index[home]
    return np.where(tile.human, answer, lookup[answer])


def share_right(
    answers: Sequence[NDArray[np.int64]],
    tiles: Sequence[CorrectionTile],
    scored: Sequence[NDArray[np.bool_]],
    index: NDArray[np.int64],
) -> float | None:
    """Share of the scored pixels that are answered as a person said; None if there are none."""
    agreed = [
        (as_asked(answer, tile, index) == index[tile.classes])[mask]
        for answer, tile, mask in zip(answers, tiles, scored, strict=True)
    ]
    pixels = np.concatenate(agreed) if agreed else np.zeros(0, bool)
    return float(pixels.mean()) if pixels.size else None


def score(
    model: Segmenter,
    tiles: Sequence[CorrectionTile],
    scored: Sequence[NDArray[np.bool_]],
    index: NDArray[np.int64],
    *,
    block: int = BLOCK,
    channels: NDArray[np.int64] | None = None,
    background: bool = False,
) -> Counts:
    """Counts of a model on the scored pixels of tiles; tiles without any are not looked at.

    ``channels`` gives each of the model's outputs the channel it has in ``index``, where they
    differ; ``background`` is as for :func:`count`.
    """
    chosen = [(tile, mask) for tile, mask in zip(tiles, scored, strict=True) if mask.any()]
    pictures, masks = [tile for tile, _ in chosen], [mask for _, mask in chosen]
    answers = [classify(model, tile.image) for tile in pictures]
    if channels is not None:
        answers = [channels[answer] for answer in answers]
    classes = int(index.max())
    return count(answers, pictures, masks, index, classes, block=block, background=background)


def on_known(
    model: Segmenter,
    tiles: Sequence[CorrectionTile],
    index: NDArray[np.int64],
    channels: NDArray[np.int64] | None = None,
) -> Counts:
    """Counts of a model on all that is known of the base's own tiles, as :func:`score`."""
    known = [tile.known for tile in tiles]
    return score(model, tiles, known, index, block=KEEP_BLOCK, channels=channels)
