"""One picture of how far a run is: its loss, and what the network makes of tissue now."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from napari_genselfdiff.annotation.disk import replace_file
from napari_genselfdiff.learning.logs import read_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_genselfdiff.learning.data import Batch
    from napari_genselfdiff.learning.objectives import Pretext

# Far beyond any run, so that the patches shown are not the ones trained on.
FIRST_INDEX = 2**40
PICTURE_FILE = "progress.png"
SHARES = (0.1, 0.25, 0.5)
_TILE, _LABEL, _GAP, _CURVE = 128, 190, 6, 190
_INK, _PALE, _LINE = (30, 30, 30), (200, 205, 210), (0, 114, 178)


class Row(NamedTuple):
    """A label and its images, ``(B, 3, H, W)`` in [-1, 1]."""

    label: str
    images: Tensor


def mending_rows(
    model: nn.Module,
    pretext: Pretext,
    clean: Tensor,
    indices: Sequence[int],
    *,
    timesteps: int,
    words: tuple[str, str],
) -> list[Row]:
    """What a pre-trained network generates, and mends of real patches damaged more and more.

    ``words`` say what was done to the patches, and what to that.
    """
    rows = []
    generated = pretext.generate(model, indices, tuple(clean.shape[1:]))
    if generated is not None:
        rows.append(Row("made from pure noise", generated))
    rows.append(Row("real tissue", clean))
    for share in SHARES:
        damaged, mended = pretext.restore(model, clean, indices, share=share)
        t = round(share * (timesteps - 1))
        rows += [Row(f"{words[0]}, t = {t} of {timesteps}", damaged), Row(words[1], mended)]
    return rows


@torch.no_grad()
def segmentation_rows(model: nn.Module, batch: Batch) -> list[Row]:
    """Labelled patches, their truth and the network's answer as light areas."""
    rows = [Row("image", batch.images)]
    if batch.classes is not None:
        rows.append(Row("truth", _lit(batch.images, batch.classes > 0)))
    answer = model(batch.images).logits.argmax(dim=1) > 0
    return [*rows, Row("answer", _lit(batch.images, answer))]


def write_progress(path: Path, title: str, log: Path, rows: Sequence[Row]) -> None:
    """Write ``progress.png`` whole or not at all: the loss of ``log`` above labelled rows."""
    tiles = [(row.label, [_tile(image) for image in row.images]) for row in rows]
    most = max((len(images) for _, images in tiles), default=0)
    width = _LABEL + max(most, 4) * (_TILE + _GAP)
    height = _CURVE + len(tiles) * (_TILE + _GAP)
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, _GAP), title, _INK, font=_font(14))
    _draw_curve(draw, read_log(log), (_LABEL, 32, width - _GAP, _CURVE - 26))
    for number, (label, images) in enumerate(tiles):
        top = _CURVE + number * (_TILE + _GAP)
        draw.text((_GAP, top + _TILE // 2 - 8), label, _INK, font=_font(13))
        for column, image in enumerate(images):
            picture.paste(Image.fromarray(image), (_LABEL + column * (_TILE + _GAP), top))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    replace_file(path, buffer.getvalue())


def _draw_curve(
    draw: ImageDraw.ImageDraw, log: dict[str, list[float]], box: tuple[int, int, int, int]
) -> None:
    """Loss over images seen on a logarithmic axis: every step pale, its running mean dark."""
    left, top, right, bottom = box
    draw.rectangle(box, outline=_PALE)
    draw.text((_GAP, top), "loss", _INK, font=_font(13))
    seen = np.array(log.get("images_seen", []))
    loss = np.array(log.get("loss", []))
    seen, loss = seen[loss > 0], loss[loss > 0]
    if len(loss) < 2:
        return
    high, low = math.log(loss.max()), math.log(loss.min())
    span, length = max(high - low, 1e-6), max(float(seen[-1]), 1.0)

    def points(values: NDArray[np.float64]) -> list[tuple[float, float]]:
        x = left + (right - left) * seen / length
        y = top + 4 + (bottom - top - 8) * (high - np.log(values)) / span
        return list(zip(x.tolist(), y.tolist(), strict=True))

    draw.line(points(loss), fill=_PALE, width=1)
    draw.line(points(_running_mean(loss)), fill=_LINE, width=2)
    for value, y in ((loss.max(), top), (loss.min(), bottom - 14)):
        draw.text((left - 56, y), f"{value:.3g}", _INK, font=_font(12))
    draw.text((left, bottom + 4), "0", _INK, font=_font(12))
    end = f"{int(length):,} images seen"
    draw.text((right - draw.textlength(end, font=_font(12)), bottom + 4), end, _INK, _font(12))


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last tenth or so of what there is, at most 100 steps."""
    window = int(min(100, max(1, len(values) // 10)))
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    mean: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return mean


def _tile(image: Tensor) -> NDArray[np.uint8]:
    """``(3, H, W)`` in [-1, 1] as a square of 8-bit pixels."""
    values = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels = values.permute(1, 2, 0).cpu().numpy()
    scaled = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.BILINEAR)
    return np.asarray(scaled)


def _lit(images: Tensor, mask: Tensor) -> Tensor:
    """Images dimmed outside of ``mask`` ``(B, H, W)``."""
    return torch.where(mask[:, None], images, -0.7 + 0.3 * images)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
