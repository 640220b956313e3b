"""Segment a whole slide, or a region too large for the memory, block by block.

Blocks lie on a fixed grid. First the network answers for tiles, every tile once, and the answers
are kept in the run's folder; then a block is decided from the answers in it and a margin around it,
whoever computed them. An object belongs to the block that holds its first pixel (in reading order)
and is handed over whole, with everything around it, so that whoever stores the windows never sees a
part of an object that is smaller than the margin.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.prediction.answers import TileAnswer, TileReader, objects_of
from napari_genselfdiff.prediction.asking import batches
from napari_genselfdiff.prediction.confidence import object_confidences
from napari_genselfdiff.prediction.packing import TileCodec
from napari_genselfdiff.prediction.region import RegionDone, renumbered, to_store_window
from napari_genselfdiff.prediction.stopwatch import Stopwatch
from napari_genselfdiff.prediction.tiles import ScaleChoice, Tile, model_downsample, tile_at
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.runs import RunFolder
    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.prediction.network import Network, Probabilities
    from napari_genselfdiff.prediction.plan import Place
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.prediction.region import CarriesCard
    from napari_genselfdiff.registry.card import ModelCard
    from napari_genselfdiff.slides.slide import Slide

_FIRST_LOOK = 96  # px around a block in which objects are decided at first; most end within


@dataclass(slots=True)
class Spent:
    """What a piece of work did: tiles the network answered for, whole objects, seconds by step."""

    tiles: int = 0
    objects: int = 0
    stopped: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


class SlideWork:
    """What one worker does for one run: answer for tiles, decide on blocks.

    Parameters
    ----------
    slide, model, segmenter, profile
        As for :func:`~napari_genselfdiff.prediction.region.predict_region`.
    run
        Where answers and blocks are kept.
    region
        What the run segments, in pixels of the model's grid.
    store_downsample
        Level 0 / the grid the labels are stored on.
    """

    def __init__(
        self,
        slide: Slide,
        model: CarriesCard,
        segmenter: Segmenter,
        profile: Profile,
        run: RunFolder,
        region: Region,
        store_downsample: float,
    ) -> None:
        from napari_genselfdiff.prediction.network import Network

        self._slide, self._run, self._region = slide, run, region
        self._store_downsample = store_downsample
        self._card: ModelCard = model.card
        self._scale: ScaleChoice = model_downsample(slide.mpp, model.card.mpp_range)
        self._reader = TileReader(slide, model.card, self._scale)
        # Flips serve the confidence alone, and would make a slide take several times as long.
        self._network: Network = Network(segmenter, replace(profile, flips=1))
        self._batch = profile.batch
        self._codec = TileCodec(model.card.task.n_classes, model.card.tile, averaged=False)

    def predict(
        self, places: Sequence[Place], should_stop: Callable[[], bool] = lambda: False
    ) -> Spent:
        """Answer for those tiles that have no answer yet.

        The next tiles are read, and the last ones written, while the network is at work.
        """
        run, watch, spent = self._run, Stopwatch(), Spent()
        missing = [self._tile(p) for p in places if not run.has_tile(p)]
        groups = list(batches(missing, self._batch))
        with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "keep") as keeping:
            ahead = [reading.submit(self._reader.read, group) for group in groups[:1]]
            kept = []
            for number, group in enumerate(groups):
                if should_stop():
                    spent.stopped = True
                    break
                pixels = ahead.pop().result()
                if number + 1 < len(groups):
                    ahead.append(reading.submit(self._reader.read, groups[number + 1]))
                watch.lap("read")
                found = self._network(pixels)
                watch.lap("network")
                for index, tile in enumerate(group):
                    kept.append(keeping.submit(self._keep, tile, found, index))
                if len(kept) > 2 * self._batch:  # a slow disk must not fill the memory
                    for waiting in kept:
                        waiting.result()
                    kept.clear()
                spent.tiles += len(group)
                watch.lap("write")
            for waiting in kept:
                waiting.result()
        watch.lap("write")
        spent.seconds = watch.seconds
        return spent

    def decide(self, number: int, area: Region, around: Region, places: Sequence[Place]) -> Spent:
        """Decide on a block from answers, and keep its labels; what is missing is computed."""
        spent = self.predict(places)
        watch = Stopwatch()
        answers = [self._answer(place) for place in places]
        watch.lap("write")
        window, spent.objects = self._labels(answers, area, around)
        watch.lap("instances")
        self._run.write_block(number, window, {"objects": spent.objects})
        watch.lap("write")
        for step, seconds in watch.seconds.items():
            spent.seconds[step] = spent.seconds.get(step, 0.0) + seconds
        return spent

    def _tile(self, place: Place) -> Tile:
        return tile_at(*place, self._card.tile, self._card.halo)

    def _keep(self, tile: Tile, found: Probabilities, number: int) -> None:
        self._run.write_tile((tile.row, tile.column), self._codec.encode(found, number))

    def _answer(self, place: Place) -> TileAnswer:
        data, tile = self._run.read_tile(place), self._tile(place)
        found = None if data is None else self._codec.decode(data)
        if found is None:  # taken away or damaged since
            found = self._network(self._reader.read([tile]))
        return self._reader.decide([tile], found, preview=False)[0]

    def _labels(
        self, answers: list[TileAnswer], area: Region, around: Region
    ) -> tuple[Window, int]:
        """Labels of a block and of all its objects to their ends; how many are its own."""
        owned, reach = 0, area
        look = area.padded(_FIRST_LOOK).intersection(around) or area
        while True:
            labels = objects_of(answers, self._card, self._scale.mpp, around, look)
            objects = labels.objects
            if objects is None:
                break
            mine = _owned(objects, area.shifted(-around.y, -around.x))
            owned, reach = len(mine), _reach(objects, mine, around, area)
            if look.contains(reach):
                break
            look = reach
        cut = reach.shifted(-around.y, -around.x).slices
        sure = None
        if objects is not None:
            objects = renumbered(objects[cut])
            sure = object_confidences(objects, labels.confidence[cut], self._card, 1)
        done = RegionDone(
            reach,
            self._scale.downsample,
            self._scale.mpp,
            labels.classes[cut],
            objects,
            np.empty((0, 0), np.float16),
            confidences=sure,
        )
        return to_store_window(done, self._slide.shape, self._store_downsample), owned


def _owned(objects: NDArray[np.uint32], area: Region) -> NDArray[np.uint32]:
    """Ids of the objects whose first pixel lies in the area (of the array)."""
    flat = objects.ravel()
    inside = np.flatnonzero(flat)
    ids = flat[inside]
    first = np.full(int(ids.max(initial=0)) + 1, -1, np.int64)
    first[ids[::-1]] = inside[::-1]  # of a repeated index the last assignment stays
    y, x = np.divmod(first, objects.shape[1])
    mine = (first >= 0) & (y >= area.y) & (y < area.y1) & (x >= area.x) & (x < area.x1)
    return np.flatnonzero(mine).astype(np.uint32)


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


def pieces(window: Window, side: int) -> Iterator[Window]:
    """Cut a window into smaller ones of about ``side`` pixels, objects whole in one of them.

    Written one after the other they give the same as the window itself, and each takes less time.
    """
    height, width = window.region.shape
    at = window.region
    for y in range(0, height, side):
        for x in range(0, width, side):
            area = Region(y, x, min(side, height - y), min(side, width - x))
            if window.objects is not None:
                whole = Region(0, 0, height, width)
                area = _reach(window.objects, _owned(window.objects, area), whole, area)
            yield window.cropped(area.shifted(at.y, at.x))
