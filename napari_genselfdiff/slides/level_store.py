"""A read-only zarr store whose chunks are tiles of a slide, decoded when asked for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NoReturn

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
)

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.levels import tile_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from zarr.core.buffer import Buffer, BufferPrototype

    from napari_genselfdiff.slides.levels import Level

_META = "zarr.json"


class LevelStore(Store):
    """Group of arrays ``0``, ``1``, ..., one per level, ``(H, W, 3)`` uint8; read-only."""

    def __init__(self, levels: tuple[Level, ...]) -> None:
        super().__init__(read_only=True)
        self._levels = levels
        self._meta = {_META: {"zarr_format": 3, "node_type": "group", "attributes": {}}}
        for i, level in enumerate(levels):
            self._meta[f"{i}/{_META}"] = _array_meta(level)

    def __eq__(self, other: object) -> bool:
        """Two stores are equal if they show the same open levels."""
        return isinstance(other, LevelStore) and self._levels == other._levels

    def __hash__(self) -> int:
        """Hash of the open levels."""
        return hash(self._levels)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Give metadata, or decode the tile behind a chunk's key; None for other keys."""
        meta = self._meta.get(key)
        if meta is not None:
            buffer = prototype.buffer.from_bytes(json.dumps(meta).encode())
        else:
            place = self._place(key)
            if place is None:
                return None
            level, row, column = place
            tile = level.cache.get((level, row, column))
            if tile is None:
                # Not zarr's own threads: a level that is zarr itself waits there for more of them,
                # and with as many tiles as threads everything would wait for ever.
                loop = asyncio.get_running_loop()
                tile = await loop.run_in_executor(tile_pool(), level.tile, row, column)
            buffer = prototype.buffer.from_array_like(tile.reshape(-1).view("B"))
        return buffer if byte_range is None else buffer[_range(byte_range, len(buffer))]

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Give parts of several values."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Tell whether `get` would give something."""
        return key in self._meta or self._place(key) is not None

    def _place(self, key: str) -> tuple[Level, int, int] | None:
        parts = key.split("/")
        if len(parts) != 5 or parts[1] != "c" or parts[4] != "0":
            return None
        if not all(part.isdecimal() for part in (parts[0], parts[2], parts[3])):
            return None
        index, row, column = int(parts[0]), int(parts[2]), int(parts[3])
        if index >= len(self._levels):
            return None
        level = self._levels[index]
        rows, columns = level.grid
        return (level, row, column) if row < rows and column < columns else None

    @property
    def supports_writes(self) -> bool:
        """No."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """No."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Metadata can be listed; chunks are known from the shape."""
        return True

    async def set(self, key: str, value: Buffer) -> NoReturn:
        """Refuse: slides are never changed."""
        raise SlideError(f"cannot write {key!r}: slides are read-only")

    async def delete(self, key: str) -> NoReturn:
        """Refuse: slides are never changed."""
        raise SlideError(f"cannot delete {key!r}: slides are read-only")

    async def list(self) -> AsyncIterator[str]:
        """Keys of the metadata."""
        for key in self._meta:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys of the metadata that start with ``prefix``."""
        for key in self._meta:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names directly under ``prefix``."""
        folder = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        names = {
            key.removeprefix(folder).split("/")[0] for key in self._meta if key.startswith(folder)
        }
        for name in sorted(names):
            yield name


def _array_meta(level: Level) -> dict[str, object]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [*level.shape, 3],
        "data_type": "uint8",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [*level.tile_shape, 3]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 255,
        "codecs": [{"name": "bytes"}],
        "dimension_names": ["y", "x", "c"],
        "attributes": {},
    }


def _range(part: ByteRequest, size: int) -> slice:
    if isinstance(part, RangeByteRequest):
        return slice(part.start, part.end)
    if isinstance(part, OffsetByteRequest):
        return slice(part.offset, size)
    return slice(max(size - part.suffix, 0), size)
