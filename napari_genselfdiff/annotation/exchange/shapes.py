"""Everything annotated in a task as polygons, block by block, whatever the size of the slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_genselfdiff.annotation.exchange.measured import EDGE
from napari_genselfdiff.annotation.exchange.outlines import (
    Boundary,
    Outline,
    fill,
    outlines,
    ring_edges,
)
from napari_genselfdiff.annotation.exchange.watching import nobody, part_of, watched
from napari_genselfdiff.annotation.labelling import compact, counts
from napari_genselfdiff.annotation.pyramid import split
from napari_genselfdiff.annotation.window import HUMAN, Window
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.exchange.measured import AreaForm
    from napari_genselfdiff.annotation.exchange.watching import Watch
    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.annotation.store import AnnotationStore

    Measurer = Callable[[Region, NDArray[np.uint32], NDArray[np.intp]], NDArray[np.float64]]
    NewForm = Callable[[], AreaForm]

BLOCK = 2048  # pixels of the grid looked at together
_MARGIN = 256  # beyond a block, so that most objects are seen whole
_FARTHEST = 16384  # objects larger than this are shown as far as they were found


@dataclass(frozen=True, slots=True)
class Polygon:
    """An exterior ring and its holes, (n, 2) pixel corners (x, y) of the grid, not closed."""

    exterior: NDArray[np.int64]
    holes: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """An object, or a connected area.

    ``id`` is the object's, 0 for an area; ``pixels`` are of the grid; ``centroid`` is its mean
    (row, column); ``provenance`` the pixels that are MODEL, ACCEPTED and HUMAN; ``measured`` what
    the caller of :func:`shapes` measures.
    """

    id: int
    value: int
    polygons: tuple[Polygon, ...]
    pixels: int
    centroid: tuple[float, float]
    provenance: tuple[int, int, int]
    measured: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectStats:
    """What is known of n objects of one window, an element each.

    ``codes`` numbers their pixels from 1 in the order of the rest, (h, w). ``pixels``, ``rows`` and
    ``columns`` (of the mean) are of the grid; ``sources`` are the pixels that are MODEL, ACCEPTED
    and HUMAN, (n, 3); ``measured`` is what the measurer gave.
    """

    codes: NDArray[np.intp]
    ids: NDArray[np.uint32]
    values: NDArray[np.uint8]
    pixels: NDArray[np.intp]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    sources: NDArray[np.intp]
    measured: NDArray[np.float64]


def shapes(
    store: AnnotationStore,
    task_name: str,
    measurer: Measurer | None = None,
    *,
    new_form: NewForm | None = None,
    within: Roi | None = None,
    watch: Watch = nobody,
) -> Iterator[Shape]:
    """Give every object of a task, or every connected area, once, from top to bottom.

    ``measurer`` is called with the region (task's grid) of a window, the ids of its objects (of
    which the first is 0, no object) and each pixel's place among these; it gives a row of numbers
    for each. ``new_form`` makes what measures an area. ``within`` leaves out objects whose centroid
    lies outside a region of interest, and cuts areas at its border.
    """
    if store.tasks[task_name].kind == "areas":
        yield from _areas(store, task_name, new_form, within, watch)
        return
    downsample = store.downsample(task_name)
    for window, ids in whole_objects(store, task_name, watch):
        for shape in shapes_in(window, ids, measurer):
            if within is None or _lies_in(within, shape, downsample):
                yield shape


def object_stats(
    store: AnnotationStore,
    task_name: str,
    measurer: Measurer | None = None,
    watch: Watch = nobody,
) -> Iterator[ObjectStats]:
    """Give every object of a task once, without its outline, which takes most of the time."""
    for window, ids in whole_objects(store, task_name, watch):
        if len(ids):
            yield _stats(window, ids, measurer)


def whole_objects(
    store: AnnotationStore, task_name: str, watch: Watch = nobody
) -> Iterator[tuple[Window, NDArray[np.uint32]]]:
    """Windows and the ids of objects that lie whole in them; every object comes once.

    An object belongs to the block of its first pixel. One that reaches beyond the margin of that
    block comes at the end, in a window of its own.
    """
    cut: dict[int, Region] = {}
    for block in watched(store.annotated_blocks(task_name, BLOCK), watch):
        window, ids, more = objects_of_block(store, task_name, block)
        yield window, ids
        cut.update(more)
    yield from large_objects(store, task_name, cut)


def objects_of_block(
    store: AnnotationStore, task_name: str, block: Region
) -> tuple[Window, NDArray[np.uint32], dict[int, Region]]:
    """Window around a block, the ids of its objects, and those that leave the window.

    The last are given with the window's region, for :func:`large_objects`.
    """
    window = store.read(task_name, block.padded(_MARGIN))
    ids, codes = compact(window.ids)
    whole = counts(codes, len(ids)) >= store.object_rows(task_name, ids)[:, 1]
    rows, columns = np.divmod(_first_pixels(codes, len(ids)), codes.shape[1])
    rows, columns = rows + window.region.y, columns + window.region.x
    here = (rows >= block.y) & (rows < block.y1) & (columns >= block.x) & (columns < block.x1)
    here[0] = False
    inner = block.shifted(-window.region.y, -window.region.x).slices
    cut = (counts(codes[inner], len(ids)) > 0) & ~whole
    more = dict.fromkeys(ids[cut][ids[cut] > 0].tolist(), window.region)
    return window, ids[here & whole], more


def large_objects(
    store: AnnotationStore, task_name: str, cut: dict[int, Region]
) -> Iterator[tuple[Window, NDArray[np.uint32]]]:
    """Objects that left the windows of their blocks, each in a window of its own."""
    for object_id, region in sorted(cut.items()):
        window = _grown(store, task_name, object_id, region)
        if not _came_with_block(window, object_id):
            yield window, np.array([object_id], np.uint32)


def _grown(store: AnnotationStore, task_name: str, object_id: int, region: Region) -> Window:
    """Window that holds a large object whole."""
    area = int(store.object_rows(task_name, np.array([object_id], np.uint32))[0, 1])
    while True:
        window = store.read(task_name, region)
        if int((window.ids == object_id).sum()) >= area or max(region.shape) > _FARTHEST:
            return window
        region = region.padded(max(region.shape) // 2)


def _came_with_block(window: Window, object_id: int) -> bool:
    """Whether the block of the object's first pixel showed it whole, and so gave it already."""
    rows, columns = np.nonzero(window.ids == object_id)
    rows, columns = rows + window.region.y, columns + window.region.x
    owner = Region(rows[0] // BLOCK * BLOCK, columns[0] // BLOCK * BLOCK, BLOCK, BLOCK)
    box = Region.from_bounds(rows[0], columns.min(), rows[-1] + 1, columns.max() + 1)
    return owner.padded(_MARGIN).contains(box)


def polygons(rings: Iterable[Outline]) -> dict[int, list[Polygon]]:
    """Put the holes of each label into the exterior ring they belong to."""
    exteriors: dict[int, list[Outline]] = {}
    holes: dict[int, list[Outline]] = {}
    for ring in rings:
        (exteriors if ring.area > 0 else holes).setdefault(ring.label, []).append(ring)
    result = {}
    for label, outer in exteriors.items():
        inner: list[list[NDArray[np.int64]]] = [[] for _ in outer]
        for index, hole in _owners(outer, holes.get(label, [])):
            inner[index].append(hole.points)
        pairs = zip(outer, inner, strict=True)
        result[label] = [Polygon(ring.points, tuple(cut)) for ring, cut in pairs]
    return result


def _owners(outer: list[Outline], holes: list[Outline]) -> Iterator[tuple[int, Outline]]:
    """Each hole with the smallest exterior ring around the label's pixel beside it."""
    if len(outer) == 1 or not holes:
        yield from ((0, hole) for hole in holes)
        return
    tree = shapely.STRtree([shapely.Polygon(ring.points) for ring in outer])
    places = [shapely.Point(hole.pixel[1] + 0.5, hole.pixel[0] + 0.5) for hole in holes]
    found: dict[int, int] = {}
    for hole, index in tree.query(places, predicate="within").T.tolist():
        if hole not in found or outer[index].area < outer[found[hole]].area:
            found[hole] = index
    yield from ((found[hole], holes[hole]) for hole in sorted(found))


def _stats(window: Window, chosen: NDArray[np.uint32], measurer: Measurer | None) -> ObjectStats:
    ids, codes = compact(window.ids)
    kept = np.isin(ids, chosen)
    kept[0] = True  # which stands for no object
    ids, codes = ids[kept], ((np.cumsum(kept) - 1) * kept)[codes]
    n = len(ids)
    at = np.flatnonzero(codes)
    of = codes.ravel()[at]
    pixels = np.maximum(np.bincount(of, minlength=n), 1)
    rows, columns = (np.bincount(of, place, n) / pixels for place in np.divmod(at, codes.shape[1]))
    levels = window.provenance.ravel()[at]
    sources = np.bincount(of * (HUMAN + 1) + levels, minlength=n * (HUMAN + 1))
    values = np.zeros(n, np.uint8)
    values[of] = window.classes.ravel()[at]
    measured = np.empty((n, 0))
    if measurer is not None:
        measured = measurer(window.region, ids, codes)
    return ObjectStats(
        codes=codes,
        ids=ids[1:],
        values=values[1:],
        pixels=pixels[1:],
        rows=rows[1:] + window.region.y,
        columns=columns[1:] + window.region.x,
        sources=sources.reshape(n, HUMAN + 1)[1:, 1:],
        measured=measured[1:],
    )


def shapes_in(
    window: Window, chosen: NDArray[np.uint32], measurer: Measurer | None
) -> Iterator[Shape]:
    """Give the chosen objects of a window, in the order of their ids."""
    if not len(chosen):
        return
    stats = _stats(window, chosen, measurer)
    found = polygons(outlines(stats.codes, window.region.y, window.region.x))
    columns_of = (  # lists: taking single numbers out of arrays would be most of the time
        stats.ids.tolist(),
        stats.values.tolist(),
        stats.pixels.tolist(),
        stats.rows.tolist(),
        stats.columns.tolist(),
        stats.sources.tolist(),
        stats.measured.tolist(),
    )
    for code, about in enumerate(zip(*columns_of, strict=True), start=1):
        object_id, value, size, y, x, (model, accepted, human), more = about
        parts, stands = tuple(found[code]), (model, accepted, human)
        yield Shape(object_id, value, parts, size, (y, x), stands, tuple(more))


def _lies_in(roi: Roi, shape: Shape, downsample: int) -> bool:
    y0, x0 = (np.array([(place + 0.5) * downsample - 0.5]) for place in shape.centroid)
    return bool(roi.holds(y0, x0)[0])


def _areas(
    store: AnnotationStore,
    task_name: str,
    new_form: NewForm | None,
    within: Roi | None,
    watch: Watch,
) -> Iterator[Shape]:
    boundary = Boundary()
    blocks = store.annotated_blocks(task_name, BLOCK)
    for block in watched(blocks, part_of(watch, 0.0, 0.3)):
        framed = _framed(store, task_name, block)
        if within is not None:
            mask = within.mask(block.padded(1), store.downsample(task_name))
            if mask is None:
                continue
            framed[~mask] = 0
        boundary.add(framed, block.y, block.x)
    found = polygons(boundary.outlines())
    every = [(value, polygon) for value in sorted(found) for polygon in found[value]]
    every.sort(key=lambda item: (item[1].exterior[:, 1].min(), item[1].exterior[:, 0].min()))
    provenance = _Provenance(store, task_name)
    for value, polygon in watched(every, part_of(watch, 0.3, 1.0)):
        solid = shapely.Polygon(polygon.exterior, polygon.holes)
        x, y = solid.centroid.coords[0]
        form = None if new_form is None else new_form()
        sources = _sources(provenance, polygon, form)
        row = () if form is None else form.row()
        yield Shape(0, value, (polygon,), round(solid.area), (y - 0.5, x - 0.5), sources, row)


class _Provenance:
    """Provenance of a task's grid; the tiles of a small place are remembered for the next one."""

    _SIDE = 512
    _MOST = 256  # tiles, 64 MiB: a row of them across a slide

    def __init__(self, store: AnnotationStore, task_name: str) -> None:
        self._store, self._task = store, task_name
        self._tiles: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Provenance of a region on the grid."""
        if region.area > self._SIDE**2:
            return self._store.read(self._task, region).provenance
        found = np.empty(region.shape, np.uint8)
        for part in split(region, self._SIDE):
            y, x = part.y // self._SIDE, part.x // self._SIDE
            tile = part.shifted(-y * self._SIDE, -x * self._SIDE)
            found[part.shifted(-region.y, -region.x).slices] = self._tile(y, x)[tile.slices]
        return found

    def _tile(self, y: int, x: int) -> NDArray[np.uint8]:
        tile = self._tiles.pop((y, x), None)
        if tile is None:
            place = Region(y * self._SIDE, x * self._SIDE, self._SIDE, self._SIDE)
            tile = self._store.read(self._task, place).provenance
        self._tiles[y, x] = tile  # the newest last
        if len(self._tiles) > self._MOST:
            del self._tiles[next(iter(self._tiles))]
        return tile


def _sources(
    provenance: _Provenance, polygon: Polygon, form: AreaForm | None
) -> tuple[int, int, int]:
    """Pixels of a polygon that are MODEL, ACCEPTED and HUMAN; its parts are given to ``form``."""
    x, y = polygon.exterior.min(axis=0).tolist()
    x1, y1 = polygon.exterior.max(axis=0).tolist()
    edges = ring_edges((polygon.exterior, *polygon.holes))
    total = np.zeros(HUMAN + 1, np.int64)
    for block in split(Region.from_bounds(y, x, y1, x1), BLOCK):
        around = block.padded(EDGE)
        mask = fill(edges, around.y, around.x, around.shape)
        if form is not None:
            form.add(block, mask)
        inside = mask[EDGE:-EDGE, EDGE:-EDGE]
        total += np.bincount(provenance.read(block)[inside], minlength=HUMAN + 1)
    return int(total[1]), int(total[2]), int(total[3])


def _framed(store: AnnotationStore, task_name: str, block: Region) -> NDArray[np.uint8]:
    """Classes of a block with one pixel around it, 0 beyond the slide."""
    window = store.read(task_name, block.padded(1))
    frame = block.padded(1)
    top, left = window.region.y - frame.y, window.region.x - frame.x
    bottom, right = frame.y1 - window.region.y1, frame.x1 - window.region.x1
    return np.pad(window.classes, ((top, bottom), (left, right)))


def _first_pixels(codes: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Position of the first pixel of each code, row by row."""
    first = np.zeros(n, np.intp)
    flat = codes.ravel()
    order = np.arange(flat.size - 1, -1, -1)
    first[flat[::-1]] = order  # the last to be written is the first pixel
    return first
