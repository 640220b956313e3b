"""Plain pictures, for everything that is not a slide: scoring, judging a model, tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.region import RegionDone, predict_region, to_store_window
from napari_genselfdiff.slides.geometry import Region, grid_shape
from napari_genselfdiff.slides.resample import axis_taps, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.prediction.region import CarriesCard


class Picture:
    """An image in memory that reads like a slide.

    Around it is its mirror image, not glass: a picture is cut out of tissue.

    Parameters
    ----------
    pixels
        ``(H, W, 3)`` uint8.
    mpp
        Micrometre per pixel, or None.
    """

    def __init__(self, pixels: NDArray[np.uint8], mpp: float | None) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ConfigError(
                f"a picture of shape {pixels.shape} and type {pixels.dtype}; "
                "height x width x 3 of uint8 is needed"
            )
        self._pixels = pixels
        self._grids: dict[float, NDArray[np.uint8]] = {1.0: pixels}
        self.mpp = mpp

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self._pixels.shape[0]), int(self._pixels.shape[1])

    def read(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        """Pixels of a region of the grid with this downsample, ``(height, width, 3)``."""
        if downsample not in self._grids:
            self._grids[downsample] = self._resampled(downsample)
        grid = self._grids[downsample]
        rows = _mirrored(region.y, region.y1, grid.shape[0])
        columns = _mirrored(region.x, region.x1, grid.shape[1])
        return np.asarray(grid[np.ix_(rows, columns)])

    def _resampled(self, downsample: float) -> NDArray[np.uint8]:
        height, width = grid_shape(self.shape, downsample)
        rows = axis_taps(0, height, downsample, self.shape[0])
        columns = axis_taps(0, width, downsample, self.shape[1])
        # Interpolation may leave out the last source rows; averaging may ask for a few more.
        source = self._pixels[
            np.ix_(
                np.clip(np.arange(rows.first, rows.first + rows.source), 0, self.shape[0] - 1),
                np.clip(
                    np.arange(columns.first, columns.first + columns.source), 0, self.shape[1] - 1
                ),
            )
        ]
        return resample(source, rows, columns)


@dataclass(frozen=True, slots=True)
class PictureLabels:
    """Labels of a picture, pixel by pixel: class values, ids from 1 (None for areas)."""

    classes: NDArray[np.uint8]
    objects: NDArray[np.uint32] | None


def segment_picture(
    pixels: NDArray[np.uint8],
    mpp: float | None,
    model: CarriesCard,
    segmenter: Segmenter,
    profile: Profile,
) -> PictureLabels:
    """Segment a plain picture as a slide of that size would be.

    Parameters
    ----------
    pixels, mpp
        ``(H, W, 3)`` uint8, and its micrometre per pixel.
    model, segmenter, profile
        As for :func:`~napari_genselfdiff.prediction.region.predict_region`.
    """
    picture = Picture(pixels, mpp)
    region = Region(0, 0, *picture.shape)
    for step in predict_region(picture, model, segmenter, region, profile):
        if isinstance(step, RegionDone):
            window = to_store_window(step, picture.shape, 1)
            return PictureLabels(window.classes, window.objects)
    raise ConfigError("a picture without a pixel cannot be segmented")


def _mirrored(start: int, stop: int, size: int) -> NDArray[np.int64]:
    """Indices from start to stop, reflected at the ends without repeating the border."""
    period = max(2 * (size - 1), 1)
    places = np.abs(np.arange(start, stop)) % period
    return np.asarray(np.where(places < size, places, period - places))
