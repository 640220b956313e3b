"""What every reader hands to `Slide`, and the file access they share."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.levels import Level, TileCache, TileDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.slides.geometry import Region

READABLE = (
    "SVS, OME-TIFF and other TIFF files, OME-Zarr, PNG, JPEG and BMP images, with OpenSlide "
    "installed also NDPI, MRXS, SCN, BIF, VMS, CZI and DICOM slides, with wsidicom all DICOM slides"
)


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file: its pyramid and what it says about itself.

    Attributes
    ----------
    levels
        Sharpest first; every one has the same ``cache``.
    downsamples
        Size of level 0 over the size of each level.
    mpp
        µm per level-0 pixel as stored in the file, or None.
    bounds
        Level-0 region that holds the scanned areas, where the file states one.
    icc_profile
        Colour profile as stored, or what reads it.
    warnings
        What the user should know, in plain words.
    close
        Releases the file.
    identity
        Gives the slide's identity, 64 hexadecimal digits; None takes it from the file's bytes.
    pictures
        Label, macro, thumbnail and the like: each is decoded, ``(h, w, 3)``, when it is called.
    """

    reader: str
    levels: tuple[Level, ...]
    downsamples: tuple[float, ...]
    cache: TileCache
    properties: Mapping[str, str]
    mpp: float | None = None
    bounds: Region | None = None
    icc_profile: bytes | Callable[[], bytes | None] | None = None
    warnings: tuple[str, ...] = ()
    close: Callable[[], None] = field(default=lambda: None)
    identity: Callable[[], str] | None = None
    pictures: Mapping[str, Callable[[], NDArray[np.uint8]]] = field(default_factory=dict)


class SourceFile:
    """A file read by position from several threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        file = path.open("rb", buffering=0)
        self._file = file
        self._lock = threading.Lock()
        self._reads = 0
        self._closing = False
        self._finalizer = weakref.finalize(self, file.close)
        self.size = os.fstat(file.fileno()).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """Give ``count`` bytes from ``offset``.

        Raises
        ------
        TileDamagedError
            If the file ends before.
        SlideError
            If the slide was closed.
        """
        with self._lock:
            if self._closing:
                raise SlideError(f"{self.path.name} is closed; open it again")
            self._reads += 1
        try:
            data = self._read(offset, count)
        except (OSError, OverflowError) as error:
            raise TileDamagedError(f"{self.path.name}: {error}") from error
        finally:
            self._done()
        if len(data) != count:
            raise TileDamagedError(f"{self.path.name} ends at byte {offset + len(data)}")
        return data

    def close(self) -> None:
        """Refuse further reads; the last one in flight closes the file."""
        with self._lock:
            self._closing = True
            if self._reads == 0:
                self._finalizer()

    def _read(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(count) or b""

    def _done(self) -> None:
        with self._lock:
            self._reads -= 1
            if self._closing and self._reads == 0:
                self._finalizer()


def level_downsample(shape0: tuple[int, int], shape: tuple[int, int]) -> float | None:
    """Downsample of a level of this shape, or None if it does not show the same image.

    Sizes are rounded by the writer, so a quotient such as 2.0005 is the whole number it came from.
    """
    if min(shape) < 1 or shape[0] > shape0[0] or shape[1] > shape0[1]:
        return None
    ratios = shape0[0] / shape[0], shape0[1] / shape[1]
    whole = round(sum(ratios) / 2)
    if all(abs(n0 / whole - n) < 1.0 for n0, n in zip(shape0, shape, strict=True)):
        return float(whole)
    ratio = ratios[0] if shape[0] >= shape[1] else ratios[1]
    if all(abs(n0 / ratio - n) < 2.0 for n0, n in zip(shape0, shape, strict=True)):
        return ratio
    return None
