"""Small pictures stored beside a slide: its label, the whole glass (macro), a thumbnail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.pixels import over_white
from napari_genselfdiff.slides.tiff_level import TIFF_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Pictures = dict[str, Callable[[], NDArray[np.uint8]]]

PRIVATE: Final = frozenset({"label"})
"""Pictures that may show a patient's name: never shown unless asked for."""
MAX_PIXELS = 2**26
_MACRO = 9  # Aperio's subfile type of the photograph of the glass
_PAGES = 64


def tiff_pictures(path: Path, tif: Any) -> Pictures:
    """Find the pictures of an Aperio file by what their descriptions say; empty for others."""
    found: Pictures = {}
    if not tif.is_svs:
        return found
    try:
        for number in range(1, min(len(tif.pages), _PAGES)):
            page = tif.pages[number]
            name = None if page.is_tiled else _name(page, number)
            if name is not None and page.imagelength * page.imagewidth <= MAX_PIXELS:
                found.setdefault(name, _Page(path, number))
    except TIFF_ERRORS:
        return found  # the slide itself may still be sound
    return found


def openslide_pictures(handle: Any, name: str) -> Pictures:
    """Find the pictures OpenSlide knows of; ``handle.slide`` is the one open at the time."""
    keys = list(handle.slide.associated_images)
    return {str(key).lower(): _Associated(handle, key, name) for key in keys}


def _name(page: Any, number: int) -> str | None:
    words = str(page.description).lower().split("\n")[-1].split()[:1]
    if words and words[0] in {"label", "macro"}:
        return str(words[0])
    if int(page.subfiletype) == _MACRO:
        return "macro"
    return "thumbnail" if number == 1 and int(page.subfiletype) == 0 else None


class _Page:
    """A page decoded when it is asked for."""

    def __init__(self, path: Path, number: int) -> None:
        self._path, self._number = path, number

    def __call__(self) -> NDArray[np.uint8]:
        import tifffile

        try:
            with tifffile.TiffFile(self._path) as tif:
                page: Any = tif.pages[self._number]
                if sum(page.databytecounts) > self._path.stat().st_size:
                    raise SlideError(f"{self._path.name}: this picture is cut short")
                pixels = np.asarray(page.asarray())
        except TIFF_ERRORS as error:
            if isinstance(error, SlideError):
                raise
            text = " ".join(str(error).split()) or type(error).__name__
            raise SlideError(f"{self._path.name}: this picture is damaged: {text}") from error
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise SlideError(f"{self._path.name}: this picture has no 8-bit colours")
        if pixels.ndim == 2 or pixels.shape[2] < 3:
            pixels = np.repeat(pixels.reshape(*pixels.shape[:2], -1)[..., :1], 3, axis=2)
        return np.ascontiguousarray(pixels[..., :3])


class _Associated:
    """A picture read through an OpenSlide handle when it is asked for."""

    def __init__(self, handle: Any, key: str, name: str) -> None:
        self._handle, self._key, self._name = handle, key, name

    def __call__(self) -> NDArray[np.uint8]:
        import openslide

        try:
            rgba = np.asarray(self._handle.slide.associated_images[self._key])
        except (openslide.OpenSlideError, OSError, KeyError, ValueError) as error:
            text = " ".join(str(error).split())
            raise SlideError(f"{self._name}: this picture is damaged: {text}") from error
        return over_white(rgba[..., :3], rgba[..., 3:])
