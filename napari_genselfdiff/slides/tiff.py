"""SVS, OME-TIFF, generic pyramids and flat TIFF files, tile by tile."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.associated import tiff_pictures
from napari_genselfdiff.slides.levels import TileCache, TileDamagedError
from napari_genselfdiff.slides.metadata import (
    aperio_properties,
    mean_mpp,
    ome_mpp,
    plausible_mpp,
    resolution_mpp,
    to_float,
)
from napari_genselfdiff.slides.pixels import ToRGB, white_level
from napari_genselfdiff.slides.source import Source, SourceFile, level_downsample
from napari_genselfdiff.slides.tiff_level import (
    APERIO_YCBCR,
    LOSSLESS,
    TIFF_ERRORS,
    Layout,
    TiffLevel,
    layout,
)

if TYPE_CHECKING:
    from pathlib import Path

VENDORS = {"ndpi": "Hamamatsu NDPI", "scn": "Leica SCN", "bif": "Ventana BIF", "philips": "Philips"}
_MAX_PAGES = 1000
_LOOKS = 16  # segments looked at to find the range of 16-bit samples
_PHOTOMETRICS = (0, 1, 2, 3, 6)  # white is zero, black is zero, RGB, palette, YCbCr


class VendorFormatError(SlideError):
    """A scanner's own kind of TIFF, which OpenSlide reads properly."""

    def __init__(self, name: str, vendor: str) -> None:
        super().__init__(f"{name} is a {vendor} slide")
        self.vendor = vendor


@dataclass(slots=True)
class _Pyramid:
    """Pages of each level (one a channel), sharpest first."""

    levels: list[list[Any]]
    warnings: list[str]


def open_tiff(path: Path) -> Source:
    """Open a TIFF file.

    Raises
    ------
    VendorFormatError
        If it is a scanner's own format.
    SlideError
        If it is damaged beyond use or of a kind that is not supported.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            for flag, vendor in VENDORS.items():
                if getattr(tif, f"is_{flag}"):
                    raise VendorFormatError(path.name, vendor)
            return _open(path, tif)
    except SlideError:
        raise
    except TIFF_ERRORS as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise SlideError(f"{path.name} is not a usable TIFF file: {text}") from error


def _open(path: Path, tif: Any) -> Source:
    pyramid = _ome_pyramid(tif) if tif.is_ome else None
    if pyramid is None or [len(pages) for pages in pyramid.levels] == [1]:
        # Some writers store the smaller copies as images of their own.
        chain = _page_pyramid(tif)
        if pyramid is None or len(chain.levels) > 1:
            pyramid = chain
    base = pyramid.levels[0][0].keyframe
    file = SourceFile(path)
    try:
        layouts, downsamples, warnings = _layouts(pyramid, path.name, file.size)
        cache = TileCache()
        to_rgb, notes = _conversion(base, layouts, file, cache)
        levels = tuple(TiffLevel(one, file, to_rgb, cache) for one in layouts)
    except BaseException:
        file.close()
        raise
    return Source(
        reader="tiff",
        levels=levels,
        downsamples=downsamples,
        cache=cache,
        properties=_properties(base),
        mpp=_mpp(base, layouts[0].shape),
        icc_profile=base.iccprofile,
        warnings=(*pyramid.warnings, *warnings, *notes),
        close=file.close,
        pictures=tiff_pictures(path, tif),
    )


def _ome_pyramid(tif: Any) -> _Pyramid | None:
    """Pages of the largest image of an OME-TIFF; None if its XML describes nothing usable."""
    try:
        series = max(tif.series, key=lambda one: one.keyframe.imagelength * one.keyframe.imagewidth)
        warnings = []
        if not set(series.axes) <= set("YXSCZTQI"):
            return None
        levels = []
        for one in series.levels:
            pages = [page for page in one.pages if page is not None]
            channels = _first_plane(one.axes, one.shape)
            levels.append(pages[:channels])
        if not levels or not all(levels):
            return None
        extra = len(series.levels[0].pages) - len(levels[0])
        if extra > 0:
            warnings.append(f"{extra} further planes (channels, focus or time) are not shown")
    except TIFF_ERRORS:
        return None
    return _Pyramid(levels, warnings)


def _first_plane(axes: str, shape: tuple[int, ...]) -> int:
    """How many pages, from the first on, make up the channels that are shown."""
    sizes = dict(zip(axes, shape, strict=True))
    # Channels are consecutive pages only if they are the innermost of the axes before Y.
    outer = axes.split("Y")[0]
    return min(sizes.get("C", 1), 3) if outer.endswith("C") and "S" not in sizes else 1


def _page_pyramid(tif: Any) -> _Pyramid:
    pages, warnings = [], []
    try:
        pages = list(itertools.islice(_chain(tif), _MAX_PAGES))
        # Frames are further planes of the size of the page before them, never smaller copies.
        pages = [page for page in pages if isinstance(page, tifffile.TiffPage)]
    except TIFF_ERRORS:
        pages = [tif.pages.first]
        warnings.append("the file is damaged after its first image; smaller copies were not found")
    tiled = [page for page in pages if page.is_tiled]
    base = max(tiled or pages, key=lambda page: page.imagelength * page.imagewidth)
    first = pages[0]
    if min(first.imagelength, first.imagewidth) < 1:
        base = first  # refused later; a smaller copy must not pass for the slide
    levels = [base]
    shape0 = base.imagelength, base.imagewidth
    for page in sorted(pages, key=lambda one: -one.imagelength * one.imagewidth):
        shape = page.imagelength, page.imagewidth
        fits = level_downsample(shape0, shape)
        if fits is not None and fits > 1.01 and _alike(page, base, levels[-1]):
            levels.append(page)
    return _Pyramid([[page] for page in levels], warnings)


def _chain(tif: Any) -> Any:
    """Every page of the file, and the smaller copies hanging below the first."""
    yield from tif.pages
    if tif.pages.first.subifds:
        yield from tif.pages.first.pages


def _alike(page: Any, base: Any, last: Any) -> bool:
    return bool(
        page.is_tiled == base.is_tiled
        and page.dtype == base.dtype
        and page.samplesperpixel == base.samplesperpixel
        and page.subfiletype != 9  # Aperio's photograph of the whole glass
        and page.imagelength < last.imagelength
    )


def _layouts(
    pyramid: _Pyramid, name: str, file_size: int
) -> tuple[list[Layout], tuple[float, ...], list[str]]:
    """Check every level; level 0 must be sound, smaller ones are left out if they are not."""
    first = layout(pyramid.levels[0], name)
    lost, total = first.beyond(file_size)
    if lost == total:
        raise SlideError(f"{name} ends before its first pixel ({file_size} bytes); copy it again")
    warnings = []
    if lost:
        warnings.append(f"{lost} of {total} pieces lie beyond the end of the file: it is cut short")
    layouts, downsamples = [first], [1.0]
    for pages in pyramid.levels[1:]:
        try:
            smaller = layout(pages, name)
        except (SlideError, *TIFF_ERRORS):
            continue
        downsample = level_downsample(first.shape, smaller.shape)
        sound = smaller.beyond(file_size)[0] == 0 and len(smaller.planes) == len(first.planes)
        if downsample is not None and downsample > downsamples[-1] and sound:
            layouts.append(smaller)
            downsamples.append(downsample)
    if len(layouts) < len(pyramid.levels):
        missing = len(pyramid.levels) - len(layouts)
        warnings.append(f"smaller copies of the image that are damaged and left out: {missing}")
    return layouts, tuple(downsamples), warnings


def _conversion(
    page: Any, layouts: list[Layout], file: SourceFile, cache: TileCache
) -> tuple[ToRGB, list[str]]:
    photometric = int(page.photometric)
    if photometric not in _PHOTOMETRICS:
        kind = getattr(page.photometric, "name", photometric)
        raise SlideError(f"{file.path.name}: {kind} colours are not supported; save it as RGB")
    if photometric == 3 and page.colormap is not None:
        return ToRGB(palette=(page.colormap.T >> 8).astype(np.uint8)), []
    notes = []
    white = 255.0
    if page.dtype != np.uint8 and page.dtype != np.bool_:
        white = _white_level(TiffLevel(layouts[-1], file, ToRGB(), cache), layouts[-1].grid)
        notes.append(f"{page.dtype} samples are shown as 8-bit; {white:g} is white")
    channels = sum(plane.samples for plane in layouts[0].planes)
    if channels > 3 and not page.extrasamples:
        notes.append(f"the first three of {channels} channels are shown as red, green and blue")
    to_rgb = ToRGB(
        white=white,
        inverted=photometric == 0,
        ycbcr=page.compression == APERIO_YCBCR
        or (photometric == 6 and page.compression in LOSSLESS),
        alpha=bool(page.extrasamples) and int(page.extrasamples[0]) == 2,
    )
    return to_rgb, notes


def _white_level(level: TiffLevel, grid: tuple[int, int]) -> float:
    """Look at some segments of the smallest level, evenly spread."""
    total = grid[0] * grid[1]
    looks: list[float] = []
    for number in sorted({i * total // _LOOKS for i in range(_LOOKS)}):
        try:
            looks.append(white_level(level.samples(number // grid[1], number % grid[1])))
        except TileDamagedError:
            continue
    return max(looks, default=255.0)


def _properties(page: Any) -> dict[str, str]:
    description = str(page.description)
    properties = {"tiff.ImageDescription": description, **aperio_properties(description)}
    for name in ("Make", "Model", "Software", "DateTime"):
        tag = page.tags.get(name)
        if tag is not None:
            properties[f"tiff.{name}"] = str(tag.value)
    return properties


def _mpp(page: Any, shape: tuple[int, int]) -> float | None:
    description = str(page.description)
    aperio = plausible_mpp(to_float(aperio_properties(description).get("aperio.MPP")))
    if aperio is not None:
        return aperio
    ome = ome_mpp(description, shape)
    if ome is not None or 282 not in page.tags or 283 not in page.tags:
        return ome
    x, y = page.resolution
    return mean_mpp(resolution_mpp((y, x), int(page.resolutionunit), description), None)
