"""The zarr arrays of a task: OME-Zarr label pyramids, the table of objects, the coverage map."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_genselfdiff.annotation.chunks import ZSTD_LEVEL, ChunkArray, damage
from napari_genselfdiff.annotation.files import ShownStore
from napari_genselfdiff.annotation.pyramid import level_shapes, majority, nearest, rebuild
from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, MODEL
from napari_genselfdiff.errors import StoreCorruptError
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.files import Files
    from napari_genselfdiff.annotation.schema import SlideRecord, TaskRecord

ArrayName = Literal["classes", "objects", "provenance"]
CHUNK = 512
TABLE_ROWS, TABLE_CHUNK = 2**32 - 1, 16384  # one row an object id: (class value, pixels)
CLASS_COLUMN, AREA_COLUMN = 0, 1
CONFIDENCE_UNITS = 10_000
HALVED: Final = {"classes": majority, "objects": nearest, "provenance": majority}
"""How each array becomes its coarser levels."""
_DTYPES = {"classes": "uint8", "objects": "uint32", "provenance": "uint8"}
_PROVENANCE_COLORS = {MODEL: "#56B4E9", ACCEPTED: "#009E73", HUMAN: "#FFFFFF"}
_PROVENANCE_NAMES = {MODEL: "model", ACCEPTED: "accepted", HUMAN: "human"}


def _options(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> dict[str, Any]:
    """How every array is stored; ``chunks.ChunkArray`` must not differ."""
    return {
        "shape": shape,
        "chunks": chunks,
        "dtype": dtype,
        "fill_value": 0,
        "compressors": (ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()),
        "config": {"write_empty_chunks": False},
    }


class TaskArrays:
    """All arrays of one task.

    ``table`` has a row an object id, (class value, pixels), uint32; None for areas. ``coverage``
    has an element a chunk of the grid and provenance 1..3: the number of its pixels, int32.
    ``confidence`` has an element an object id, in 1/10,000 and 0 where no model said anything;
    annotations of older versions have no file of it.
    """

    def __init__(self, files: Files, task: TaskRecord, slide: SlideRecord) -> None:
        self.shape = grid_shape((slide.height, slide.width), task.downsample)
        name, self.has_objects = task.spec.name, task.spec.kind == "objects"
        names = [n for n in get_args(ArrayName) if n != "objects" or self.has_objects]
        self.levels: dict[str, list[zarr.Array[Any]]] = {}
        self._chunked: dict[str, list[ChunkArray]] = {}
        for array in names:
            pairs = [
                _opened(
                    files, f"labels/{name}.{array}/{level}", _label_options(shape, _DTYPES[array])
                )
                for level, shape in enumerate(level_shapes(self.shape))
            ]
            self.levels[array] = [shown for shown, _ in pairs]
            self._chunked[array] = [chunked for _, chunked in pairs]
        self._known_tiles: dict[tuple[Region, int], tuple[tuple[int, int], ...]] = {}
        self.stored = {array: levels[0] for array, levels in self._chunked.items()}
        self.coverage = _opened(files, f"tables/{name}.coverage", _coverage_options(self.shape))[1]
        self.table: ChunkArray | None = None
        self.confidence = _confidences(files, name)
        if self.has_objects:
            self.table = _opened(files, f"tables/{name}.objects", _table_options())[1]

    def pyramid(self, array: ArrayName) -> list[ChunkArray]:
        """Levels of an array, the task's grid first, read without zarr; see ``chunks``."""
        return self._chunked[array]

    @property
    def pyramids(self) -> dict[str, list[ChunkArray]]:
        """Every array's :meth:`pyramid`."""
        return self._chunked

    def rebuild(self, box: Region, *, align: bool = False) -> None:
        """Bring what depends on level 0 up to date with a changed box of it."""
        for key in [key for key in self._known_tiles if key[0].intersection(box) is not None]:
            del self._known_tiles[key]
        for array, levels in self._chunked.items():
            rebuild(levels, box, HALVED[array], align=CHUNK if align else 1)

    def known_chunks(self) -> list[Region]:
        """Chunks of the grid that hold pixels a person stands behind."""
        coverage = self.coverage.read((slice(None), slice(None), slice(ACCEPTED - 1, HUMAN)))
        rows, columns = np.nonzero(coverage.any(axis=2))
        chunks = (
            Region(y * CHUNK, x * CHUNK, CHUNK, CHUNK).clipped(self.shape)
            for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
        )
        return [chunk for chunk in chunks if chunk is not None]

    def known_tiles(self, chunk: Region, tile: int) -> tuple[tuple[int, int], ...]:
        """Row and column of tiles that share a pixel a person stands behind with a chunk.

        A chunk is looked at once, until :meth:`rebuild` says that it is another one.
        """
        key = (chunk, tile)
        if key not in self._known_tiles:
            known = self.stored["provenance"].read(chunk.slices) >= ACCEPTED
            self._known_tiles[key] = tuple(_tiles_of(known, chunk, tile))
        return self._known_tiles[key]

    def annotated(self, side: int) -> list[Region]:
        """Blocks on multiples of ``side`` (whole chunks) of which anything is known."""
        coverage = self.coverage.read((slice(None), slice(None), slice(None)))
        rows, columns = np.nonzero(coverage.any(axis=2))
        found = np.unique(np.stack([rows, columns]) * CHUNK // side, axis=1).T.tolist()
        blocks = (Region(y * side, x * side, side, side).clipped(self.shape) for y, x in found)
        return [block for block in blocks if block is not None]

    def coverage_totals(self) -> tuple[int, int, int]:
        """Pixels of the grid from a model, accepted, and by hand."""
        coverage = self.coverage.read((slice(None), slice(None), slice(None)))
        model, accepted, human = coverage.sum(axis=(0, 1), dtype=np.int64).tolist()
        return model, accepted, human

    def rows(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Table rows (class value, pixels) of the ids, (n, 2); zeros for ids that do not exist."""
        return np.zeros((len(ids), 2), np.uint32) if self.table is None else _rows(self.table, ids)

    def confidences(self, ids: NDArray[np.uint32]) -> NDArray[np.float64]:
        """How sure the model was that made each object, 0..1; NaN where none did, or none said."""
        if not self.has_objects:
            return np.full(len(ids), np.nan)
        stated = _rows(self.confidence, ids)[:, 0]
        return np.where(stated > 0, stated / CONFIDENCE_UNITS, np.nan)


def table_parts(
    table: ChunkArray, ids: NDArray[np.uint32]
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.bool_]]]:
    """Each chunk of a table of objects that holds some of these ids, and which of them it holds."""
    chunks = ids // TABLE_CHUNK
    for chunk in np.unique(chunks).tolist():
        start = chunk * TABLE_CHUNK
        rows = slice(start, min(start + TABLE_CHUNK, TABLE_ROWS))
        yield (rows, slice(0, table.shape[1])), chunks == chunk


def _rows(table: ChunkArray, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Rows of a table of objects, ``(n, columns)``."""
    found = np.zeros((len(ids), table.shape[1]), np.uint32)
    for part, here in table_parts(table, ids):
        found[here] = table.read(part)[ids[here] - part[0].start]
    return found


def _tiles_of(known: NDArray[np.bool_], chunk: Region, tile: int) -> list[tuple[int, int]]:
    """Tiles, on multiples of ``tile``, with a pixel of a chunk that is known."""
    rows, columns = (
        np.r_[0, np.arange(start - start % tile + tile, start + size, tile) - start]
        for start, size in ((chunk.y, chunk.height), (chunk.x, chunk.width))
    )
    some = np.logical_or.reduceat(np.logical_or.reduceat(known, rows, axis=0), columns, axis=1)
    y, x = np.nonzero(some)
    places = zip((rows[y] + chunk.y) // tile, (columns[x] + chunk.x) // tile, strict=True)
    return [(int(row), int(column)) for row, column in places]


def create_task(folder: Path, task: TaskRecord, slide: SlideRecord) -> None:
    """Create the empty arrays of a task; what an interrupted attempt left is replaced."""
    store = LocalStore(folder)
    shape, name = grid_shape((slide.height, slide.width), task.downsample), task.spec.name
    for array, dtype in _DTYPES.items():
        if array == "objects" and task.spec.kind != "objects":
            continue
        path = f"labels/{name}.{array}"
        attributes = {"ome": _image_attributes(task, slide, array, len(level_shapes(shape)))}
        zarr.create_group(store, path=path, attributes=attributes, overwrite=True, zarr_format=3)
        for level, level_shape in enumerate(level_shapes(shape)):
            options = _label_options(level_shape, dtype)
            zarr.create_array(store, name=f"{path}/{level}", dimension_names=("y", "x"), **options)
    tables = {f"tables/{name}.coverage": _coverage_options(shape)}
    if task.spec.kind == "objects":
        tables[f"tables/{name}.objects"] = _table_options()
        tables[f"tables/{name}.confidence"] = _confidence_options()
    for path, options in tables.items():
        zarr.create_array(store, name=path, overwrite=True, **options)


def list_labels(folder: Path, tasks: list[TaskRecord]) -> None:
    """Write the ``labels`` group that names the label images of these tasks."""
    names = [
        f"{task.spec.name}.{array}"
        for task in tasks
        for array in _DTYPES
        if array != "objects" or task.spec.kind == "objects"
    ]
    group = zarr.open_group(LocalStore(folder), path="labels", mode="a", zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", "labels": names}


def label_metadata(task: TaskRecord, slide: SlideRecord) -> tuple[str, bytes]:
    """File within the store that names and colours the classes of a task, and its bytes."""
    shape = grid_shape((slide.height, slide.width), task.downsample)
    ome = _image_attributes(task, slide, "classes", len(level_shapes(shape)))
    root = {"attributes": {"ome": ome}, "zarr_format": 3, "node_type": "group"}
    return f"labels/{task.spec.name}.classes/zarr.json", json.dumps(root, indent=2).encode()


def _image_attributes(
    task: TaskRecord, slide: SlideRecord, array: str, n_levels: int
) -> dict[str, Any]:
    """OME-Zarr 0.5 metadata; pixel (i, j) of the slide has its centre at (i, j) * mpp."""
    datasets = []
    for level in range(n_levels):
        downsample = task.downsample * 2**level
        scale = {"type": "scale", "scale": [slide.mpp * downsample] * 2}
        shift = {"type": "translation", "translation": [slide.mpp * (downsample - 1) / 2] * 2}
        datasets.append({"path": str(level), "coordinateTransformations": [scale, shift]})
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    name = f"{task.spec.name}.{array}"
    how = "nearest" if array == "objects" else "majority"
    image = {"name": name, "axes": axes, "datasets": datasets, "type": how}
    return {"version": "0.5", "multiscales": [image], "image-label": _label_attributes(task, array)}


def _label_attributes(task: TaskRecord, array: str) -> dict[str, Any]:
    if array == "objects":
        return {}
    colors, names = _PROVENANCE_COLORS, _PROVENANCE_NAMES
    if array == "classes":
        colors = {spec.value: spec.color for spec in task.spec.classes}
        names = {spec.value: spec.name for spec in task.spec.classes}
    return {
        "colors": [
            {"label-value": value, "rgba": [*bytes.fromhex(color[1:]), 255]}
            for value, color in colors.items()
        ],
        "properties": [{"label-value": value, "class": name} for value, name in names.items()],
    }


def _label_options(shape: tuple[int, int], dtype: str) -> dict[str, Any]:
    return _options(shape, (CHUNK, CHUNK), dtype)


def _coverage_options(shape: tuple[int, int]) -> dict[str, Any]:
    chunks = (-(-shape[0] // CHUNK), -(-shape[1] // CHUNK), HUMAN)
    return _options(chunks, (64, 64, HUMAN), "int32")


def _table_options() -> dict[str, Any]:
    return _options((TABLE_ROWS, 2), (TABLE_CHUNK, 2), "uint32")


def _confidence_options() -> dict[str, Any]:
    return _options((TABLE_ROWS, 1), (TABLE_CHUNK, 1), "uint16")


def _confidences(files: Files, task_name: str) -> ChunkArray:
    """Array of confidences; nothing of it need be on disk yet."""
    options = _confidence_options()
    key = f"tables/{task_name}.confidence"
    return ChunkArray(files, key, options["shape"], options["chunks"], options["dtype"])


def _opened(files: Files, key: str, options: dict[str, Any]) -> tuple[zarr.Array[Any], ChunkArray]:
    """Open an array, for others to read and for us to write, if it is what we store."""
    try:
        array = zarr.open_array(ShownStore(files), path=key, mode="r", zarr_format=3)
        found = {name: getattr(array, name) for name in ("shape", "chunks", "compressors")}
        found["dtype"] = str(array.dtype)
    except (ValueError, TypeError, KeyError, RuntimeError, FileNotFoundError) as err:
        raise StoreCorruptError(damage(key, str(err))) from err
    for name, value in found.items():
        if value != options[name]:
            raise StoreCorruptError(damage(key, f"{name} is {value}, {options[name]} is needed"))
    return array, ChunkArray(files, key, found["shape"], found["chunks"], found["dtype"])
