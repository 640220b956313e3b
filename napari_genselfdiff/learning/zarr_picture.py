"""Training pictures in zarr: plain arrays, and the images of OME-Zarr with their pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.levels import WHITE, Level, Tile, TileCache, TileDamagedError
from napari_genselfdiff.slides.metadata import mean_mpp
from napari_genselfdiff.slides.slide import Slide
from napari_genselfdiff.slides.source import Source, level_downsample

if TYPE_CHECKING:
    from pathlib import Path

METADATA = ("zarr.json", ".zarray", ".zgroup")
_TILE = (512, 512)
_MICRONS = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "angstrom": 1e-4}
_NEEDED = "an array (H, W, 3) or (3, H, W) of uint8, or an OME-Zarr image of three uint8 channels"


class _Axes(NamedTuple):
    """Where rows, columns and channels are in the array."""

    y: int
    x: int
    c: int


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA)


def open_zarr(path: Path) -> Slide:
    """Open a zarr picture, chunks decoded when they are needed.

    Raises
    ------
    SlideError
        If it holds no RGB picture of 8 bits, or is damaged.
    """
    import zarr

    try:
        node: Any = zarr.open(str(path), mode="r")
        arrays, axes, scales = _pyramid(node, path.name)
    except SlideError:
        raise
    # type: zarr has no common error; a damaged store raises what its metadata lead to
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise SlideError(f"{path.name} is not a usable zarr picture: {text}") from error
    cache = TileCache()
    levels = [ZarrLevel(array, axes, cache) for array in arrays]
    sizes = [level_downsample(levels[0].shape, level.shape) for level in levels]
    usable = [(level, d) for level, d in zip(levels, sizes, strict=True) if d is not None]
    return Slide(
        path,
        Source(
            reader="zarr",
            levels=tuple(level for level, _ in usable),
            downsamples=tuple(d for _, d in usable),
            cache=cache,
            properties={},
            mpp=mean_mpp(*scales),
        ),
    )


class ZarrLevel(Level):
    """A zarr array as one level of a picture."""

    def __init__(self, array: Any, axes: _Axes, cache: TileCache) -> None:
        super().__init__((array.shape[axes.y], array.shape[axes.x]), _TILE, cache)
        self._array, self._axes = array, axes

    def decode(self, row: int, column: int) -> Tile:
        """Read one tile, filled up with white."""
        height, width = self.tile_shape
        index: list[Any] = [0] * self._array.ndim  # the first of times and planes
        index[self._axes.c] = slice(0, 3)
        index[self._axes.y] = slice(row * height, min((row + 1) * height, self.shape[0]))
        index[self._axes.x] = slice(column * width, min((column + 1) * width, self.shape[1]))
        try:
            pixels = np.asarray(self._array[tuple(index)])
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise TileDamagedError(f"a chunk cannot be decoded: {error}") from error
        order = np.argsort(np.argsort((self._axes.y, self._axes.x, self._axes.c)))
        part = pixels.transpose(tuple(int(i) for i in order))
        out = np.full((height, width, 3), WHITE, np.uint8)
        out[: part.shape[0], : part.shape[1]] = part
        return out


def _pyramid(node: Any, name: str) -> tuple[list[Any], _Axes, tuple[float | None, float | None]]:
    """Arrays from sharp to coarse, their axes, and µm per pixel along y and x."""
    if hasattr(node, "shape"):
        return [node], _axes_of(node, None, name), (None, None)
    attributes = dict(node.attrs)
    image = attributes.get("ome", attributes).get("multiscales")
    if not image:
        raise SlideError(f"{name} is a zarr group without an OME-Zarr image; needed is {_NEEDED}")
    image = image[0]
    arrays = [node[part["path"]] for part in image["datasets"]]
    names = [axis["name"] for axis in image["axes"]]
    axes = _axes_of(arrays[0], names, name)
    scale = _scale(image["datasets"][0], len(names))
    units = [_MICRONS.get(axis.get("unit", "")) for axis in image["axes"]]
    y, x = (
        float(scale[i]) * unit if (unit := units[i]) is not None else None for i in (axes.y, axes.x)
    )
    for array in arrays[1:]:
        _axes_of(array, names, name)
    return arrays, axes, (y, x)


def _scale(dataset: dict[str, Any], count: int) -> list[float]:
    found = [t["scale"] for t in dataset.get("coordinateTransformations", ()) if "scale" in t]
    return found[0] if found and len(found[0]) == count else [0.0] * count


def _axes_of(array: Any, names: list[str] | None, name: str) -> _Axes:
    shape = tuple(array.shape)
    if names is None and len(shape) == 3:
        names = ["y", "x", "c"] if shape[2] == 3 else ["c", "y", "x"]
    if (
        names is None
        or len(names) != len(shape)
        or array.dtype != np.uint8
        or not {"y", "x", "c"} <= set(names)
        or shape[names.index("c")] != 3
        or min(shape) < 1
    ):
        raise SlideError(f"{name} holds {shape} of {array.dtype}; needed is {_NEEDED}")
    return _Axes(names.index("y"), names.index("x"), names.index("c"))
