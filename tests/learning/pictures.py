"""Small synthetic slides on disk for tests of training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.learning import tiny

RGB = NDArray[np.uint8]


def glass(height: int, width: int) -> RGB:
    return np.full((height, width, 3), 244, np.uint8)


def slide_pixels(seed: int = 0, side: int = 2560, at: tuple[int, int] = (1500, 500)) -> RGB:
    """Glass with one square of 512 pixels of tissue."""
    pixels = glass(side, side)
    y, x = at
    pixels[y : y + 512, x : x + 512] = tiny.tissue(seed, 512)[0]
    return pixels


def halved(pixels: RGB, times: int) -> RGB:
    for _ in range(times):
        h, w = pixels.shape[0] // 2, pixels.shape[1] // 2
        quads = pixels[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3)
        pixels = quads.mean(axis=(1, 3)).round().astype(np.uint8)
    return pixels


def write_slide(
    path: Path, levels: list[RGB], mpp: float | None = 0.25, compression: str = "zlib"
) -> Path:
    """A tiled TIFF pyramid with its pixel size."""
    size: dict[str, Any] = {}
    if mpp is not None:
        size = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tif:
        for number, level in enumerate(levels):
            tif.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression=compression,
                metadata=None,
                subfiletype=1 if number else 0,
                **(size if number == 0 else {}),
            )
    return path


def write_image(path: Path, pixels: RGB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
