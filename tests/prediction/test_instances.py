from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from napari_genselfdiff.prediction.instances import (
    area_classes,
    foreground_mask,
    instances,
    speck_side,
)
from tests.prediction.synthetic import blobs, make_card

MPP = 0.5
EIGHT = np.ones((3, 3))


def canonical(objects: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids in order of their first pixel, so that equal partitions are equal arrays."""
    ids, first, inverse = np.unique(objects.ravel(), return_index=True, return_inverse=True)
    rank = np.empty(len(ids), np.int64)
    rank[np.argsort(np.where(ids == 0, -1, first))] = np.arange(len(ids))
    return rank[inverse].reshape(objects.shape) + (0 if (ids == 0).any() else 1)


def test_two_touching_objects_are_split_at_the_saddle() -> None:
    distance = np.zeros((9, 21), np.float32)
    distance[2:7, 2:19] = 0.2
    distance[3:6, 4:8] = distance[3:6, 12:16] = 0.9
    foreground = (distance > 0).astype(np.float32)
    classes, objects = instances(foreground, distance, foreground[None], make_card(), MPP)
    assert objects.max() == 2
    assert objects[4, 3] != objects[4, 17]
    assert (classes == 3 * (foreground > 0)).all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_agrees_with_the_flooding_watershed(seed: int) -> None:
    foreground, distance = blobs(seed)
    card = make_card(min_object_um2=0.0)
    mask = foreground >= 0.5
    markers, _ = ndimage.label(mask & (distance > 0.5), structure=EIGHT)
    flooded = np.asarray(watershed(-distance, markers, mask=mask, connectivity=2))  # type: ignore[no-untyped-call]
    _, objects = instances(foreground, distance, foreground[None], card, MPP)
    reached = flooded > 0
    pairs = set(zip(objects[reached].tolist(), flooded[reached].tolist(), strict=True))
    best: dict[int, int] = {}
    for ours, theirs in pairs:
        best[theirs] = max(
            best.get(theirs, 0), int(((objects == ours) & (flooded == theirs)).sum())
        )
    assert sum(best.values()) >= 0.995 * reached.sum()
    assert len(np.unique(objects[reached])) == len(np.unique(flooded[reached]))


@given(seed=st.integers(0, 10_000), dy=st.integers(0, 30), dx=st.integers(0, 30))
@settings(max_examples=25)
def test_objects_do_not_depend_on_what_is_computed_with_them(seed: int, dy: int, dx: int) -> None:
    """Clumps that a crop holds whole are split there as they are in the large image."""
    foreground, distance = blobs(seed, noise=0.05)
    # Coarse values make ties, which a flooding queue breaks by what happened elsewhere.
    distance = np.round(distance * 16).astype(np.float32) / np.float32(16)
    card = make_card()
    _, whole = instances(foreground, distance, foreground[None], card, MPP)
    part = (slice(dy, dy + 120), slice(dx, dx + 110))
    _, cropped = instances(foreground[part], distance[part], foreground[None][:, *part], card, MPP)
    clumps, _ = ndimage.label(foreground >= 0.5, structure=EIGHT)
    outside = np.ones_like(clumps, bool)
    outside[part] = False
    inside_only = ~np.isin(clumps, np.unique(clumps[ndimage.binary_dilation(outside)]))[part]
    expected = np.where(inside_only, whole[part], 0)
    np.testing.assert_array_equal(canonical(np.where(inside_only, cropped, 0)), canonical(expected))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_every_foreground_pixel_has_an_object_of_at_least_the_smallest_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    foreground = ndimage.gaussian_filter(rng.random((80, 90)), 1.5).astype(np.float32)
    foreground = (foreground - foreground.min()) / np.ptp(foreground)
    card = make_card(min_object_um2=5.0)  # 20 px
    mask = foreground_mask(foreground, card, MPP)
    classes, objects = instances(foreground, rng.random((80, 90)), foreground[None], card, MPP)
    np.testing.assert_array_equal(objects > 0, mask)
    np.testing.assert_array_equal(classes > 0, mask)
    assert objects.dtype == np.uint32
    if mask.any():
        sizes = np.bincount(objects.ravel())[1:]
        for number in np.flatnonzero(sizes < 20) + 1:  # then it is long and thin
            place = ndimage.find_objects((objects == number).astype(np.int8))[0]
            assert max(part.stop - part.start for part in place) >= speck_side(card, MPP) == 9
        parts = [ndimage.label(objects == i, structure=EIGHT)[1] for i in range(1, len(sizes) + 1)]
        assert set(parts) == {1}, "an object in two pieces"


def test_specks_are_left_out() -> None:
    foreground = np.zeros((20, 20), np.float32)
    foreground[2:4, 2:4] = 1  # 4 px
    foreground[8:14, 8:14] = 1
    classes, objects = instances(foreground, foreground, foreground[None], make_card(), MPP)
    assert not objects[:6].any()
    assert not classes[:6].any()
    assert (objects[8:14, 8:14] == 1).all()


def test_whether_something_is_a_speck_is_seen_from_nearby() -> None:
    """A thin line is kept, however it is cut, because its ends cannot be seen from everywhere."""
    foreground = np.zeros((40, 40), np.float32)
    foreground[10, 10:19] = 1  # 9 px: a speck may be 7 px long
    foreground[20, 10:16] = 1
    card = make_card()
    assert speck_side(card, MPP) == 7
    found = foreground_mask(foreground, card, MPP)
    assert found[10, 10:19].all()
    assert not found[20].any()


def test_foreground_without_a_core_is_still_an_object() -> None:
    foreground = np.zeros((20, 20), np.float32)
    foreground[5:12, 5:12] = 1
    _, objects = instances(foreground, 0.2 * foreground, foreground[None], make_card(), MPP)
    assert (objects[5:12, 5:12] == 1).all()


def test_the_class_of_an_object_is_that_of_most_of_it() -> None:
    foreground = np.zeros((20, 40), np.float32)
    foreground[5:15, 5:15] = foreground[5:15, 25:35] = 1
    probabilities = np.stack([foreground * 0.3, foreground * 0.7])
    probabilities[:, 5:15, 25:35] = np.array([0.9, 0.1])[:, None, None]
    probabilities[:, 5:8, 25:35] = np.array([0.1, 0.9])[:, None, None]  # a third disagrees
    card = make_card(n_classes=2)
    classes, objects = instances(foreground, foreground, probabilities, card, MPP)
    assert set(np.unique(classes[objects == objects[6, 6]])) == {5}
    assert set(np.unique(classes[objects == objects[6, 30]])) == {3}


def test_nothing_found_is_nothing() -> None:
    empty = np.zeros((10, 10), np.float32)
    classes, objects = instances(empty, empty, empty[None], make_card(), MPP)
    assert not classes.any()
    assert not objects.any()


def test_areas_are_the_most_probable_class() -> None:
    probabilities = np.zeros((3, 2, 2), np.float32)
    probabilities[0, 0, 0] = probabilities[1, 0, 1] = probabilities[2, 1] = 0.6
    card = make_card("areas", n_classes=2)
    assert area_classes(probabilities, card).tolist() == [[0, 3], [5, 5]]


@pytest.mark.parametrize(("mpp", "expected"), [(0.5, 0), (0.25, 1)])
def test_the_smallest_object_is_a_size_of_the_tissue_not_of_the_image(
    mpp: float, expected: int
) -> None:
    foreground = np.zeros((20, 20), np.float32)
    foreground[5:11, 5:11] = 1  # 36 px: 9 µm² at 0.5, 2.25 µm² at 0.25
    card = make_card(min_object_um2=5.0)
    kept = foreground_mask(foreground, card, mpp).any()
    assert kept == (expected == 0)
