"""Pyramid levels: tiles decoded on demand through one cache, also offered as zarr arrays.

A reader subclasses `Level` and says how one tile is decoded; reading regions, caching, damaged
tiles and the zarr side are the same for all of them.
"""

from __future__ import annotations

import functools
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.geometry import Region, grid_shape
from napari_genselfdiff.slides.resample import axis_taps, resample

WHITE = 255
CACHE_BYTES = 128 * 2**20
_PARALLEL_FROM = 3  # fewer tiles are decoded before a thread has woken up

Tile = NDArray[np.uint8]


class TileDamagedError(SlideError):
    """One tile cannot be decoded; the rest of the slide still can."""


class TileCache:
    """Decoded tiles of one slide, the least recently used dropped first; safe between threads.

    Parameters
    ----------
    max_bytes
        Upper bound of all kept tiles together.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self.damaged: set[tuple[object, int, int]] = set()
        self._tiles: OrderedDict[tuple[object, int, int], Tile] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, int, int]) -> Tile | None:
        """Give the tile and mark it as used, or None."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def report_damage(self, key: tuple[object, int, int]) -> None:
        """Count a piece of the file that cannot be decoded, once however often it is met."""
        with self._lock:
            self.damaged.add(key)

    def put(self, key: tuple[object, int, int], tile: Tile) -> None:
        """Keep a tile, dropping old ones until everything fits again."""
        with self._lock:
            if key in self._tiles or tile.nbytes > self.max_bytes:
                return
            self._tiles[key] = tile
            self.nbytes += tile.nbytes
            while self.nbytes > self.max_bytes:
                _, old = self._tiles.popitem(last=False)
                self.nbytes -= old.nbytes

    def clear(self) -> None:
        """Drop every tile."""
        with self._lock:
            self._tiles.clear()
            self.nbytes = 0


class Level(ABC):
    """One pyramid level as a grid of equally sized RGB tiles.

    Parameters
    ----------
    shape
        Height and width of the level in pixels.
    tile_shape
        Height and width of a tile; border tiles are filled up with white.
    cache
        Shared by the levels of a slide.
    """

    nbytes = 0  # pixels held besides those in the cache

    def __init__(
        self, shape: tuple[int, int], tile_shape: tuple[int, int], cache: TileCache
    ) -> None:
        self.shape = shape
        self.tile_shape = tile_shape
        self.cache = cache

    @abstractmethod
    def decode(self, row: int, column: int) -> Tile:
        """Decode one tile: ``(*tile_shape, 3)`` uint8, white outside the level.

        Raises
        ------
        TileDamagedError
            If this tile, but not the whole slide, is unreadable.
        """

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tile rows and columns."""
        return (
            -(-self.shape[0] // self.tile_shape[0]),
            -(-self.shape[1] // self.tile_shape[1]),
        )

    def tile(self, row: int, column: int) -> Tile:
        """Give one tile from the cache or the file; a damaged one is white and counted."""
        key = (self, row, column)
        tile = self.cache.get(key)
        if tile is not None:
            return tile
        try:
            tile = self.decode(row, column)
        except TileDamagedError:
            tile = np.full((*self.tile_shape, 3), WHITE, np.uint8)
            self.cache.report_damage(key)
        tile.flags.writeable = False
        self.cache.put(key, tile)
        return tile

    def read(self, region: Region, *, parallel: bool = True) -> NDArray[np.uint8]:
        """Read a region of this level's pixels, white outside.

        Returns
        -------
        ndarray
            ``(height, width, 3)`` uint8.
        """
        inside = region.clipped(self.shape)
        if inside is None:
            return np.full((*region.shape, 3), WHITE, np.uint8)
        if inside == region:
            out = np.empty((*region.shape, 3), np.uint8)
        else:
            out = np.full((*region.shape, 3), WHITE, np.uint8)
        paste = functools.partial(self._paste, out, region, inside)
        missing = []
        for place in self._places(inside):
            tile = self.cache.get((self, *place))
            if tile is None:
                missing.append(place)
            else:
                paste(place, tile)
        if parallel and len(missing) >= _PARALLEL_FROM:
            for _ in tile_pool().map(paste, missing):
                pass
        else:
            for place in missing:
                paste(place)
        return out

    def _places(self, inside: Region) -> list[tuple[int, int]]:
        height, width = self.tile_shape
        rows = range(inside.y // height, -(-inside.y1 // height))
        columns = range(inside.x // width, -(-inside.x1 // width))
        return [(row, column) for row in rows for column in columns]

    def _paste(
        self,
        out: NDArray[np.uint8],
        region: Region,
        inside: Region,
        place: tuple[int, int],
        tile: Tile | None = None,
    ) -> None:
        pixels = self.tile(*place) if tile is None else tile
        top, left = place[0] * self.tile_shape[0], place[1] * self.tile_shape[1]
        y, y1 = max(top, inside.y), min(top + self.tile_shape[0], inside.y1)
        x, x1 = max(left, inside.x), min(left + self.tile_shape[1], inside.x1)
        out[y - region.y : y1 - region.y, x - region.x : x1 - region.x] = pixels[
            y - top : y1 - top, x - left : x1 - left
        ]


class HalvedLevel(Level):
    """A level that the file lacks, averaged 2 x 2 from the one above when it is looked at."""

    def __init__(self, parent: Level) -> None:
        super().__init__(grid_shape(parent.shape, 2), (512, 512), parent.cache)
        self._parent = parent

    def decode(self, row: int, column: int) -> Tile:
        """Average the four tiles' worth of pixels of the level above."""
        height, width = self.tile_shape
        rows = axis_taps(row * height, height, 2.0, self._parent.shape[0])
        columns = axis_taps(column * width, width, 2.0, self._parent.shape[1])
        region = Region(rows.first, columns.first, rows.source, columns.source)
        # Called from the pool's own threads: waiting there for the pool could wait for ever.
        return resample(self._parent.read(region, parallel=False), rows, columns)


def zarr_arrays(levels: tuple[Level, ...]) -> tuple[Any, ...]:
    """Offer every level as a read-only zarr v3 array ``(H, W, 3)`` uint8, one chunk a tile."""
    import zarr

    from napari_genselfdiff.slides.level_store import LevelStore

    store = LevelStore(levels)
    return tuple(zarr.open_array(store, path=str(i), mode="r") for i in range(len(levels)))


@functools.cache
def tile_pool() -> ThreadPoolExecutor:
    """Threads that decode tiles; the codecs release the interpreter lock."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="slide-tiles")
