"""Plain PNG, JPEG and BMP images as slides of one level, decoded once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.levels import WHITE, Level, Tile, TileCache
from napari_genselfdiff.slides.metadata import mean_mpp
from napari_genselfdiff.slides.pixels import ToRGB, white_level
from napari_genselfdiff.slides.source import Source

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.slides.geometry import Region

MAX_PIXELS = 150_000_000
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}
_MICRONS_PER_INCH = 25_400.0
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,  # broken PNG
    TypeError,
    ValueError,
    MemoryError,
    Image.DecompressionBombError,
)


def image_format(head: bytes) -> str | None:
    """Format of a plain image from its first bytes, or None."""
    return next((name for start, name in SIGNATURES.items() if head.startswith(start)), None)


def open_image(path: Path, kind: str) -> Source:
    """Read a plain image whole.

    Raises
    ------
    SlideError
        If it is damaged, or larger than 150 million pixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns from 90 million pixels on; our own limit is checked first.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=[kind]) as image:
                _check_size(image, path.name)
                dpi = image.info.get("dpi")
                icc = image.info.get("icc_profile")
                pixels = _rgb(image)
    except _PILLOW_ERRORS as error:
        if isinstance(error, SlideError):
            raise
        text = " ".join(str(error).split())
        raise SlideError(f"{path.name} is not a usable {kind} image: {text}") from error
    cache = TileCache()
    return Source(
        reader="image",
        levels=(ArrayLevel(pixels, cache),),
        downsamples=(1.0,),
        cache=cache,
        properties={"image.format": kind},
        mpp=_mpp(dpi),
        icc_profile=icc if isinstance(icc, bytes) else None,
    )


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise SlideError(
            f"{name} has {height} x {width} pixels, too many for a {image.format} file; "
            "save it as a tiled pyramid TIFF"
        )


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        samples = np.asarray(image)[..., None]
        return np.ascontiguousarray(ToRGB(white=white_level(samples))(samples))
    if image.has_transparency_data:
        samples = np.asarray(image.convert("RGBA"))
        return ToRGB(alpha=True)(samples)
    return np.array(image.convert("RGB"))


def _mpp(dpi: Any) -> float | None:
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError):
        return None
    if not (x > 0 and y > 0):
        return None
    return mean_mpp(_MICRONS_PER_INCH / y, _MICRONS_PER_INCH / x)


class ArrayLevel(Level):
    """A level that is in memory already."""

    def __init__(self, pixels: NDArray[np.uint8], cache: TileCache) -> None:
        super().__init__((pixels.shape[0], pixels.shape[1]), (512, 512), cache)
        self._pixels = pixels
        self.nbytes = pixels.nbytes

    def read(self, region: Region, *, parallel: bool = True) -> NDArray[np.uint8]:
        """Copy a region; cached tiles would only hold the same pixels twice."""
        if region.clipped(self.shape) == region:
            return self._pixels[region.slices].copy()
        return super().read(region, parallel=parallel)

    def tile(self, row: int, column: int) -> Tile:
        """Copy one tile without keeping it."""
        return self.decode(row, column)

    def decode(self, row: int, column: int) -> Tile:
        """Copy one tile, filled up with white."""
        height, width = self.tile_shape
        part = self._pixels[
            row * height : (row + 1) * height, column * width : (column + 1) * width
        ]
        out = np.full((height, width, 3), WHITE, np.uint8)
        out[: part.shape[0], : part.shape[1]] = part
        return out
