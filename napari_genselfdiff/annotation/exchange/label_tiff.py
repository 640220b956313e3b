"""A task's labels as a tiled, pyramidal OME-TIFF, written a tile at a time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.annotation.arrays import CHUNK
from napari_genselfdiff.annotation.disk import disk_errors, new_file
from napari_genselfdiff.annotation.exchange.origin import Frame, frame_offset, origin
from napari_genselfdiff.annotation.exchange.watching import nobody, watched
from napari_genselfdiff.annotation.pyramid import level_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.arrays import ArrayName
    from napari_genselfdiff.annotation.chunks import ChunkArray
    from napari_genselfdiff.annotation.exchange.watching import Watch
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.geometry import Region

TILE = 512
_BIG = 2**30  # bytes; from here on 32-bit offsets could end


def write_label_tiff(
    store: AnnotationStore,
    task_name: str,
    path: Path,
    *,
    frame: Frame = "level0",
    bounds: Region | None = None,
    provenance: Mapping[str, Any] | None = None,
    watch: Watch = nobody,
) -> tuple[int, ...]:
    """Write the ids of a task's objects (uint32), or the classes of its areas (uint8).

    A pixel covers ``downsample(task)`` level-0 pixels a side. In QuPath's frame, where the corner
    of the slide's bounds may lie inside such a pixel, the file is as much finer as it takes to
    begin exactly there. Beyond the slide there is background.

    Parameters
    ----------
    frame, bounds
        ``qupath`` gives the part in the slide's ``bounds`` (None: all of it).
    provenance
        What else the file should say of its origin; plain JSON values.
    watch
        Hears how far it is.

    Returns
    -------
    tuple of int
        Height and width of the sharpest level.

    Raises
    ------
    ConfigError
        If the task or the frame is unknown.
    StoreError
        If the file cannot be written; an older one is then still there.
    """
    import tifffile

    x, y = frame_offset(frame, bounds)
    about = origin(store, task_name, frame=frame, offset=(x, y), provenance=provenance)
    array: ArrayName = "objects" if store.tasks[task_name].kind == "objects" else "classes"
    cut = _cut(store, task_name, bounds if frame == "qupath" else None)
    views = _views(store.drawn_levels(task_name, array), cut)
    about |= {"pixels": array, "downsample": cut.downsample}
    size = store.mpp * cut.downsample
    tiles = watched([place for view in views for place in view.places], watch)
    with (
        disk_errors(f"write {path}"),
        new_file(path) as partial,
        tifffile.TiffWriter(partial, ome=True, bigtiff=_is_big(views[0])) as tif,
    ):
        for number, view in enumerate(views):
            said = _about(store, task_name, size, about if number == 0 else {})
            _write(tif, view, tiles, size * 2**number, said)
    return views[0].shape


@dataclass(frozen=True, slots=True)
class _Cut:
    """Pixels of the file: ``downsample`` level-0 pixels a side, ``repeat`` of them a grid pixel."""

    downsample: int
    repeat: int
    y: int
    x: int
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _View:
    """One level of the file: pixel ``i`` is pixel ``(start + i * step) // repeat`` of an array."""

    array: ChunkArray
    shape: tuple[int, int]
    start: tuple[int, int] = (0, 0)
    step: int = 1
    repeat: int = 1

    @property
    def places(self) -> list[tuple[int, int]]:
        """Corners of its tiles, (y, x), in the order of the file."""
        height, width = self.shape
        return [(y, x) for y in range(0, height, TILE) for x in range(0, width, TILE)]

    def read(self, y: int, x: int) -> NDArray[Any]:
        """One tile, filled up with background."""
        tile = np.zeros((TILE, TILE), self.array.dtype)
        inside, places = [], []
        for axis, first in enumerate((y, x)):
            n = min(TILE, self.shape[axis] - first)
            at = (self.start[axis] + (first + np.arange(n)) * self.step) // self.repeat
            known = (at >= 0) & (at < self.array.shape[axis])  # bounds may reach beyond the slide
            if not known.any():
                return tile
            inside.append(np.flatnonzero(known))
            places.append(at[known])
        if self.step == self.repeat == 1:
            box = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in places)
            tile[np.ix_(*inside)] = self.array[box]
        else:
            tile[np.ix_(*inside)] = _picked(self.array, *places)
        return tile


def _picked(array: ChunkArray, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows and columns (ascending) of an array, however far apart, a chunk at a time."""
    found = np.empty((len(rows), len(columns)), array.dtype)
    for a in _by_chunk(rows):
        for b in _by_chunk(columns):
            y, x = rows[a], columns[b]
            box = array.read((slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)))
            found[a, b] = box[np.ix_(y - y[0], x - x[0])]
    return found


def _by_chunk(places: NDArray[np.int64]) -> list[slice]:
    cuts = np.flatnonzero(np.diff(places // CHUNK)) + 1
    return [slice(a, b) for a, b in pairwise([0, *cuts.tolist(), len(places)])]


def _cut(store: AnnotationStore, task_name: str, bounds: Region | None) -> _Cut:
    downsample = store.downsample(task_name)
    if bounds is None:
        return _Cut(downsample, 1, 0, 0, store.shape(task_name))
    size = math.gcd(downsample, bounds.y, bounds.x)
    shape = -(-bounds.height // size), -(-bounds.width // size)
    return _Cut(size, downsample // size, bounds.y // size, bounds.x // size, shape)


def _views(levels: list[ChunkArray], cut: _Cut) -> list[_View]:
    """Levels of the file; a cropped one has the upper left pixel of each block in its coarser."""
    shapes = level_shapes(cut.shape)
    if (cut.y, cut.x, cut.repeat, cut.shape) == (0, 0, 1, tuple(levels[0].shape)):
        return [_View(level, shape) for level, shape in zip(levels, shapes, strict=True)]
    return [
        _View(levels[0], shape, (cut.y, cut.x), 2**number, cut.repeat)
        for number, shape in enumerate(shapes)
    ]


def _is_big(view: _View) -> bool:
    return view.shape[0] * view.shape[1] * view.array.dtype.itemsize > _BIG


def _write(
    tif: Any,
    view: _View,
    tiles: Iterator[tuple[int, int]],
    size_um: float,
    metadata: dict[str, Any] | None,
) -> None:
    first = metadata is not None
    tif.write(
        (view.read(*place) for place in islice(tiles, len(view.places))),
        shape=view.shape,
        dtype=view.array.dtype,
        tile=(TILE, TILE),
        compression="zlib",
        photometric="minisblack",
        resolution=(1e4 / size_um, 1e4 / size_um),
        resolutionunit="CENTIMETER",
        subifds=len(level_shapes(view.shape)) - 1 if first else None,
        subfiletype=0 if first else 1,
        metadata=metadata,
    )


def _about(
    store: AnnotationStore, task_name: str, size_um: float, about: dict[str, Any]
) -> dict[str, Any] | None:
    """Metadata of the sharpest level; the smaller copies have none."""
    if not about:
        return None
    classes = {str(spec.value): spec.name for spec in store.tasks[task_name].classes}
    words = {key: v if isinstance(v, str) else json.dumps(v) for key, v in about.items()}
    return {
        "axes": "YX",
        "Name": task_name,
        "PhysicalSizeX": size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": size_um,
        "PhysicalSizeYUnit": "µm",
        "MapAnnotation": {"Namespace": "genselfdiff", **words, "classes": json.dumps(classes)},
    }
