"""Simulated users know no more than a person would, and leave what the editor would leave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, MODEL, UNKNOWN, Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.annotator import (
    Habits,
    Scene,
    dense_user,
    find_flaws,
    jittered,
    sparse_user,
    worst_views,
)
from napari_genselfdiff.slides.geometry import Region
from tests.learning import tiny

SIZE = 160
WHOLE = Region(0, 0, SIZE, SIZE)
VIEW = Region(16, 16, 128, 128)
seeds = st.integers(0, 10**6)
Ids = NDArray[np.uint32]


def window(ids: Ids, provenance: int, classes: NDArray[np.uint8] | None = None) -> Window:
    classes = (ids > 0).astype(np.uint8) if classes is None else classes
    return Window(WHOLE, classes, ids, np.full(ids.shape, provenance, np.uint8))


def scene(seed: int, *, classes: int = 1) -> Scene:
    """A picture whose answer misses, invents and distorts some of the true objects."""
    rng = np.random.default_rng([seed, 1])
    image, ids = tiny.tissue(seed, SIZE)
    drawn = np.zeros_like(ids)
    for number in np.unique(ids)[1:]:
        mask = ids == number
        fate = rng.random()
        if fate < 0.5:
            drawn[mask] = number + 5
        elif fate < 0.75:
            drawn[ndimage.binary_erosion(mask, iterations=3)] = number + 5
    for number in range(1, 5):
        y, x = rng.integers(0, SIZE - 12, 2)
        drawn[y : y + 12, x : x + 12] = 1000 + number
    kinds = rng.integers(1, classes + 1, int(max(drawn.max(), ids.max())) + 1).astype(np.uint8)
    kinds[0] = 0
    return Scene(
        "test", image, 0.25, window(drawn, MODEL, kinds[drawn]), window(ids, 0, kinds[ids])
    )


def inside(tile_array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The view's part of a tile: the margin of 32 is cut at the picture's edge, 16 pixels away."""
    return tile_array[16 : 16 + 128, 16 : 16 + 128]


@given(seed=seeds, most=st.integers(0, 30))
def test_provenance_is_that_of_the_editor(seed: int, most: int) -> None:
    made = scene(seed)
    corrected = sparse_user(made, VIEW, np.random.default_rng(seed), Habits(most=most))
    tile = corrected.tile
    assert tile.image.shape[:2] == (SIZE, SIZE)
    before = made.answer.cropped(VIEW)
    provenance, classes = inside(tile.provenance), inside(tile.classes)
    border = np.ones((SIZE, SIZE), bool)
    border[VIEW.slices] = False
    assert (tile.provenance[border] == MODEL).all()  # nobody looked there
    assert set(np.unique(provenance)) <= {UNKNOWN, ACCEPTED, HUMAN}
    accepted = provenance == ACCEPTED
    np.testing.assert_array_equal(classes[accepted], before.classes[accepted])
    assert (classes[provenance == UNKNOWN] == 0).all()
    assert tile.objects is not None
    np.testing.assert_array_equal(tile.objects > 0, tile.classes > 0)
    flaws = find_flaws(before, made.truth.cropped(VIEW))
    assert corrected.actions == min(most, len(flaws)) + 1
    assert corrected.left + corrected.overlooked == max(len(flaws) - most, 0)


@given(seed=seeds)
def test_a_tireless_exact_user_gives_the_truth(seed: int) -> None:
    """With all flaws fixed and no jitter only what counted as good enough differs."""
    made = scene(seed, classes=2)
    habits = Habits(most=1000, jitter_px=0.0, good_iou=1.0, overlooked=1.0)
    tile = sparse_user(made, VIEW, np.random.default_rng(0), habits).tile
    np.testing.assert_array_equal(inside(tile.classes), made.truth.cropped(VIEW).classes)
    assert inside(tile.known).all()


@given(seed=seeds)
def test_nothing_wrong_is_accepted_unless_it_is_overlooked(seed: int) -> None:
    made = scene(seed)
    habits = Habits(most=3, jitter_px=0.0, overlooked=0.0, good_iou=1.0)
    tile = sparse_user(made, VIEW, np.random.default_rng(seed), habits).tile
    known, truth = inside(tile.known), made.truth.cropped(VIEW)
    np.testing.assert_array_equal(inside(tile.classes)[known], truth.classes[known])


@given(seed=seeds)
def test_all_overlooked_is_all_accepted(seed: int) -> None:
    made = scene(seed)
    habits = Habits(most=0, overlooked=1.0)
    corrected = sparse_user(made, VIEW, np.random.default_rng(seed), habits)
    tile = corrected.tile
    np.testing.assert_array_equal(inside(tile.classes), made.answer.cropped(VIEW).classes)
    assert (inside(tile.provenance) == ACCEPTED).all()
    assert (corrected.actions, corrected.human_px) == (1, 0)


@given(seed=seeds)
def test_a_perfect_answer_needs_only_the_accept(seed: int) -> None:
    _, ids = tiny.tissue(seed, SIZE)
    made = replace(scene(seed), answer=window(ids, MODEL), truth=window(ids, 0))
    corrected = sparse_user(made, VIEW, np.random.default_rng(seed))
    assert (corrected.actions, corrected.left, corrected.overlooked) == (1, 0, 0)


@given(seed=seeds)
def test_equal_seeds_make_equal_users(seed: int) -> None:
    a, b = (sparse_user(scene(seed), VIEW, np.random.default_rng(seed)).tile for _ in range(2))
    np.testing.assert_array_equal(a.classes, b.classes)
    np.testing.assert_array_equal(a.provenance, b.provenance)


@given(seed=seeds)
def test_neither_answer_nor_truth_is_changed(seed: int) -> None:
    made, same = scene(seed), scene(seed)
    sparse_user(made, VIEW, np.random.default_rng(seed))
    dense_user(made, VIEW)
    for a, b in ((made.answer, same.answer), (made.truth, same.truth)):
        np.testing.assert_array_equal(a.classes, b.classes)
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.provenance, b.provenance)


def test_flaws_by_kind_the_worst_first() -> None:
    truth, drawn = np.zeros((2, SIZE, SIZE), np.uint32)
    truth[10:30, 10:30] = 1  # found
    drawn[10:30, 10:30] = 7
    truth[50:70, 10:30] = 2  # half of it found
    drawn[50:70, 10:20] = 3
    truth[90:100, 10:20] = 4  # missed
    drawn[90:100, 90:130] = 9  # false
    truth[130:140, 10:20] = 5  # found as another class
    drawn[130:140, 10:20] = 4
    classes = (truth > 0).astype(np.uint8)
    classes[truth == 5] = 2
    flaws = find_flaws(window(drawn, MODEL), window(truth, 0, classes))
    found = [(flaw.kind, flaw.object_id, flaw.value, flaw.wrong_px) for flaw in flaws]
    assert found[:2] == [("false", 9, 0, 400), ("bad", 3, 1, 200)]
    assert sorted(found[2:]) == [("class", 4, 2, 100), ("missed", 0, 1, 100)]


def test_areas_are_corrected_piece_by_piece() -> None:
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[:, 80:], truth[:40, :40] = 1, 2
    answer = np.zeros_like(truth)
    answer[:, 90:] = 1
    windows = [
        Window(WHOLE, classes, None, np.full(classes.shape, MODEL, np.uint8))
        for classes in (answer, truth)
    ]
    made = Scene("areas", tiny.tissue(0, SIZE)[0], 1.0, *windows)
    corrected = sparse_user(made, VIEW, np.random.default_rng(0), Habits(most=1, overlooked=0.0))
    assert corrected.fixed == {"area": 1}
    assert corrected.tile.objects is None
    provenance, classes = inside(corrected.tile.provenance), inside(corrected.tile.classes)
    assert (classes[provenance == HUMAN] == 1).all()  # the wider strip is the worse one
    assert (provenance[:24, :24] == UNKNOWN).all()
    exact = sparse_user(made, VIEW, np.random.default_rng(0), Habits(jitter_px=0.0))
    np.testing.assert_array_equal(inside(exact.tile.classes), truth[VIEW.slices])


@given(seed=seeds, sd=st.floats(0, 3))
def test_an_outline_drawn_by_hand_is_off_by_little(seed: int, sd: float) -> None:
    yy, xx = np.mgrid[:64, :64]
    disc = (yy - 30) ** 2 + (xx - 34) ** 2 < 12**2
    drawn = jittered(disc, np.random.default_rng(seed), sd)
    assert drawn.any()
    off = ndimage.distance_transform_edt(disc) + ndimage.distance_transform_edt(~disc)
    assert off[drawn ^ disc].max(initial=0.0) <= 5 * sd + 1
    if sd == 0:
        np.testing.assert_array_equal(drawn, disc)
    elif sd > 1:
        assert (drawn ^ disc).any()


@given(seed=seeds)
def test_tiny_objects_never_vanish_under_the_hand(seed: int) -> None:
    dot = np.zeros((9, 9), bool)
    dot[0, 8] = True
    assert jittered(dot, np.random.default_rng(seed), 3.0).any()


@given(seed=seeds)
def test_the_dense_user_says_all(seed: int) -> None:
    made = scene(seed)
    corrected = dense_user(made, VIEW)
    truth = made.truth.cropped(VIEW)
    assert (inside(corrected.tile.provenance) == HUMAN).all()
    np.testing.assert_array_equal(inside(corrected.tile.classes), truth.classes)
    assert corrected.human_px == VIEW.area
    assert corrected.actions == max(len(np.unique(truth.ids)) - 1, 1)


class TestWorstViews:
    @given(seed=seeds, size=st.integers(20, 90))
    def test_as_many_as_fit_the_worst_first_and_apart(self, seed: int, size: int) -> None:
        made = scene(seed)
        views = worst_views(made, WHOLE, 100, size=size)
        assert len(views) == (SIZE // size) ** 2
        wrong = [int(made.wrong[view.slices].sum()) for view in views]
        assert wrong == sorted(wrong, reverse=True)
        for i, a in enumerate(views):
            assert WHOLE.contains(a)
            assert all(a.intersection(b) is None for b in views[i + 1 :])

    @given(seed=seeds, count=st.integers(1, 4))
    def test_one_after_the_other_is_all_at_once(self, seed: int, count: int) -> None:
        made = scene(seed)
        taken: list[Region] = []
        for _ in range(count):
            taken += worst_views(made, WHOLE, 1, size=48, taken=taken)
        assert taken == worst_views(made, WHOLE, count, size=48)

    def test_a_part_smaller_than_a_view(self) -> None:
        part = Region(10, 20, 30, 200).clipped((SIZE, SIZE))
        assert part is not None
        assert worst_views(scene(1), part, 5, size=256) == [part]
        assert worst_views(scene(1), part, 5, size=256, taken=[part]) == []


@pytest.mark.parametrize("wrong", [{"most": -1}, {"overlooked": 1.5}, {"good_iou": 0.0}])
def test_habits_nobody_has(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="habits"):
        Habits(**wrong)  # type: ignore[arg-type]
