"""Open a slide, whatever its format, and read any region of it at any scale."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.slides.color_names import COLORS, Colors
from napari_genselfdiff.slides.colors import NO_PROFILE, ColorLevel, ToSRGB
from napari_genselfdiff.slides.geometry import Region, grid_shape
from napari_genselfdiff.slides.levels import WHITE, HalvedLevel, Level, zarr_arrays
from napari_genselfdiff.slides.metadata import MPP_RANGE, identity_hash, plausible_mpp
from napari_genselfdiff.slides.opening import file_of, open_source
from napari_genselfdiff.slides.resample import axis_taps, resample

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from numpy.typing import NDArray

    from napari_genselfdiff.slides.source import Source

MAX_READ_PIXELS = 2**28
_COARSEST_SIDE = 4096  # a viewer loads the whole of the coarsest level
_BLOCK_SIDE = 1024  # pixels of the level averaged at once: small enough for the processor cache


class Slide:
    """An opened slide: pyramid, pixel size and identity. Reading is safe from several threads.

    Use `open_slide`. To use a slide in another process, open ``(path, mpp)`` there.

    Attributes
    ----------
    path
        As given.
    hash
        Identity, 64 hexadecimal digits; the same wherever and under whatever name the file lies.
    reader
        ``"tiff"``, ``"zarr"``, ``"openslide"``, ``"wsidicom"`` or ``"image"``.
    downsamples
        Size of level 0 over the size of each level; the first is 1.0.
    mpp
        µm per level-0 pixel, or None if the file does not say.
    mpp_assumed
        Whether ``mpp`` comes from the user and not from the file.
    bounds
        Level-0 region of the scanned areas, where the file states one.
    colors
        ``"stored"``, or ``"srgb"`` where the file's colour profile was used on what is read.
    """

    def __init__(self, path: Path, source: Source, colors: Colors = "stored") -> None:
        self.path, self.colors = path, colors
        self.reader = source.reader
        self.properties: Mapping[str, str] = dict(source.properties)
        self.bounds = source.bounds
        self.mpp = plausible_mpp(source.mpp)
        self.mpp_assumed = False
        self.stored_levels = len(source.levels)
        self._source = source
        self._views = {colors: self}
        levels = source.levels
        if colors == "srgb" and self.icc_profile is not None:
            to_srgb = ToSRGB(self.icc_profile, path.name)
            levels = tuple(ColorLevel(level, to_srgb) for level in levels)
        self._levels, self.downsamples = _extended(levels, source.downsamples)

    @cached_property
    def icc_profile(self) -> bytes | None:
        """The scanner's colour profile, where the file holds one."""
        stored = self._source.icc_profile
        return stored() if callable(stored) else stored

    def in_colors(self, colors: Colors) -> Slide:
        """The same open slide read with other colours; closing one closes both.

        Raises
        ------
        ConfigError
            If there are no such colours.
        SlideError
            If the colour profile cannot be used.
        """
        if colors not in COLORS:
            raise ConfigError(f"colours {colors!r}; choose one of {', '.join(COLORS)}")
        if colors not in self._views:
            view = Slide(self.path, self._source, colors)
            self._views[colors], view._views = view, self._views
        view = self._views[colors]
        view.mpp, view.mpp_assumed = self.mpp, self.mpp_assumed
        return view

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file's size, first and last MiB and stored properties.

        Of an OME-Zarr, which has no one file, of its sizes and the middle of its smallest copy.
        """
        if self._source.identity is not None:
            return self._source.identity()
        return identity_hash(file_of(self.path), self.properties)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of level 0."""
        return self._levels[0].shape

    @property
    def level_shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every level."""
        return tuple(level.shape for level in self._levels)

    @cached_property
    def levels(self) -> tuple[Any, ...]:
        """Read-only zarr arrays ``(H, W, 3)`` uint8, decoded chunk by chunk when indexed."""
        return zarr_arrays(self._levels)

    @property
    def associated_names(self) -> tuple[str, ...]:
        """Pictures stored beside the slide, such as ``label``, ``macro`` and ``thumbnail``."""
        return tuple(sorted(self._source.pictures))

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Decode one of those pictures, ``(h, w, 3)``; a label may show a patient's name.

        Raises
        ------
        ConfigError
            If there is no such picture.
        SlideError
            If it is damaged.
        """
        if name not in self._source.pictures:
            there = ", ".join(self.associated_names) or "none"
            raise ConfigError(f"{self.path.name} has no picture {name!r}, only {there}")
        return self._source.pictures[name]()

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the file, as known so far, one sentence each."""
        damaged = self.damaged_tiles
        found = list(self._source.warnings)
        if self.colors == "srgb" and self.icc_profile is None:
            found.append(NO_PROFILE)
        if damaged:
            tiles, are = ("1 tile", "is") if damaged == 1 else (f"{damaged} tiles", "are")
            found.append(f"{tiles} could not be decoded and {are} shown as background")
        return found

    @property
    def damaged_tiles(self) -> int:
        """Tiles met so far that could not be decoded and are shown as background."""
        return len(self._source.cache.damaged)

    @property
    def nbytes(self) -> int:
        """Memory that decoded pixels take now."""
        return self._source.cache.nbytes + sum(level.nbytes for level in self._source.levels)

    def forget(self) -> None:
        """Drop decoded tiles that can be read again."""
        self._source.cache.clear()

    def assume_mpp(self, mpp: float) -> None:
        """Take the user's word for the pixel size.

        Raises
        ------
        ConfigError
            If it is not between 0.05 and 20 µm.
        """
        if plausible_mpp(mpp) is None:
            low, high = MPP_RANGE
            raise ConfigError(f"{mpp!r} µm per pixel; a slide has between {low} and {high}")
        self.mpp, self.mpp_assumed = float(mpp), True

    def read(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        """Read a region of the grid with this downsample.

        Grid pixel ``i`` covers the level-0 interval ``[i * downsample, (i + 1) * downsample)``. It
        is averaged by area from the best level that is at least as sharp, or interpolated linearly
        where the slide itself is coarser. A sub-region equals the crop of a larger read.

        Parameters
        ----------
        region
            In pixels of that grid; white outside the slide.
        downsample
            Above 0; 0.5 reads at twice the slide's sharpness.

        Returns
        -------
        ndarray
            ``(region.height, region.width, 3)`` uint8.

        Raises
        ------
        ConfigError
            If the downsample is impossible or the region has more than 2^28 pixels.
        SlideError
            If the slide was closed.
        """
        if not (math.isfinite(downsample) and downsample > 0):
            raise ConfigError(f"downsample {downsample!r}; a finite number above 0 is needed")
        if region.area > MAX_READ_PIXELS:
            raise ConfigError(
                f"a read of {region.height} x {region.width} pixels; read it in parts of at most "
                f"{MAX_READ_PIXELS} pixels"
            )
        level, factor = self._level_for(downsample)
        if factor == 1.0:
            return level.read(region)
        side = max(1, int(_BLOCK_SIDE / max(factor, 1.0)))
        if max(region.shape) <= side:
            return _read_scaled(level, region, factor)
        out = np.empty((*region.shape, 3), np.uint8)
        for y in range(region.y, region.y1, side):
            for x in range(region.x, region.x1, side):
                block = Region.from_bounds(y, x, min(y + side, region.y1), min(x + side, region.x1))
                out[block.shifted(-region.y, -region.x).slices] = _read_scaled(level, block, factor)
        return out

    def thumbnail(self, max_side: int = 1024) -> tuple[NDArray[np.uint8], float]:
        """Read the whole slide at most ``max_side`` pixels high and wide, never enlarged.

        Returns
        -------
        image, downsample
            ``(h, w, 3)`` uint8 and the downsample of its grid.
        """
        if max_side < 1:
            raise ConfigError(f"thumbnail of {max_side} pixels; at least 1 is needed")
        downsample = max(1.0, max(self.shape) / max_side)
        return self.read(Region(0, 0, *grid_shape(self.shape, downsample)), downsample), downsample

    def close(self) -> None:
        """Release the file; further reads raise `SlideError`."""
        self._source.close()
        self._source.cache.clear()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Short and readable."""
        return f"Slide({str(self.path)!r}, {self.shape[0]} x {self.shape[1]}, mpp={self.mpp})"

    def _level_for(self, downsample: float) -> tuple[Level, float]:
        """Coarsest level at least as sharp, and the size of a grid pixel in its pixels."""
        usable = [i for i, d in enumerate(self.downsamples) if d <= downsample * 1.001]
        best = usable[-1] if usable else 0
        return self._levels[best], downsample / self.downsamples[best]


def open_slide(path: str | Path, *, mpp: float | None = None, colors: Colors = "stored") -> Slide:
    """Open a slide by its content, whatever its name.

    Parameters
    ----------
    path
        A file, or the folder of a DICOM slide or an OME-Zarr.
    mpp
        µm per level-0 pixel, where the user knows better than the file; marked as assumed unless
        the file says the same.
    colors
        ``"srgb"`` turns what is read into sRGB with the file's colour profile.

    Raises
    ------
    SlideError
        In one line: what was found, and what can be read.
    ConfigError
        If ``mpp`` is outside 0.05-20, or there are no such colours.
    """
    path = Path(path)
    slide = Slide(path, open_source(path))
    try:
        if mpp is not None and not (slide.mpp is not None and math.isclose(mpp, slide.mpp)):
            slide.assume_mpp(mpp)
        return slide.in_colors(colors)
    except (ConfigError, SlideError):
        slide.close()
        raise


def slide_info(slide: Slide) -> dict[str, Any]:
    """Describe a slide as ``genselfdiff info --json`` prints it."""
    bounds = slide.bounds
    return {
        "schema": 1,
        "path": str(slide.path),
        "hash": slide.hash,
        "levels": [
            {"height": height, "width": width, "downsample": downsample}
            for (height, width), downsample in list(
                zip(slide.level_shapes, slide.downsamples, strict=True)
            )[: slide.stored_levels]
        ],
        "mpp": slide.mpp,
        "mpp_assumed": slide.mpp_assumed,
        "reader": slide.reader,
        "bounds": None if bounds is None else [bounds.y, bounds.x, bounds.height, bounds.width],
        "warnings": slide.warnings,
    }


def _extended(
    stored: tuple[Level, ...], at: tuple[float, ...]
) -> tuple[tuple[Level, ...], tuple[float, ...]]:
    """Add halved levels until the coarsest fits a screen, so that no viewer loads a huge one."""
    levels, downsamples = list(stored), list(at)
    while max(levels[-1].shape) > _COARSEST_SIDE:
        levels.append(HalvedLevel(levels[-1]))
        downsamples.append(downsamples[-1] * 2)
    return tuple(levels), tuple(downsamples)


def _read_scaled(level: Level, region: Region, factor: float) -> NDArray[np.uint8]:
    rows = axis_taps(region.y, region.height, factor, level.shape[0])
    columns = axis_taps(region.x, region.width, factor, level.shape[1])
    pixels = level.read(Region(rows.first, columns.first, rows.source, columns.source))
    result = resample(pixels, rows, columns)
    if factor < 1:  # interpolation repeats the border; what lies beyond it is not the slide
        result[_outside(region.y, region.height, factor, level.shape[0])] = WHITE
        result[:, _outside(region.x, region.width, factor, level.shape[1])] = WHITE
    return result


def _outside(start: int, count: int, factor: float, limit: int) -> NDArray[np.bool_]:
    centres = (np.arange(start, start + count) + 0.5) * factor
    outside: NDArray[np.bool_] = (centres < 0) | (centres >= limit)
    return outside
