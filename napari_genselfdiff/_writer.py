"""napari's writer hook: a labels layer as a lossless OME-TIFF with its pixel size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

_TILE = 512
_MICRONS = {"micrometer": 1.0, "micron": 1.0, "um": 1.0, "µm": 1.0, "nanometer": 1e-3}


def write_labels_tiff(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the sharpest level of a labels layer tile by tile; give the paths written.

    Raises
    ------
    ExchangeError
        If the labels are not a plane, or the disk refuses; the old file stays then.
    """
    from uuid import uuid4

    import tifffile

    from napari_genselfdiff.errors import ExchangeError

    level = data[0] if isinstance(data, list | tuple) or meta.get("multiscale") else data
    if level.ndim != 2:
        raise ExchangeError(
            f"labels with {level.ndim} axes cannot be written to {Path(path).name}; "
            "a flat labels layer is needed"
        )
    target = Path(path)
    partial = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    size, dtype = _size_um(meta), _kept_type(level)
    try:
        tifffile.imwrite(
            partial,
            _tiles(level, dtype),
            shape=tuple(level.shape),
            dtype=dtype,
            tile=(_TILE, _TILE),
            compression="zlib",
            bigtiff=level.shape[0] * level.shape[1] > 2**29,
            photometric="minisblack",
            ome=target.name.lower().endswith((".ome.tif", ".ome.tiff")),
            resolution=None if size is None else (1e4 / size[1], 1e4 / size[0]),
            resolutionunit=None if size is None else "CENTIMETER",
            metadata=_ome(size, str(meta.get("name", "labels"))),
        )
        partial.replace(target)
    except OSError as err:
        raise ExchangeError(
            f"{target} cannot be written: {err.strerror or err}; choose another place"
        ) from err
    finally:
        partial.unlink(missing_ok=True)
    return [str(target)]


def _kept_type(level: Any) -> np.dtype[Any]:
    """Smallest unsigned type that keeps every value; the array's own where that is unsigned."""
    import numpy as np

    from napari_genselfdiff.errors import ExchangeError

    own: np.dtype[Any] = np.dtype(level.dtype)
    if own.kind == "u" and own.itemsize <= 4:
        return own
    low, high = 0, 0
    for part in _parts(level):
        low, high = min(low, int(part.min(initial=0))), max(high, int(part.max(initial=0)))
    if low < 0 or high >= 2**32:
        raise ExchangeError(f"labels from {low} to {high} cannot be written; 0..2^32-1 are needed")
    kept: np.dtype[Any] = np.min_scalar_type(high)
    return kept


def _tiles(level: Any, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Tiles in reading order; those at the border are filled up with background."""
    import numpy as np

    for part in _parts(level):
        tile = np.zeros((_TILE, _TILE), dtype)
        tile[: part.shape[0], : part.shape[1]] = part
        yield tile


def _parts(level: Any) -> Iterator[NDArray[Any]]:
    import numpy as np

    for y in range(0, level.shape[0], _TILE):
        for x in range(0, level.shape[1], _TILE):
            yield np.asarray(level[y : y + _TILE, x : x + _TILE])


def _size_um(meta: dict[str, Any]) -> tuple[float, float] | None:
    """Height and width of a pixel in µm, or None where the layer is not in a length."""
    units = [str(u).lower() for u in meta.get("units") or ()][-2:]
    scale = [float(s) for s in meta.get("scale", ())][-2:]
    if len(units) != 2 or len(scale) != 2 or any(u not in _MICRONS for u in units):
        return None
    return scale[0] * _MICRONS[units[0]], scale[1] * _MICRONS[units[1]]


def _ome(size: tuple[float, float] | None, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"axes": "YX", "Name": name}
    if size is not None:
        found |= {"PhysicalSizeY": size[0], "PhysicalSizeYUnit": "µm"}
        found |= {"PhysicalSizeX": size[1], "PhysicalSizeXUnit": "µm"}
    return found
