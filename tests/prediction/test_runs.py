from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_genselfdiff.prediction.runs import Runs, runs_of

EIGHT = np.ones((3, 3))
MASKS = st.builds(
    lambda seed, shape, share: np.random.default_rng(seed).random(shape) < share,
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.sampled_from([0.0, 0.1, 0.4, 0.6, 0.95, 1.0]),
)


def numbered(runs: Runs) -> NDArray[np.int64]:
    return runs.painted(runs.part + 1)


@given(mask=MASKS)
@settings(max_examples=150)
def test_parts_are_those_of_scipy_in_the_same_order(mask: NDArray[np.bool_]) -> None:
    expected, count = ndimage.label(mask, structure=EIGHT)
    runs = runs_of(mask)
    assert runs.count == count
    np.testing.assert_array_equal(numbered(runs), expected)


@given(mask=MASKS)
@settings(max_examples=60)
def test_parts_are_measured_as_on_pixels(mask: NDArray[np.bool_]) -> None:
    labels, count = ndimage.label(mask, structure=EIGHT)
    runs = runs_of(mask)
    assert runs.sizes().tolist() == np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
    boxes = ndimage.find_objects(labels)
    rows, columns = runs.extent()
    assert rows.tolist() == [box[0].stop - box[0].start for box in boxes]
    assert columns.tolist() == [box[1].stop - box[1].start for box in boxes]


@given(mask=MASKS, seed=st.integers(0, 100))
@settings(max_examples=60)
def test_every_pixel_has_its_place(mask: NDArray[np.bool_], seed: int) -> None:
    runs = runs_of(mask)
    np.testing.assert_array_equal(runs.pixels(), np.flatnonzero(mask))
    values = np.random.default_rng(seed).integers(1, 255, len(runs.start)).astype(np.uint8)
    image = runs.painted(values)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.ravel()[runs.pixels()], runs.spread(values))
    # All eight neighbours of a place are at fixed steps.
    framed = np.zeros((mask.shape[0] + 2) * runs.pitch + 1, bool)
    framed[runs.places()] = True
    around = sum(
        framed[runs.places() + dy * runs.pitch + dx].astype(int)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    )
    expected = ndimage.convolve(mask.astype(int), EIGHT.astype(int), mode="constant")
    np.testing.assert_array_equal(around, expected[mask])


@given(mask=MASKS, seed=st.integers(0, 100))
@settings(max_examples=60)
def test_some_parts_are_kept_and_numbered_anew(mask: NDArray[np.bool_], seed: int) -> None:
    labels, count = ndimage.label(mask, structure=EIGHT)
    wanted = np.random.default_rng(seed).random(count) < 0.5
    kept = runs_of(mask).only(wanted)
    expected, _ = ndimage.label(np.concatenate([[False], wanted])[labels], structure=EIGHT)
    np.testing.assert_array_equal(numbered(kept), expected)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 4)])
def test_nothing_has_no_parts(shape: tuple[int, int]) -> None:
    runs = runs_of(np.zeros(shape, bool))
    assert runs.count == 0
    assert numbered(runs).shape == shape
    assert not numbered(runs).any()
