"""Segment one region of a slide, tile by tile, with results as they come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_genselfdiff.errors import ConfigError, JobFailedError
from napari_genselfdiff.prediction.answers import Labels, Readable, TileAnswer, TileReader, assemble
from napari_genselfdiff.prediction.asking import answers_for
from napari_genselfdiff.prediction.confidence import object_confidences, unsure
from napari_genselfdiff.prediction.stopwatch import Stopwatch
from napari_genselfdiff.prediction.tiles import ScaleChoice, Tile, model_downsample
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.prediction.cache import Shelf
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.card import ModelCard

MAX_REGION_PIXELS = 5000 * 5000  # about 1 GB while objects are split; more goes block by block


class CarriesCard(Protocol):
    """What is asked of a model beside its network."""

    @property
    def card(self) -> ModelCard: ...


class LoadableModel(CarriesCard, Protocol):
    """A model that can give its network."""

    def load(self) -> Segmenter: ...


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile's preview; ``core`` is in the model's grid, cut to the region asked for.

    ``classes`` has the shape of ``core``. ``eta_s`` is the expected rest in seconds.
    """

    core: Region
    downsample: float
    classes: NDArray[np.uint8]
    done: int
    total: int
    eta_s: float


@dataclass(frozen=True, slots=True)
class RegionDone:
    """The labels of a whole region.

    Parameters
    ----------
    region
        In pixels of the model's grid, which is level 0 divided by ``downsample``.
    downsample, mpp
        Of the model's grid.
    classes, objects, confidence
        Of ``region.shape``: class values, ids from 1 (None for areas), and the probability of the
        class that is drawn.
    seconds
        Time spent on "read", "network", "keep", "instances", "confidence" and "total".
    warning
        What the user should know about this result, or None.
    unsure
        Places of ``region.shape`` where the model is not sure, see
        :func:`~napari_genselfdiff.prediction.confidence.unsure`.
    profile
        What it was computed with.
    confidences
        By object id, how sure the model is of it, 0..1.
    """

    region: Region
    downsample: float
    mpp: float
    classes: NDArray[np.uint8]
    objects: NDArray[np.uint32] | None
    confidence: NDArray[np.float16]
    seconds: dict[str, float] = field(default_factory=dict)
    warning: str | None = None
    unsure: NDArray[np.bool_] | None = None
    profile: Profile | None = None
    confidences: NDArray[np.float64] | None = None


def predict_region(
    slide: Readable,
    model: CarriesCard,
    segmenter: Segmenter,
    region0: Region,
    profile: Profile,
    *,
    shelf: Shelf | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[TileDone | RegionDone]:
    """Segment a region: previews, the centre's first, then the labels of the whole.

    Parameters
    ----------
    slide
        Open slide (or anything that reads like one).
    model, segmenter
        The model's card, and its network.
    region0
        Level-0 pixels; what lies outside the slide is left out.
    profile
        Device, precision, threads, batch. The labels depend on it, and on nothing else of the
        machine's state: not on the order of tiles, nor on what was asked for before.
    shelf
        Where tiles computed earlier are found and new ones are kept.
    should_stop
        Asked before every batch of tiles; when it says yes, the iterator ends without labels.

    Raises
    ------
    ConfigError
        If the region is outside the slide or too large, or the slide's resolution does not fit.
    """
    from napari_genselfdiff.prediction.network import Network

    watch = Stopwatch()
    scale = model_downsample(slide.mpp, model.card.mpp_range)
    region = _on_grid(slide, region0, scale.downsample)
    reader, network = TileReader(slide, model.card, scale), Network(segmenter, profile)
    tiles = reader.needed(region)
    answers: list[TileAnswer] = []
    watch.lap("prepare")
    if should_stop():
        return
    for fresh in answers_for(tiles, reader, network, profile, shelf, watch):
        for answer in fresh:
            answers.append(answer)
            eta = watch.elapsed / len(answers) * (len(tiles) - len(answers))
            preview = _preview(answer, region, scale.downsample, len(answers), len(tiles), eta)
            if preview is not None:
                yield preview
        watch.skip()
        if should_stop():
            return
    labels = assemble(answers, model.card, scale.mpp, _cores(tiles))
    yield _done(labels, region, _cores(tiles), model.card, scale, profile, watch)


def _done(
    labels: Labels,
    region: Region,
    area: Region,
    card: ModelCard,
    scale: ScaleChoice,
    profile: Profile,
    watch: Stopwatch,
) -> RegionDone:
    """What is known of a region, of the labels of the area of all its tiles."""
    cut = region.shifted(-area.y, -area.x).slices
    objects = None if labels.objects is None else renumbered(labels.objects[cut])
    watch.lap("instances")
    hatched = unsure(labels.confidence, card, scale.mpp, profile.flips)[cut].copy()
    sure = None
    if objects is not None:
        sure = object_confidences(objects, labels.confidence[cut], card, profile.flips)
    watch.lap("confidence")
    return RegionDone(
        region,
        scale.downsample,
        scale.mpp,
        labels.classes[cut].copy(),
        objects,
        labels.confidence[cut].astype(np.float16),
        watch.seconds | {"total": watch.elapsed},
        scale.warning,
        hatched,
        profile,
        sure,
    )


def segment_region(
    slide: Readable,
    model: LoadableModel,
    region0: Region,
    profile: Profile,
    *,
    segmenter: Segmenter | None = None,
) -> RegionDone:
    """Segment a region in this process; the same labels as the plugin's Predict.

    ``segmenter`` saves loading the model's network again. See :func:`predict_region`.
    """
    network = model.load() if segmenter is None else segmenter
    for step in predict_region(slide, model, network, region0, profile):
        if isinstance(step, RegionDone):
            return step
    raise JobFailedError("the prediction ended without a result; please report this")


def to_store_window(
    done: RegionDone, slide_shape: tuple[int, int], store_downsample: float
) -> Window:
    """Bring labels to the grid they are stored on, by nearest neighbour.

    Parameters
    ----------
    done
        Labels in the model's grid.
    slide_shape
        Level-0 height and width.
    store_downsample
        Level 0 / the store's grid.

    Returns
    -------
    Window
        The pixels of the store whose centre lies in the region, all with provenance MODEL.

    Raises
    ------
    ConfigError
        If the region holds no pixel of the store.
    """
    from napari_genselfdiff.annotation.window import MODEL, Window

    place, pick = _store_pixels(done, slide_shape, store_downsample)
    objects = None if done.objects is None else done.objects[pick]
    provenance = np.full(place.shape, MODEL, np.uint8)
    return Window(place, done.classes[pick], objects, provenance, _by_id(done.confidences))


def unsure_in_store(
    done: RegionDone, slide_shape: tuple[int, int], store_downsample: float
) -> tuple[Region, NDArray[np.bool_]]:
    """Bring where the model is not sure to the grid of the store; as :func:`to_store_window`."""
    place, pick = _store_pixels(done, slide_shape, store_downsample)
    if done.unsure is None:
        return place, np.zeros(place.shape, bool)
    return place, np.asarray(done.unsure[pick])


def _by_id(confidences: NDArray[np.float64] | None) -> dict[int, float]:
    """Confidences that are known, by object id."""
    if confidences is None:
        return {}
    known = np.flatnonzero(confidences > 0)
    return dict(zip(known.tolist(), confidences[known].tolist(), strict=True))


def _store_pixels(
    done: RegionDone, slide_shape: tuple[int, int], store_downsample: float
) -> tuple[Region, tuple[NDArray[np.int64], ...]]:
    """Pixels of the store whose centre lies in a region, and which of its pixels is nearest."""
    model_shape = grid_shape(slide_shape, done.downsample)
    store_shape = grid_shape(slide_shape, store_downsample)
    ratio = store_downsample / done.downsample
    area = done.region
    y0, rows = _nearest(area.y, area.y1, ratio, model_shape[0], store_shape[0])
    x0, columns = _nearest(area.x, area.x1, ratio, model_shape[1], store_shape[1])
    if not (rows.size and columns.size):
        raise ConfigError(
            f"a region of {area.height} x {area.width} px is smaller than a pixel of the "
            "annotations; choose a larger one"
        )
    return Region(y0, x0, rows.size, columns.size), np.ix_(rows, columns)


def renumbered(objects: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Objects numbered from 1 in the order of their first pixel; 0 stays 0."""
    inside = np.flatnonzero(objects > 0)  # of booleans it is several times as fast
    if inside.size == 0:
        return np.zeros(objects.shape, np.uint32)
    ids = objects.ravel()[inside]
    first = np.full(int(ids.max()) + 1, -1, np.int64)
    first[ids[::-1]] = inside[::-1]  # of a repeated index the last assignment stays
    present = np.flatnonzero(first >= 0)
    number = np.zeros(len(first), np.uint32)
    number[present[np.argsort(first[present])]] = np.arange(1, len(present) + 1)
    renamed = np.zeros(objects.shape, np.uint32)
    renamed.ravel()[inside] = number[ids]
    return renamed


def _on_grid(slide: Readable, region0: Region, downsample: float) -> Region:
    inside = region0.clipped(slide.shape)
    if inside is None:
        raise ConfigError(
            f"the region (y {region0.y}, x {region0.x}, {region0.height} x {region0.width}) lies "
            f"outside the slide of {slide.shape[0]} x {slide.shape[1]} px"
        )
    region = inside.to_grid(downsample)
    if region.area > MAX_REGION_PIXELS:
        raise ConfigError(
            f"the region has {region.height} x {region.width} px at the model's resolution, more "
            f"than {MAX_REGION_PIXELS / 1e6:g} million; zoom in, or segment the whole slide"
        )
    return region


def _preview(
    answer: TileAnswer, region: Region, downsample: float, done: int, total: int, eta_s: float
) -> TileDone | None:
    """What a tile shows of the region; None for one that only fades into it."""
    core = answer.tile.core.intersection(region)
    if core is None:
        return None
    whole = answer.tile.core
    classes = answer.classes[core.shifted(-whole.y, -whole.x).slices].copy()
    return TileDone(core, downsample, classes, done, total, eta_s)


def _cores(tiles: list[Tile]) -> Region:
    """The rectangle that the cores fill."""
    return Region.from_bounds(
        min(t.core.y for t in tiles),
        min(t.core.x for t in tiles),
        max(t.core.y1 for t in tiles),
        max(t.core.x1 for t in tiles),
    )


def _nearest(
    start: int, stop: int, ratio: float, model_size: int, store_size: int
) -> tuple[int, NDArray[np.int64]]:
    """First store pixel along one axis, and for each the offset of its model pixel from start."""
    slack = 1e-9
    first = int(np.ceil(start / ratio - 0.5 - slack))
    last = int(np.ceil(stop / ratio - 0.5 - slack))
    # The slide's last pixel may be a sliver whose centre lies outside; it belongs to the border.
    last = store_size if stop >= model_size else min(last, store_size)
    places = np.arange(max(first, 0), last)
    source = np.floor((places + 0.5) * ratio + slack).astype(np.int64)
    return max(first, 0), np.clip(source, start, stop - 1) - start
