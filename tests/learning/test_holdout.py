from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_genselfdiff.learning.holdout import block_ids, hold_out
from tests.learning import tiny


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4))
def test_held_out_pixels_are_known_and_leave_most_to_learn_from(seed: int, count: int) -> None:
    tiles = [tiny.tile(number, size=256) for number in range(count)]
    held = hold_out(tiles, seed=seed)
    known = sum(int(tile.known.sum()) for tile in tiles)
    kept = sum(int(mask.sum()) for mask in held)
    assert all(not (mask & ~tile.known).any() for tile, mask in zip(tiles, held, strict=True))
    assert 0.1 * known < kept < 0.5 * known


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_no_object_is_split(seed: int) -> None:
    tile = tiny.tile(3, size=256)
    (mask,) = hold_out([tile], seed=seed)
    assert tile.objects is not None
    for number in np.unique(tile.objects[tile.objects > 0]):
        assert len(np.unique(mask[tile.objects == number])) == 1


def test_the_same_seed_gives_the_same_split() -> None:
    tiles = [tiny.tile(1), tiny.tile(2)]
    for one, other in zip(hold_out(tiles, seed=4), hold_out(tiles, seed=4), strict=True):
        np.testing.assert_array_equal(one, other)


def test_corrected_places_are_among_those_kept_aside() -> None:
    tile = tiny.tile(1, size=256, provenance=2)
    provenance = tile.provenance.copy()
    provenance[20:44, 20:44] = 3
    provenance[150:170, 150:170] = 3
    corrected = replace(tile, provenance=provenance)
    (mask,) = hold_out([corrected], seed=0)
    assert (mask & corrected.human).any()
    assert (~mask & corrected.human).any()


def test_one_single_known_spot_is_trained_on() -> None:
    tile = tiny.tile(1, size=64)
    provenance = np.zeros_like(tile.provenance)
    provenance[10:20, 10:20] = 3
    (mask,) = hold_out([replace(tile, provenance=provenance)], seed=0)
    assert not mask.any()


def test_blocks_are_numbered_in_reading_order() -> None:
    ids = block_ids((3, 5), block=2)
    assert ids.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
