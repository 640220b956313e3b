"""Scanner formats through OpenSlide; its handle is dead after any error and is opened anew."""

from __future__ import annotations

import functools
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.associated import openslide_pictures
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.levels import Level, Tile, TileCache, TileDamagedError
from napari_genselfdiff.slides.metadata import mean_mpp, to_float
from napari_genselfdiff.slides.pixels import over_white
from napari_genselfdiff.slides.source import Source, level_downsample

if TYPE_CHECKING:
    from pathlib import Path

_SIDE = 512
_CACHE_BYTES = 32 * 2**20
_INSTALL = "pip install openslide-python openslide-bin"


def openslide_vendor(path: Path) -> str | None:
    """Name of the scanner format OpenSlide sees in a file; None if none or not installed."""
    openslide = _library()
    if openslide is None:
        return None
    try:
        vendor = openslide.OpenSlide.detect_format(str(path))
    except (openslide.OpenSlideError, OSError):
        return None
    return str(vendor) if vendor is not None else None


def openslide_missing() -> bool:
    """Tell whether OpenSlide is not installed."""
    return _library() is None


def open_with_openslide(path: Path, kind: str) -> Source:
    """Open a slide of a scanner's own format.

    Parameters
    ----------
    kind
        What it is, for the message.

    Raises
    ------
    SlideError
        If OpenSlide is missing or cannot open it.
    """
    openslide = _library()
    if openslide is None:
        raise SlideError(f"{path.name} is a {kind} slide, which needs OpenSlide: {_INSTALL}")
    handle = _Handle(openslide, path)
    slide = handle.slide
    shapes = [(int(height), int(width)) for width, height in slide.level_dimensions]
    if not shapes or min(min(shape) for shape in shapes) < 1:
        handle.close()
        raise SlideError(f"{path.name}: OpenSlide finds no image in this {kind} slide")
    properties = _properties(slide)
    cache = TileCache()
    downsamples = tuple(
        level_downsample(shapes[0], shape) or float(slide.level_downsamples[i])
        for i, shape in enumerate(shapes)
    )
    levels = tuple(
        OpenSlideLevel(handle, i, shape, float(slide.level_downsamples[i]), cache)
        for i, shape in enumerate(shapes)
    )
    return Source(
        reader="openslide",
        levels=levels,
        downsamples=downsamples,
        cache=cache,
        properties=properties,
        mpp=mean_mpp(*(to_float(properties.get(f"openslide.mpp-{axis}")) for axis in "yx")),
        bounds=_bounds(properties),
        icc_profile=handle.profile,
        close=handle.close,
        pictures=openslide_pictures(handle, path.name),
    )


def _properties(slide: Any) -> dict[str, str]:
    """What the file says of itself; what has a name that is no UTF-8 cannot be asked for."""
    found = {}
    for name in slide.properties:
        with suppress(KeyError):
            found[str(name)] = str(slide.properties[name])
    return found


def _library() -> Any:
    try:
        import openslide
    except (ImportError, OSError):  # OSError: the package without its library
        return None
    return openslide


@functools.cache
def _shared_cache(openslide: Any) -> Any:
    """OpenSlide's own cache, one for all slides: each of a thousand would keep 32 MiB else."""
    return openslide.OpenSlideCache(_CACHE_BYTES)


def _bounds(properties: dict[str, str]) -> Region | None:
    names = ("y", "x", "height", "width")
    values = [to_float(properties.get(f"openslide.bounds-{name}")) for name in names]
    numbers = [int(value) for value in values if value is not None]
    if len(numbers) != 4 or min(numbers[2:]) < 1:
        return None
    return Region(*numbers)


class _Handle:
    """One OpenSlide handle, replaced after an error; reads in flight keep the old one alive."""

    def __init__(self, openslide: Any, path: Path) -> None:
        self.errors = (openslide.OpenSlideError, OSError, ValueError)
        self._openslide = openslide
        self._path = path
        self._lock = threading.Lock()
        self._open = True
        self.slide = self._new()

    def _new(self) -> Any:
        try:
            slide = self._openslide.OpenSlide(str(self._path))
            if not self._openslide.__library_version__.startswith("3."):  # which cannot share
                slide.set_cache(_shared_cache(self._openslide))
        except self.errors as error:
            text = " ".join(str(error).split())
            raise SlideError(f"{self._path.name}: OpenSlide cannot open it: {text}") from error
        return slide

    def read(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Tile:
        """RGB pixels, transparent ones white; ``location`` and ``size`` in OpenSlide's (x, y)."""
        slide = self.slide
        if not self._open:
            raise SlideError(f"{self._path.name} is closed; open it again")
        try:
            rgba = np.asarray(slide.read_region(location, level, size))
        except self.errors as error:
            with self._lock:
                if self.slide is slide:
                    self.slide = self._new()
            raise TileDamagedError(f"{self._path.name}: {error}") from error
        return over_white(rgba[..., :3], rgba[..., 3:])

    def profile(self) -> bytes | None:
        """Colour profile of the slide; None where it has none that can be read."""
        try:
            found = self.slide.color_profile
        except (*self.errors, AttributeError):  # before OpenSlide 4 there were none
            return None
        return None if found is None else bytes(found.tobytes())

    def close(self) -> None:
        """Refuse further reads; the handle goes with its last user."""
        self._open = False


class OpenSlideLevel(Level):
    """Tiles cut by ourselves; OpenSlide's own ones may be 8 rows high or overlap.

    ``downsample`` is OpenSlide's own, by which it divides locations; a level's size is rounded, so
    it may differ a little from the true one.
    """

    def __init__(
        self,
        handle: _Handle,
        index: int,
        shape: tuple[int, int],
        downsample: float,
        cache: TileCache,
    ) -> None:
        super().__init__(shape, (_SIDE, _SIDE), cache)
        self._handle = handle
        self._index = index
        self._downsample = downsample

    def decode(self, row: int, column: int) -> Tile:
        """Read one tile; outside the level it is transparent, so white."""
        height, width = self.tile_shape
        location = (
            round(column * width * self._downsample),
            round(row * height * self._downsample),
        )
        return self._handle.read(location, self._index, (width, height))
