"""The tile cache and the zarr side of levels."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.level_store import LevelStore
from napari_genselfdiff.slides.levels import (
    HalvedLevel,
    Level,
    Tile,
    TileCache,
    TileDamagedError,
    zarr_arrays,
)

TILE = 32
TILE_BYTES = TILE * TILE * 3


class CountingLevel(Level):
    """Tiles hold their row and column; one of them is damaged; decoding is counted."""

    def __init__(self, shape: tuple[int, int], cache: TileCache) -> None:
        super().__init__(shape, (TILE, TILE), cache)
        self.decoded: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def decode(self, row: int, column: int) -> Tile:
        with self._lock:
            self.decoded.append((row, column))
        if (row, column) == (1, 1):
            raise TileDamagedError("bad")
        return np.full((TILE, TILE, 3), (row, column, 7), np.uint8)


def test_cache_stays_below_its_bytes_and_drops_the_oldest() -> None:
    cache = TileCache(3 * TILE_BYTES)
    level = CountingLevel((320, 320), cache)
    for column in (2, 3, 4):
        level.tile(0, column)
    level.tile(0, 2)
    level.tile(0, 5)
    assert cache.nbytes == 3 * TILE_BYTES
    level.tile(0, 2)
    level.tile(0, 3)
    assert level.decoded == [(0, 2), (0, 3), (0, 4), (0, 5), (0, 3)]


def test_cache_holds_its_bound_between_threads() -> None:
    cache = TileCache(10 * TILE_BYTES)
    level = CountingLevel((640, 640), cache)
    places = [(i % 20, i * 7 % 20) for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        tiles = list(pool.map(lambda place: level.tile(*place), places))
    assert cache.nbytes == sum(tile.nbytes for tile in cache._tiles.values()) <= 10 * TILE_BYTES
    for (row, column), tile in zip(places, tiles, strict=True):
        if (row, column) != (1, 1):
            assert tile[0, 0].tolist() == [row, column, 7]


def test_tile_larger_than_the_cache_is_not_kept() -> None:
    cache = TileCache(100)
    CountingLevel((64, 64), cache).tile(0, 0)
    assert cache.nbytes == 0


def test_tiles_cannot_be_changed_by_their_readers() -> None:
    level = CountingLevel((64, 64), TileCache())
    with pytest.raises(ValueError, match="read-only"):
        level.tile(0, 0)[0, 0] = 1
    level.read(Region(0, 0, 64, 64))[:] = 9
    assert level.tile(0, 1)[0, 0].tolist() == [0, 1, 7]


def test_damaged_tile_is_counted_once_even_after_it_was_dropped() -> None:
    cache = TileCache(TILE_BYTES)
    level = CountingLevel((96, 96), cache)
    for _ in range(3):
        assert (level.read(Region(32, 32, 32, 32)) == 255).all()
        level.tile(2, 2)
    assert level.decoded.count((1, 1)) == 3
    assert len(cache.damaged) == 1


def test_halved_level_reads_through_the_cache() -> None:
    level = CountingLevel((100, 70), TileCache())
    half = HalvedLevel(level)
    assert half.shape == (50, 35)
    read = half.read(Region(0, 0, 50, 35))
    assert read[2, 2].tolist() == [0, 0, 7]
    assert read[40, 2].tolist() == [2, 0, 7]
    assert len(level.decoded) == 4 * 3


def test_arrays_decode_only_what_is_asked_for() -> None:
    level = CountingLevel((100, 70), TileCache())
    (array,) = zarr_arrays((level,))
    assert array.shape == (100, 70, 3)
    assert array.chunks == (TILE, TILE, 3)
    assert level.decoded == []
    np.testing.assert_array_equal(array[60:99, 60:70], level.read(Region(60, 60, 39, 10)))
    assert sorted(set(level.decoded)) == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]


def test_store_is_a_read_only_group() -> None:
    level = CountingLevel((100, 70), TileCache())
    store = LevelStore((level, HalvedLevel(level)))
    group = zarr.open_group(store, mode="r")
    assert sorted(group.array_keys()) == ["0", "1"]
    with pytest.raises(SlideError, match="read-only"):
        sync(store.set("0/c/0/0/0", None))  # type: ignore[arg-type]
    with pytest.raises(SlideError, match="read-only"):
        sync(store.delete("zarr.json"))
    assert store == LevelStore(store._levels)
    assert store != LevelStore((level,))


@pytest.mark.parametrize(
    "key", ["0/c/4/0/0", "0/c/0/3/0", "2/c/0/0/0", "0/c/-1/0/0", "0/c/0/0", "x", "0/c/a/0/0"]
)
def test_unknown_keys_give_nothing(key: str) -> None:
    store = LevelStore((CountingLevel((100, 70), TileCache()),))
    assert sync(store.get(key, default_buffer_prototype())) is None
    assert not sync(store.exists(key))


def test_parts_of_a_chunk() -> None:
    level = CountingLevel((100, 70), TileCache())
    store = LevelStore((level,))
    prototype = default_buffer_prototype()
    whole = level.tile(2, 1).tobytes()
    parts: list[RangeByteRequest | OffsetByteRequest | SuffixByteRequest] = [
        RangeByteRequest(3, 9),
        OffsetByteRequest(TILE_BYTES - 4),
        SuffixByteRequest(5),
    ]
    found = sync(store.get_partial_values(prototype, [("0/c/2/1/0", part) for part in parts]))
    expected = [whole[3:9], whole[-4:], whole[-5:]]
    assert [buffer.to_bytes() for buffer in found if buffer is not None] == expected
