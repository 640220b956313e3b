"""A slide of 100,000 x 100,000 pixels that takes no room: nothing of it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

SIDE = 100_000


def sparse_slide(path: Path, side: int = SIDE, mpp: float = 0.25) -> Path:
    """Write an OME-Zarr 0.5 pyramid of one grey, all of whose chunks are missing."""
    group: Any = zarr.open_group(str(path), mode="w", zarr_format=3)
    axes: list[Any] = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    axes.append({"name": "c", "type": "channel"})
    datasets: list[Any] = []
    while True:
        level = len(datasets)
        group.create_array(
            str(level), shape=(side, side, 3), chunks=(512, 512, 3), dtype="uint8", fill_value=230
        )
        scale = [mpp * 2**level, mpp * 2**level, 1.0]
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
        if side <= 1024:
            break
        side = -(-side // 2)
    image = {"version": "0.5", "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path
