"""The grid a model works on: which resolution it reads, and the fixed tiles of that resolution.

Tiles lie on one grid that starts at the slide's origin, so a pixel belongs to the same tile, and is
seen with the same surroundings, whatever part of the slide the user looks at.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region

MAX_UPSAMPLING = 2.0
_SAME_SCALE = 0.05  # a network trained with scale augmentation does not see 5 %; resampling blurs


@dataclass(frozen=True, slots=True)
class ScaleChoice:
    """The resolution a slide is read at for one model.

    ``downsample`` maps level 0 to the model's grid, ``mpp`` is that grid's micrometre per pixel,
    ``warning`` says in words why the result may be worse than usual, or is None.
    """

    downsample: float
    mpp: float
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """One place of the fixed grid; both regions are in pixels of the model's grid.

    ``core`` is kept; ``padded`` is what the network reads, ``core`` and a halo on every side.
    """

    row: int
    column: int
    core: Region
    padded: Region


def model_downsample(slide_mpp: float | None, mpp_range: tuple[float, float]) -> ScaleChoice:
    """Pick the resolution of the model's range that is nearest to the slide's own.

    Parameters
    ----------
    slide_mpp
        Micrometre per pixel of level 0, or None where nobody knows it.
    mpp_range
        Lowest and highest micrometre per pixel the model was trained for.

    Raises
    ------
    ConfigError
        If the slide's resolution is unknown, or the slide is more than 2 times too coarse.
    """
    if slide_mpp is None:
        raise ConfigError(
            "the slide does not state its micrometre per pixel, and the model needs it; "
            "enter it in the Slide block or give --mpp"
        )
    low, high = mpp_range
    target = min(max(slide_mpp, low), high)
    downsample = target / slide_mpp
    if abs(downsample - 1) <= _SAME_SCALE:
        return ScaleChoice(1.0, slide_mpp)
    if downsample >= 1:
        return ScaleChoice(downsample, target)
    if downsample < (1 - 1e-9) / MAX_UPSAMPLING:
        raise ConfigError(
            f"the slide has {slide_mpp:g} µm/px, but the model works at {low:g}-{high:g} µm/px and "
            f"enlarges a slide at most {MAX_UPSAMPLING:g} times ({high * MAX_UPSAMPLING:g} µm/px); "
            "use a model for coarser slides, or correct the slide's µm/px if it is wrong"
        )
    warning = (
        f"the slide ({slide_mpp:g} µm/px) is coarser than the model's range "
        f"({low:g}-{high:g} µm/px) and is enlarged {1 / downsample:.2g} times: expect more mistakes"
    )
    return ScaleChoice(downsample, target, warning)


def colors_warning(colors: str, model_colors: str) -> str | None:
    """Say that a slide is read with other colours than a model learned from; None if not so."""
    if colors == model_colors:
        return None
    words = {"stored": "colours as slides store them", "srgb": "colours turned into sRGB"}
    return (
        f"the model learned from {words.get(model_colors, model_colors)}, and the slide is read "
        f"with {words.get(colors, colors)}: expect more mistakes"
    )


def core_size(tile: int, halo: int) -> int:
    """Side of the kept part of a tile; ConfigError if the halo leaves nothing of it."""
    core = tile - 2 * halo
    if halo < 0 or core < 1:
        raise ConfigError(f"a halo of {halo} px leaves {core} px of a tile of {tile} px")
    return core


def tile_at(row: int, column: int, tile: int, halo: int) -> Tile:
    """Give one tile of the fixed grid."""
    size = core_size(tile, halo)
    core = Region(row * size, column * size, size, size)
    return Tile(row, column, core, core.padded(halo))


def tiles_for(region: Region, tile: int, halo: int) -> list[Tile]:
    """Tiles whose cores cover a region, nearest to its centre first.

    Parameters
    ----------
    region
        In pixels of the model's grid.
    tile, halo
        Side of what the network reads and width of the context thrown away, in the same pixels.
    """
    size = core_size(tile, halo)
    rows = range(region.y // size, -(-region.y1 // size))
    columns = range(region.x // size, -(-region.x1 // size))
    # Doubled coordinates keep the centres whole numbers, so the order has no rounding in it.
    cy, cx = region.y + region.y1, region.x + region.x1

    def nearness(place: tuple[int, int]) -> tuple[int, int, int]:
        row, column = place
        dy, dx = (2 * row + 1) * size - cy, (2 * column + 1) * size - cx
        return dy * dy + dx * dx, row, column

    places = sorted(((row, column) for row in rows for column in columns), key=nearness)
    return [tile_at(row, column, tile, halo) for row, column in places]
