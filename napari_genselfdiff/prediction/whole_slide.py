"""Segment a whole slide, or a region too large for the memory, block by block.

Blocks lie on a fixed grid. Each is computed with a margin around it; the network still sees every
tile once, because tiles that the next blocks need are kept. An object belongs to the block that
holds its first pixel (in reading order) and is handed over whole, with everything around it, so
that whoever stores the windows never sees a part of an object that is smaller than the margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.answers import TileAnswer, TileReader, assemble
from napari_genselfdiff.prediction.region import (
    RegionDone,
    Stopwatch,
    batches,
    renumbered,
    to_store_window,
)
from napari_genselfdiff.prediction.tiles import (
    ScaleChoice,
    Tile,
    core_size,
    model_downsample,
    tiles_for,
)
from napari_genselfdiff.slides.geometry import Region, grid_shape
from napari_genselfdiff.slides.tissue import tissue_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.prediction.region import CarriesCard
    from napari_genselfdiff.registry.card import ModelCard
    from napari_genselfdiff.slides.slide import Slide

    Place = tuple[int, int]

MARGIN = 256  # px of the model's grid: 64 µm at 0.25 µm/px, more than any nucleus
_BLOCK = 2048
_TISSUE_MPP = 8.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will compute; all regions are in pixels of the model's grid.

    ``needs`` are the tiles of each block and its margin, ``last_use`` the block after which a tile
    is not needed any more.
    """

    region: Region
    scale: ScaleChoice
    blocks: tuple[Region, ...]
    needs: tuple[tuple[Tile, ...], ...]
    last_use: dict[Place, int]

    @property
    def total(self) -> int:
        """Number of tiles."""
        return len(self.last_use)


@dataclass(frozen=True, slots=True)
class SlideProgress:
    """How far a run is: tiles of the network, and the rest in seconds.

    ``written`` is the part of the store's grid that was just handed over, or None.
    """

    done: int
    total: int
    eta_s: float
    written: Region | None = None


@dataclass(frozen=True, slots=True)
class SlideDone:
    """A run that reached its end; ``objects`` counts them (0 for areas)."""

    blocks: int
    tiles: int
    objects: int
    seconds: dict[str, float]
    warning: str | None


def plan_slide(
    slide: Slide, card: ModelCard, region0: Region | None = None, *, block: int = _BLOCK
) -> Plan:
    """Decide which blocks and tiles to compute.

    Without ``region0`` it is the whole slide, glass left out.

    Raises
    ------
    ConfigError
        If the region is outside the slide, or the slide's resolution does not fit the model.
    """
    scale = model_downsample(slide.mpp, card.mpp_range)
    inside = Region(0, 0, *slide.shape) if region0 is None else region0.clipped(slide.shape)
    if inside is None:
        raise ConfigError(f"{region0} lies outside the slide of {slide.shape} px")
    region = inside.to_grid(scale.downsample)
    wanted = _tissue_test(slide, scale) if region0 is None else None
    core = core_size(card.tile, card.halo)
    side = max(1, block // core) * core
    blocks: list[Region] = []
    needs: list[tuple[Tile, ...]] = []
    last_use: dict[Place, int] = {}
    for place in sorted(tiles_for(region, side, 0), key=lambda tile: (tile.row, tile.column)):
        area = place.core.intersection(region)
        if area is None:
            continue
        around = _around(area, region)
        tiles = [t for t in _reading_order(around, card) if wanted is None or wanted(t)]
        if not any(t.core.intersection(area) for t in tiles):
            continue
        last_use.update({(t.row, t.column): len(blocks) for t in tiles})
        blocks.append(area)
        needs.append(tuple(tiles))
    return Plan(region, scale, tuple(blocks), tuple(needs), last_use)


def segment_slide(
    slide: Slide,
    model: CarriesCard,
    segmenter: Segmenter,
    profile: Profile,
    write: Callable[[Window], object],
    *,
    store_downsample: float,
    plan: Plan | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[SlideProgress | SlideDone]:
    """Segment block by block, with bounded memory.

    Parameters
    ----------
    slide, model, segmenter, profile
        As for :func:`~napari_genselfdiff.prediction.region.predict_region`.
    write
        Called with the labels of each block, in the store's grid; windows overlap where objects
        reach over a block's border, and agree there.
    store_downsample
        Level 0 / the store's grid.
    plan
        From :func:`plan_slide`; None is the whole slide.
    should_stop
        Asked before every batch of tiles; when it says yes, the iterator ends without SlideDone.
    """
    from napari_genselfdiff.prediction.network import Network

    card, watch = model.card, Stopwatch()
    plan = plan_slide(slide, card) if plan is None else plan
    reader, network = TileReader(slide, card, plan.scale), Network(segmenter, profile)
    answers: dict[Place, TileAnswer] = {}
    done = objects = 0
    watch.lap("prepare")
    for number, (area, tiles) in enumerate(zip(plan.blocks, plan.needs, strict=True)):
        missing = [t for t in tiles if (t.row, t.column) not in answers]
        for batch in batches(missing, profile.batch):
            if should_stop():
                return
            pixels = reader.read(batch)
            watch.lap("read")
            found = network(pixels)
            watch.lap("network")
            answers |= {(a.tile.row, a.tile.column): a for a in reader.decide(batch, found)}
            watch.lap("instances")
            done += len(batch)
            yield SlideProgress(done, plan.total, watch.elapsed / done * (plan.total - done))
            watch.skip()
        here = [answers[t.row, t.column] for t in tiles]
        labels, owned = _block_labels(here, card, plan, area)
        objects += owned
        watch.lap("instances")
        window = to_store_window(labels, slide.shape, store_downsample)
        write(window)
        watch.lap("write")
        answers = {k: a for k, a in answers.items() if plan.last_use[k] > number}
        eta = watch.elapsed / max(done, 1) * (plan.total - done)
        yield SlideProgress(done, plan.total, eta, window.region)
        watch.skip()
    seconds = watch.seconds | {"total": watch.elapsed}
    yield SlideDone(len(plan.blocks), done, objects, seconds, plan.scale.warning)


def _block_labels(
    answers: list[TileAnswer], card: ModelCard, plan: Plan, area: Region
) -> tuple[RegionDone, int]:
    """Labels of a block and of all its objects to their ends, and how many objects are its own."""
    around = _around(area, plan.region)
    labels = assemble(answers, card, plan.scale.mpp, around)
    reach, owned = area, 0
    if labels.objects is not None:
        mine = _owned(labels.objects, area.shifted(-around.y, -around.x))
        owned = len(mine)
        reach = _reach(labels.objects, mine, around, area)
    cut = reach.shifted(-around.y, -around.x).slices
    objects = None if labels.objects is None else renumbered(labels.objects[cut])
    done = RegionDone(
        reach,
        plan.scale.downsample,
        plan.scale.mpp,
        labels.classes[cut],
        objects,
        labels.confidence[cut].astype(np.float16),
    )
    return done, owned


def _owned(objects: NDArray[np.uint32], area: Region) -> NDArray[np.uint32]:
    """Ids of the objects whose first pixel lies in the area (of the array)."""
    ids, first = np.unique(objects.ravel(), return_index=True)
    y, x = np.divmod(first, objects.shape[1])
    inside = (y >= area.y) & (y < area.y1) & (x >= area.x) & (x < area.x1)
    return np.asarray(ids[inside & (ids > 0)])


def _reach(
    objects: NDArray[np.uint32], mine: NDArray[np.uint32], around: Region, area: Region
) -> Region:
    """The area, grown until it holds its own objects whole."""
    is_mine = np.zeros(int(objects.max(initial=0)) + 1, bool)
    is_mine[mine] = True
    found = is_mine[objects]
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    if rows.size == 0:
        return area
    return Region.from_bounds(
        min(area.y, around.y + int(rows[0])),
        min(area.x, around.x + int(columns[0])),
        max(area.y1, around.y + int(rows[-1]) + 1),
        max(area.x1, around.x + int(columns[-1]) + 1),
    )


def _around(area: Region, region: Region) -> Region:
    """A block and its margin, within what is computed at all."""
    around = area.padded(MARGIN).intersection(region)
    return area if around is None else around


def _reading_order(region: Region, card: ModelCard) -> list[Tile]:
    tiles = tiles_for(region, card.tile, card.halo)
    return sorted(tiles, key=lambda tile: (tile.row, tile.column))


def _tissue_test(slide: Slide, scale: ScaleChoice) -> Callable[[Tile], bool]:
    """Whether a tile sees any tissue, judged on a picture of the whole slide."""
    side = max(slide.shape) * (slide.mpp or 1.0) / _TISSUE_MPP
    image, downsample = slide.thumbnail(int(min(max(side, 512), 4096)))
    mask = tissue_mask(image)
    shape = grid_shape(slide.shape, downsample)

    def wanted(tile: Tile) -> bool:
        spot = tile.padded.from_grid(scale.downsample).to_grid(downsample).clipped(shape)
        return spot is not None and bool(mask[spot.slices].any())

    return wanted
