"""Pictures in zarr folders: OME-Zarr 0.4 and 0.5 with their pyramid, and plain RGB arrays."""

from __future__ import annotations

import hashlib
import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.levels import WHITE, Level, Tile, TileCache, TileDamagedError
from napari_genselfdiff.slides.metadata import mean_mpp
from napari_genselfdiff.slides.pixels import ToRGB, white_level
from napari_genselfdiff.slides.source import Source, level_downsample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

METADATA = ("zarr.json", ".zarray", ".zgroup")
MAX_CHUNK = 2**28  # bytes decoded for one pixel; more is a mistake or an attack
MAX_COARSEST = 2**33  # pixels of the smallest copy; an overview is made from them
_TILE = (512, 512)
_LOOK = 1024  # pixels a side from which white and the identity are taken
_LEVELS = 32
_MICRONS = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "angstrom": 1e-4}
_NEEDED = "an array (H, W, 3) or (3, H, W) of uint8, or an OME-Zarr image of unsigned 8 or 16 bits"
# zarr has no error of its own; a damaged store raises whatever its metadata lead to.
_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
)


class _Axes(NamedTuple):
    """Where rows, columns and (or None) channels are in the array."""

    y: int
    x: int
    c: int | None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA)


def open_zarr(path: Path) -> Source:
    """Open a zarr picture, chunks decoded when they are needed.

    Of times and planes the first is shown, of more than three channels the first three; one
    channel is grey. Links that lead out of the folder are not followed.

    Raises
    ------
    SlideError
        If it holds no such picture, or is damaged.
    """
    import zarr

    try:
        node: Any = zarr.open(_confined(path), mode="r")
        arrays, axes, scales = _pyramid(node, path.name)
        cache, closed = TileCache(), threading.Event()
        plain = [ZarrLevel(array, axes, cache, ToRGB(), closed) for array in arrays]
        sizes = [level_downsample(plain[0].shape, level.shape) for level in plain]
        usable = [i for i, size in enumerate(sizes) if size is not None]
        to_rgb, notes = _conversion(plain[usable[-1]], arrays[0], axes)
    except _ERRORS as error:
        if isinstance(error, SlideError):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise SlideError(f"{path.name} is not a usable zarr picture: {text}") from error
    levels = tuple(ZarrLevel(arrays[i], axes, cache, to_rgb, closed) for i in usable)
    coarsest = levels[-1].shape
    if coarsest[0] * coarsest[1] > MAX_COARSEST:
        raise SlideError(
            f"{path.name} has {coarsest[0]} x {coarsest[1]} pixels in its smallest copy, too many "
            "to look at as a whole; write it with smaller copies"
        )
    if len(usable) < len(sizes):
        missing = len(sizes) - len(usable)
        notes.append(f"smaller copies of other proportions that are left out: {missing}")
    return Source(
        reader="zarr",
        levels=levels,
        downsamples=tuple(size for size in sizes if size is not None),
        cache=cache,
        properties={},
        mpp=mean_mpp(*scales),
        warnings=tuple(notes),
        close=closed.set,
        identity=_identity(levels),
    )


class ZarrLevel(Level):
    """A zarr array as one level of a picture; ``closed`` ends all reading."""

    def __init__(
        self, array: Any, axes: _Axes, cache: TileCache, to_rgb: ToRGB, closed: threading.Event
    ) -> None:
        super().__init__((array.shape[axes.y], array.shape[axes.x]), _TILE, cache)
        self._array, self._axes, self._to_rgb, self._closed = array, axes, to_rgb, closed

    def decode(self, row: int, column: int) -> Tile:
        """Read one tile, filled up with white."""
        height, width = self.tile_shape
        region = Region(row * height, column * width, height, width).clipped(self.shape)
        out = np.full((height, width, 3), WHITE, np.uint8)
        if region is not None:
            out[: region.height, : region.width] = self._to_rgb(self.samples(region))
        return out

    def samples(self, region: Region) -> NDArray[Any]:
        """Samples ``(h, w, channels)`` of a region inside the level, as they are stored.

        Raises
        ------
        TileDamagedError
            If a chunk cannot be decoded.
        SlideError
            If the slide was closed.
        """
        if self._closed.is_set():
            raise SlideError("the slide is closed; open it again")
        y, x, c = self._axes
        index: list[Any] = [0] * self._array.ndim  # the first of times and planes
        index[y], index[x] = region.slices
        if c is not None:
            index[c] = slice(0, min(self._array.shape[c], 3))
        try:
            pixels = np.asarray(self._array[tuple(index)])
        except _ERRORS as error:
            raise TileDamagedError(f"a chunk cannot be decoded: {error}") from error
        if c is None:
            return (pixels if y < x else pixels.T)[..., None]
        order = np.argsort(np.argsort((y, x, c)))
        return pixels.transpose(tuple(int(i) for i in order))


def _confined(path: Path) -> Any:
    """A store that finds nothing behind links out of its folder."""
    from zarr.storage import LocalStore

    real = path.resolve()

    class Confined(LocalStore):  # made here: zarr is imported only when it is needed
        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            if not (real / key).resolve().is_relative_to(real):
                return None
            return await super().get(key, *args, **kwargs)

    return Confined(path, read_only=True)


def _pyramid(node: Any, name: str) -> tuple[list[Any], _Axes, tuple[float | None, float | None]]:
    """Arrays from sharp to coarse, their axes, and µm per pixel along y and x."""
    if hasattr(node, "shape"):
        return [_checked(node, name)], _axes_of(node, None, name), (None, None)
    attributes = dict(node.attrs)
    attributes = attributes.get("ome", attributes)
    images = attributes.get("multiscales")
    if not images:
        raise SlideError(f"{name} is a zarr group without an OME-Zarr image; needed is {_NEEDED}")
    if "image-label" in attributes:
        raise SlideError(f"{name} holds labels, not an image; import them into annotations")
    image = images[0]
    arrays = [_checked(node[part["path"]], name) for part in image["datasets"][:_LEVELS]]
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in image["axes"]]
    axes = _axes_of(arrays[0], names, name)
    for array in arrays[1:]:
        _axes_of(array, names, name)
    overall = _scale(image, len(names)) or [1.0] * len(names)
    first = _scale(image["datasets"][0], len(names)) or [0.0] * len(names)
    units = [
        _MICRONS.get(a.get("unit", "")) if isinstance(a, dict) else None for a in image["axes"]
    ]
    y, x = (
        float(first[i]) * float(overall[i]) * unit if (unit := units[i]) is not None else None
        for i in (axes.y, axes.x)
    )
    return arrays, axes, (y, x)


def _scale(part: dict[str, Any], count: int) -> list[float] | None:
    found = [t["scale"] for t in part.get("coordinateTransformations", ()) if "scale" in t]
    return found[0] if found and len(found[0]) == count else None


def _checked(array: Any, name: str) -> Any:
    """Refuse what is no array, or one of which a single chunk would fill the memory."""
    if not hasattr(array, "chunks"):
        raise SlideError(f"{name} names a level that is no array; write it again")
    if math.prod(array.chunks) * array.dtype.itemsize > MAX_CHUNK:
        raise SlideError(
            f"{name} has chunks of {tuple(array.chunks)}, too large to show a part; "
            "write it with chunks of about 512 x 512"
        )
    return array


def _axes_of(array: Any, names: list[str] | None, name: str) -> _Axes:
    shape = tuple(array.shape)
    is_ome = names is not None
    if names is None and len(shape) == 3:
        names = ["y", "x", "c"] if shape[2] == 3 else ["c", "y", "x"]
    kinds = (np.uint8, np.uint16) if is_ome else (np.uint8,)
    if (
        names is None
        or len(names) != len(shape)
        or array.dtype not in kinds
        or not {"y", "x"} <= set(names)
        or min(shape) < 1
        or (not is_ome and shape[names.index("c")] != 3)
    ):
        raise SlideError(f"{name} holds {shape} of {array.dtype}; needed is {_NEEDED}")
    return _Axes(names.index("y"), names.index("x"), names.index("c") if "c" in names else None)


def _conversion(coarsest: ZarrLevel, array: Any, axes: _Axes) -> tuple[ToRGB, list[str]]:
    notes = []
    channels = 1 if axes.c is None else int(array.shape[axes.c])
    if channels > 3:
        notes.append(f"the first three of {channels} channels are shown as red, green and blue")
    if array.dtype == np.uint8:
        return ToRGB(), notes
    try:
        white = white_level(coarsest.samples(_middle(coarsest.shape)))
    except TileDamagedError:
        white = 65535.0
    notes.append(f"{array.dtype} samples are shown as 8-bit; {white:g} is white")
    return ToRGB(white=white), notes


def _middle(shape: tuple[int, int]) -> Region:
    height, width = (min(side, _LOOK) for side in shape)
    return Region((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def _identity(levels: tuple[ZarrLevel, ...]) -> Callable[[], str]:
    """SHA-256 of all sizes and of the middle of the coarsest level's pixels."""

    def identity() -> str:
        digest = hashlib.sha256(repr([level.shape for level in levels]).encode())
        coarsest = levels[-1]
        digest.update(coarsest.read(_middle(coarsest.shape)).tobytes())
        return digest.hexdigest()

    return identity
