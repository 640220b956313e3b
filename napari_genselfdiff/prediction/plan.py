"""What a run over a whole slide computes: which tiles see tissue, and which blocks need them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.tiles import (
    ScaleChoice,
    Tile,
    core_size,
    model_downsample,
    tile_at,
    tiles_for,
)
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.tissue import tissue_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import ModelCard
    from napari_genselfdiff.slides.slide import Slide

Place = tuple[int, int]

MARGIN = 256  # px of the model's grid: 64 µm at 0.25 µm/px, more than any nucleus
BLOCK = 2048
"""Side of a block in pixels of the model's grid, about: a multiple of the tiles' cores."""
_TISSUE_MPP = 8.0
_DUST_UM2 = 10_000.0  # a square of 0.1 mm
_TISSUE_SIDE = 2560  # pixels of the picture tissue is found on, so that memory stays bounded


@dataclass(frozen=True)
class Plan:
    """Blocks of one run and the tiles they need; regions are in pixels of the model's grid.

    Parameters
    ----------
    region
        What is segmented.
    scale
        The model's grid.
    tile, halo
        Of the network, in pixels.
    block
        Side of a block as asked for.
    wanted
        ``(rows, columns)`` of the grid of tiles from the slide's origin: which are computed.
    """

    region: Region
    scale: ScaleChoice
    tile: int
    halo: int
    block: int
    wanted: NDArray[np.bool_]

    @cached_property
    def blocks(self) -> tuple[Region, ...]:
        """Areas with anything to compute, in reading order; they do not overlap."""
        core = core_size(self.tile, self.halo)
        side = max(1, self.block // core) * core
        places = sorted(tiles_for(self.region, side, 0), key=lambda t: (t.row, t.column))
        areas = (place.core.intersection(self.region) for place in places)
        return tuple(a for a in areas if a is not None and self.wanted[self._tiles_in(a)].any())

    @property
    def total(self) -> int:
        """Number of tiles."""
        return int((self._first >= 0).sum())

    @cached_property
    def _first(self) -> NDArray[np.int32]:
        """The block that needs a tile first, -1 for none."""
        first = np.full(self.wanted.shape, -1, np.int32)
        for number in range(len(self.blocks)):
            here = first[self.part(number)]
            here[(here < 0) & self.wanted[self.part(number)]] = number
        return first

    def around(self, number: int) -> Region:
        """A block and its margin, within what is computed at all."""
        area = self.blocks[number]
        return area.padded(MARGIN).intersection(self.region) or area

    def part(self, number: int) -> tuple[slice, slice]:
        """The rectangle of the grid of tiles that decides on a block."""
        return self._tiles_in(self.around(number))

    def needs(self, number: int) -> list[Place]:
        """Tiles (row, column) that decide on a block, in reading order."""
        part = self.part(number)
        rows, columns = np.nonzero(self.wanted[part])
        return list(
            zip((rows + part[0].start).tolist(), (columns + part[1].start).tolist(), strict=True)
        )

    def fresh(self, number: int) -> list[Place]:
        """Tiles a block needs and none before it; every tile is fresh exactly once."""
        return [place for place in self.needs(number) if self._first[place] == number]

    def sources(self, number: int) -> set[int]:
        """Blocks among whose fresh tiles are those this one needs."""
        found = self._first[self.part(number)]
        return set(np.unique(found[found >= 0]).tolist())

    def _tiles_in(self, region: Region) -> tuple[slice, slice]:
        size = core_size(self.tile, self.halo)
        return (
            slice(region.y // size, -(-region.y1 // size)),
            slice(region.x // size, -(-region.x1 // size)),
        )

    def tile_at(self, place: Place) -> Tile:
        """Give a tile of the grid."""
        return tile_at(*place, self.tile, self.halo)


def plan_slide(
    slide: Slide,
    card: ModelCard,
    region0: Region | None = None,
    *,
    block: int = BLOCK,
    threshold: float | None = None,
    tissue: Tissue | None = None,
) -> Plan:
    """Decide which blocks and tiles to compute.

    Parameters
    ----------
    slide, card
        The slide, and the model's card.
    region0
        Level-0 pixels; None is the whole slide, glass left out.
    block
        Side of a block in pixels of the model's grid.
    threshold
        Optical density above which it is tissue; None finds it.
    tissue
        What :func:`find_tissue` found with that threshold, if it was asked before.

    Raises
    ------
    ConfigError
        If the region is outside the slide, or the slide's resolution does not fit the model.
    """
    scale = model_downsample(slide.mpp, card.mpp_range)
    inside = Region(0, 0, *slide.shape) if region0 is None else region0.clipped(slide.shape)
    if inside is None:
        raise ConfigError(
            f"the region {region0} lies outside the slide of {slide.shape[0]} x "
            f"{slide.shape[1]} pixels"
        )
    size = core_size(card.tile, card.halo)
    region = inside.to_grid(scale.downsample)
    shape = -(-region.y1 // size), -(-region.x1 // size)
    wanted = np.ones(shape, bool)
    if region0 is None:
        found = find_tissue(slide, threshold) if tissue is None else tissue
        wanted = _seeing_tissue(found, card, scale, shape)
    return Plan(region, scale, card.tile, card.halo, block, wanted)


@dataclass(frozen=True)
class Tissue:
    """Where the tissue is: ``mask`` on the grid of ``downsample``, and the picture it is from."""

    mask: NDArray[np.bool_]
    picture: NDArray[np.uint8]
    downsample: float


def find_tissue(slide: Slide, threshold: float | None = None) -> Tissue:
    """Find the tissue on a picture of the whole slide."""
    side = max(slide.shape) * (slide.mpp or 1.0) / _TISSUE_MPP
    picture, downsample = slide.thumbnail(int(min(max(side, 512), _TISSUE_SIDE)))
    smallest = None  # on a large slide a share of the picture would be a biopsy
    if slide.mpp is not None:
        smallest = max(1, round(_DUST_UM2 / (slide.mpp * downsample) ** 2))
    return Tissue(tissue_mask(picture, threshold, smallest), picture, downsample)


def _seeing_tissue(
    tissue: Tissue, card: ModelCard, scale: ScaleChoice, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which tiles see any tissue: their padded regions, widened to whole pixels of the picture."""
    factor = scale.downsample / tissue.downsample
    total = np.pad(tissue.mask.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    ends = []
    for number, size in zip(shape, tissue.mask.shape, strict=True):
        start = np.arange(number) * core_size(card.tile, card.halo) - card.halo
        first = np.floor(start * factor).astype(np.int64).clip(0, size)
        last = np.ceil((start + card.tile) * factor).astype(np.int64).clip(0, size)
        ends.append((first[:, None], last[:, None]))
    (y, y1), (x, x1) = ends
    seen = total[y1, x1.T] - total[y, x1.T] - total[y1, x.T] + total[y, x.T]
    return np.asarray(seen > 0)
