"""Slides and images on disk as sources of training patches, opened when first needed."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.tissue import tissue_mask

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.learning.data import Labels
    from napari_genselfdiff.learning.slide_cache import SlideCache
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

_log = logging.getLogger(__name__)
_MASK_FROM = 2048  # pixels; smaller pictures were cut from tissue by someone
_OVERVIEW = 1024  # pixels of the overview that tissue is looked for on
_CELLS = 256  # a side; so every place of tissue fits 16 bits
_DARK = 40  # of 255; the middle pixel of a bright-field slide is brighter
_MAX_SHRINK = 4.0  # a patch's pixels are averaged from at most so many a side; else read averaged


class Facts(NamedTuple):
    """What stays known of a picture once it was opened: a few numbers, however large it is."""

    shape: tuple[int, int]
    mpp: float | None
    downsamples: tuple[float, ...]


class Tissue(NamedTuple):
    """Squares of ``side`` level-0 pixels that hold tissue, as places in a grid ``columns`` wide."""

    places: NDArray[np.uint16]
    columns: int
    side: float

    def spot(self, rng: np.random.Generator) -> tuple[float, float]:
        """A random point (y, x) of the tissue, level-0 pixels."""
        row, column = divmod(int(self.places[rng.integers(len(self.places))]), self.columns)
        return (row + rng.random()) * self.side, (column + rng.random()) * self.side


class TissueCache:
    """Tissue of the slides used last, at most ``max_bytes`` of it; safe between threads."""

    def __init__(self, max_bytes: int = 64 * 2**20) -> None:
        self.max_bytes, self.nbytes = max_bytes, 0
        self._kept: OrderedDict[Path, Tissue] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> Tissue | None:
        """Give what is kept of a slide."""
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
            return self._kept.get(path)

    def put(self, path: Path, tissue: Tissue) -> None:
        """Keep it, dropping older ones."""
        with self._lock:
            if path in self._kept:
                return
            self._kept[path] = tissue
            self.nbytes += tissue.places.nbytes
            while self.nbytes > self.max_bytes and len(self._kept) > 1:
                self.nbytes -= self._kept.popitem(last=False)[1].places.nbytes


@dataclass
class FileSource:
    """A slide, plain image or zarr picture.

    ``given_mpp`` is used instead of what the file says, ``default_mpp`` where it says nothing;
    with ``need_mpp`` a picture without either is refused. Every method raises `SlideError` when
    the file cannot be read or has nothing to learn from; what is wrong with the file as a whole
    is remembered.
    """

    path: Path
    cache: SlideCache = field(repr=False)
    tissue_cache: TissueCache = field(repr=False)
    given_mpp: float | None = None
    default_mpp: float | None = None
    need_mpp: bool = False
    stretch_x: float = 1.0
    weight: float = 1.0
    _facts: Facts | None = field(default=None, repr=False)
    _problem: str = field(default="", repr=False)
    _damage_told: bool = field(default=False, repr=False)

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def mpp(self) -> float | None:
        return self._known().mpp

    @property
    def shape(self) -> tuple[int, int]:
        return self._known().shape

    def labels(self) -> Labels | None:
        return None

    def spot(self, rng: np.random.Generator) -> tuple[float, float] | None:
        """A random point (y, x) of its tissue in level-0 pixels; None: small, so all of it."""
        if max(self._known().shape) <= _MASK_FROM:
            return None
        tissue = self.tissue_cache.get(self.path)
        if tissue is None:
            try:
                with self.cache.lend(self.path) as slide:
                    tissue = find_tissue(slide)
            except (SlideError, OSError) as error:
                self._problem = str(error)
                raise
            self.tissue_cache.put(self.path, tissue)
        return tissue.spot(rng)

    def downsample_for(self, zoom: float) -> float:
        """Downsample to read at for patch pixels of ``zoom`` level-0 pixels: the nearest finer."""
        best = max((d for d in self._known().downsamples if d <= zoom * 1.001), default=1.0)
        return best if zoom / best <= _MAX_SHRINK else zoom / 2

    def window(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        """Pixels of a region of the grid with this downsample, ``(h, w, 3)``."""
        self._known()
        with self.cache.lend(self.path) as slide:
            pixels = slide.read(region, downsample)
            if slide.damaged_tiles and not self._damage_told:
                self._damage_told = True
                _log.warning("%s: some tiles cannot be decoded and are left white", self.path)
        return pixels

    def _known(self) -> Facts:
        if self._problem:
            raise SlideError(self._problem)
        if self._facts is None:
            try:
                with self.cache.lend(self.path) as slide:
                    self._facts = self._read_facts(slide)
            except (SlideError, OSError) as error:
                self._problem = str(error)
                raise
        return self._facts

    def _read_facts(self, slide: Slide) -> Facts:
        mpp = self.given_mpp or slide.mpp or self.default_mpp
        if mpp is None and self.need_mpp:
            raise SlideError(
                f"{self.path.name} does not say its pixel size, which this recipe needs; pass "
                "data.mpp=0.5 (µm per pixel) for the files that do not, or data.need_mpp=false"
            )
        return Facts(slide.shape, mpp, tuple(slide.downsamples[: slide.stored_levels]))


def find_tissue(slide: Slide) -> Tissue:
    """Where a slide has tissue, from an overview of at most 1024 pixels a side.

    Raises
    ------
    SlideError
        If it has none, or is dark as fluorescence is.
    """
    overview, downsample = slide.thumbnail(_OVERVIEW)
    if looks_dark(overview):
        raise SlideError(
            f"{slide.path.name} is dark nearly everywhere, as fluorescence is; "
            "bright-field slides are needed"
        )
    mask = tissue_mask(overview)
    if not mask.any():
        raise SlideError(f"{slide.path.name} holds no tissue")
    step = -(-max(mask.shape) // _CELLS)
    rows, columns = (-(-side // step) for side in mask.shape)
    padded = np.zeros((rows * step, columns * step), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    share = padded.reshape(rows, step, columns, step).mean(axis=(1, 3))
    full = np.flatnonzero(share >= 0.5)
    places = full if full.size else np.flatnonzero(share)
    return Tissue(places.astype(np.uint16), columns, step * downsample)


def looks_dark(rgb: NDArray[np.uint8]) -> bool:
    """Whether a picture has a dark ground and no pale place: not bright-field."""
    pale = np.percentile(rgb.min(axis=2), 95)
    return bool(np.median(rgb.mean(axis=2)) < _DARK and pale < 2.5 * _DARK)
