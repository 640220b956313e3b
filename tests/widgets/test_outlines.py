"""Outlines are computed where one looks, and equal those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.outlines import (
    UNSEEN,
    Hidden,
    LevelView,
    border,
    checked_levels,
    shown_levels,
)


def scene(seed: int, side: int = 40) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Rectangles that touch and overlap."""
    rng = np.random.default_rng(seed)
    objects = np.zeros((side, side), np.uint32)
    for number in range(1, 12):
        y, x = rng.integers(0, side - 4, 2)
        objects[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = number
    return (objects % 3).astype(np.uint8), objects


def test_border_of_a_square() -> None:
    objects = np.zeros((9, 9), np.uint32)
    objects[1:8, 1:8] = 5
    inside = np.zeros((9, 9), bool)
    inside[3:6, 3:6] = True
    np.testing.assert_array_equal(border(objects, 2), (objects > 0) & ~inside)


def test_touching_objects_keep_a_line_each() -> None:
    objects = np.ones((8, 12), np.uint32)
    objects[:, 6:] = 2
    lines = border(objects, 1)
    assert lines[:, 5:7].all()
    assert lines.sum() == 16


@given(seed=st.integers(0, 10_000), thickness=st.integers(1, 3))
def test_border_is_what_lies_near_another_value(seed: int, thickness: int) -> None:
    _, objects = scene(seed, 24)
    lines = border(objects, thickness)
    assert not lines[objects == 0].any()
    rest = np.where(lines, 0, objects)
    # What is left inside has only its own object around it.
    for y, x in np.argwhere(rest > 0):
        near = objects[max(y - 1, 0) : y + 2, x], objects[y, max(x - 1, 0) : x + 2]
        assert all((part == objects[y, x]).all() for part in near)


@given(
    seed=st.integers(0, 10_000),
    repeat=st.sampled_from([1, 2, 4]),
    ends=st.lists(st.integers(0, 39), min_size=4, max_size=4),
)
def test_any_part_equals_the_part_of_the_whole(seed: int, repeat: int, ends: list[int]) -> None:
    classes, objects = scene(seed)
    view = LevelView(classes, objects, repeat, 1, [Hidden()])
    whole = np.asarray(view)
    assert whole.shape == view.shape == (40 * repeat, 40 * repeat)
    big_objects = objects.repeat(repeat, 0).repeat(repeat, 1)
    big_classes = classes.repeat(repeat, 0).repeat(repeat, 1)
    np.testing.assert_array_equal(whole, np.where(border(big_objects), big_classes, 0))
    y, y1 = sorted(ends[:2])
    x, x1 = sorted(ends[2:])
    part = (slice(y * repeat, y1 * repeat + 1), slice(x * repeat, x1 * repeat + 1))
    np.testing.assert_array_equal(view[part], whole[part])


def test_hidden_place_is_blank_at_every_level() -> None:
    classes, objects = np.ones((64, 64), np.uint8), np.arange(1, 4097, dtype=np.uint32)
    hidden = [Hidden()]
    pyramid = [classes[:: 2**k, :: 2**k] for k in range(3)]
    ids = [objects.reshape(64, 64)[:: 2**k, :: 2**k] for k in range(3)]
    levels = shown_levels(pyramid, ids, hidden)
    assert [level.shape[0] for level in levels] == [256, 128, 64, 32, 16]
    before = [np.asarray(level) for level in levels]
    hidden[0] = Hidden(Region(16, 32, 16, 16))
    for level, whole in zip(levels, before, strict=True):
        n = level.shape[0] // 16
        assert whole[4 * n : 8 * n, 8 * n : 12 * n].any()
        whole[4 * n : 8 * n, 8 * n : 12 * n] = 0
        np.testing.assert_array_equal(np.asarray(level), whole)


def test_areas_are_shown_plain() -> None:
    classes = np.arange(16, dtype=np.uint8).reshape(4, 4)
    finer, level = shown_levels([classes], None, [Hidden()])
    np.testing.assert_array_equal(level[1:3], classes[1:3])
    np.testing.assert_array_equal(finer[3:5, 1:2], classes[1:3, :1])


def test_who_checked_what_is_told_apart() -> None:
    provenance = np.zeros((40, 40), np.uint8)
    provenance[4:36, 4:36] = 2
    provenance[10:20, 10:20] = 3
    provenance[0, 0] = 1
    views = checked_levels([provenance])
    assert [view.repeat for view in views] == [4, 2, 1]
    for view in views:
        shown, n = np.asarray(view), view.repeat
        unseen = (provenance == 0).repeat(n, 0).repeat(n, 1)
        assert ((shown == UNSEEN) == unseen).all()
        # By hand: a closed line just outside; accepted: dashes just inside, and gaps.
        human = frame(shown.shape, 10 * n, 20 * n)
        assert (shown == 3)[human & ~corners(shown.shape, 10 * n, 20 * n)].all()
        assert not (shown == 3)[~human].any()
        rim = frame(shown.shape, 4 * n + 2, 36 * n - 2)
        assert 0.4 * rim.sum() < (shown == 2).sum() < 0.8 * rim.sum()
        assert not (shown == 2)[~rim].any()


def frame(shape: tuple[int, ...], first: int, stop: int) -> NDArray[np.bool_]:
    """Two pixels around the square [first, stop)."""
    drawn = np.zeros(shape, bool)
    drawn[first - 2 : stop + 2, first - 2 : stop + 2] = True
    drawn[first:stop, first:stop] = False
    return drawn


def corners(shape: tuple[int, ...], first: int, stop: int) -> NDArray[np.bool_]:
    drawn = np.zeros(shape, bool)
    for y in (slice(first - 2, first), slice(stop, stop + 2)):
        for x in (slice(first - 2, first), slice(stop, stop + 2)):
            drawn[y, x] = True
    return drawn


@given(ends=st.lists(st.integers(0, 159), min_size=4, max_size=4), seed=st.integers(0, 10_000))
def test_any_part_of_what_was_checked_equals_the_part_of_the_whole(
    ends: list[int], seed: int
) -> None:
    provenance = (scene(seed)[1] % 4).astype(np.uint8)
    view = checked_levels([provenance])[0]
    y, y1 = sorted(ends[:2])
    x, x1 = sorted(ends[2:])
    np.testing.assert_array_equal(view[y:y1, x:x1], np.asarray(view)[y:y1, x:x1])


def test_other_steps_are_refused() -> None:
    view = LevelView(np.ones((4, 4), np.uint8), None, 1, 1, [Hidden()])
    with pytest.raises(IndexError, match="step"):
        view[::2, :]
