"""Split, merge, fill holes, smooth and what lies inside a line: properties of every edit."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_genselfdiff.annotation import objects
from napari_genselfdiff.annotation.paths import (
    bounds,
    crossed,
    crossing_parts,
    enclosed,
    lengthened,
    outer_parts,
)
from napari_genselfdiff.annotation.window import HUMAN, MODEL, Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks

VIEW = Region(300, 200, 90, 110)
EIGHT = np.ones((3, 3), bool)
Mask = NDArray[np.bool_]


def scene(seed: int) -> Window:
    """Blobs of random size, some of which touch; ids from 1."""
    rng = np.random.default_rng(seed)
    circles = [
        (VIEW.y + rng.uniform(10, 80), VIEW.x + rng.uniform(10, 100), rng.uniform(3, 18))
        for _ in range(6)
    ]
    window = disks(VIEW, *circles)
    for object_id in np.unique(window.ids[window.ids > 0]).tolist():
        pieces, n = ndimage.label(window.ids == object_id)
        sizes = np.bincount(pieces.ravel(), minlength=n + 1)
        sizes[0] = 0
        lost = (pieces > 0) & (pieces != sizes.argmax())
        window.ids[lost], window.classes[lost] = 0, 0
    window.classes[window.ids == 2] = 7
    return window


def ids_of(window: Window) -> set[int]:
    return set(np.unique(window.ids).tolist()) - {0}


def pieces(mask: Mask) -> int:
    return int(ndimage.label(mask)[1])


lines = st.lists(
    st.tuples(st.floats(VIEW.y, VIEW.y1), st.floats(VIEW.x, VIEW.x1)), min_size=2, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 200), line=lines)
def test_split_keeps_the_union_and_gives_connected_parts(
    seed: int, line: list[tuple[float, float]]
) -> None:
    before = scene(seed)
    after, split = objects.split_objects(before, line)
    np.testing.assert_array_equal(after.ids > 0, before.ids > 0)
    np.testing.assert_array_equal(after.classes, before.classes)
    assert set(split.cut) | set(split.missed) == set(objects.on_line(before, line))
    new = ids_of(after) - ids_of(before)
    assert len(new) == split.parts - len(split.cut)
    for object_id in split.cut:
        mask = before.ids == object_id
        parts = np.unique(after.ids[mask]).tolist()
        assert len(parts) >= 2
        assert object_id in parts
        sizes = [int((after.ids == part).sum()) for part in parts]
        assert max(sizes) == int((after.ids == object_id).sum())
        assert all(pieces(after.ids == part) == 1 for part in parts)
        assert (after.provenance[mask] == HUMAN).all()
    untouched = ~np.isin(before.ids, split.cut)
    np.testing.assert_array_equal(after.ids[untouched], before.ids[untouched])
    assert (after.provenance[untouched] == MODEL).all()


def test_a_line_from_rim_to_rim_cuts_and_one_that_ends_inside_does_not() -> None:
    window = disks(VIEW, (345, 255, 15))
    after, split = objects.split_objects(window, [(331, 255), (359, 255)])  # ends on the outline
    assert split.cut == (1,)
    assert split.parts == 2
    assert after.ids[45, 45] != after.ids[45, 65]
    after, split = objects.split_objects(window, [(320, 255), (345, 255)])
    assert split.missed == (1,)
    np.testing.assert_array_equal(after.ids, window.ids)


def test_a_zigzag_cuts_into_many_parts_without_specks() -> None:
    window = disks(VIEW, (345, 255, 20))
    zigzag = [(335.0, 230.0), (337.0, 280.0), (345.0, 280.0), (347.0, 230.0)]
    after, split = objects.split_objects(window, zigzag)
    assert split.parts == 3
    assert min(int((after.ids == i).sum()) for i in ids_of(after)) > 100


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 200), line=lines)
def test_merge_makes_one_object_and_eats_no_other(
    seed: int, line: list[tuple[float, float]]
) -> None:
    before = scene(seed)
    ids = objects.on_line(before, line)
    try:
        after = objects.merge_objects(before, ids)
    except ConfigError as error:
        said = str(error)
        assert "alone" in said if len(ids) < 2 else "apart" in said or "between" in said
        return
    mask = np.isin(before.ids, ids)
    merged = after.ids == ids[0]
    assert merged[mask].all()
    assert ndimage.label(merged, EIGHT)[1] == 1
    assert (before.ids[merged & ~mask] == 0).all()
    assert len(np.unique(after.classes[merged])) == 1
    assert after.classes[merged][0] == before.classes[before.ids == ids[0]][0]
    others = (before.ids > 0) & ~mask
    np.testing.assert_array_equal(after.ids[others], before.ids[others])
    assert ids_of(after) == (ids_of(before) - set(ids)) | {ids[0]}
    assert (after.provenance[merged] == HUMAN).all()


@pytest.mark.parametrize(("gap", "fits"), [(0, True), (3, True), (8, True), (9, False)])
def test_narrow_gaps_are_bridged_and_wide_ones_are_named(gap: int, fits: bool) -> None:
    window = disks(VIEW, (345, 230, 10), (345, 251 + gap, 10))
    if not fits:
        with pytest.raises(ConfigError, match="9 pixels apart"):
            objects.merge_objects(window, [1, 2])
        return
    after = objects.merge_objects(window, [2, 1])
    assert ids_of(after) == {2}
    assert ndimage.label(after.ids == 2, EIGHT)[1] == 1
    assert int((after.ids > 0).sum()) - int((window.ids > 0).sum()) < 15 * (gap + 1)


def test_merge_does_not_go_through_a_third_object() -> None:
    window = disks(VIEW, (345, 230, 10), (345, 255, 10))
    wall = slice(41, 43)
    window.ids[:, wall], window.classes[:, wall] = 9, 1
    with pytest.raises(ConfigError, match="between"):
        objects.merge_objects(window, [1, 2])


def test_holes_are_filled_and_what_lies_inside_stays() -> None:
    window = disks(VIEW, (345, 255, 25))
    window.ids[35:56, 45:66], window.classes[35:56, 45:66] = 0, 0
    window.ids[44:47, 53:58], window.classes[44:47, 53:58] = 5, 7
    after = objects.fill_holes(window, 1)
    inner = after.ids[35:56, 45:66]
    assert set(np.unique(inner)) == {1, 5}
    np.testing.assert_array_equal(after.ids == 5, window.ids == 5)
    assert (after.classes[after.ids == 1] == 1).all()
    open_ring = window.copy()
    open_ring.ids[:46, 55], open_ring.classes[:46, 55] = 0, 0
    np.testing.assert_array_equal(objects.fill_holes(open_ring, 1).ids, open_ring.ids)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 500))
def test_smooth_touches_no_other_object_and_keeps_the_size(seed: int) -> None:
    before = scene(seed)
    rng = np.random.default_rng(seed)
    rough = before.ids.copy()
    object_id = int(rng.choice(sorted(ids_of(before))))
    own = before.ids == object_id
    rim = ndimage.binary_dilation(own, EIGHT) & (before.ids == 0)
    rough[rim & (rng.random(rim.shape) < 0.4)] = object_id
    before.ids[...] = rough
    before.classes[before.ids == object_id] = before.classes[own][0]
    size = int((before.ids == object_id).sum())
    if size < 60:  # may be refused; that is another test's matter
        return
    after = objects.smooth(before, object_id)
    others = (before.ids > 0) & (before.ids != object_id)
    np.testing.assert_array_equal(after.ids[others], before.ids[others])
    np.testing.assert_array_equal(after.provenance[others], before.provenance[others])
    now = int((after.ids == object_id).sum())
    assert size / 2 <= now <= 2 * size
    far = ndimage.distance_transform_edt(before.ids != object_id) > 4
    assert not (after.ids[far] == object_id).any()


def test_smooth_takes_spikes_away() -> None:
    window = disks(VIEW, (345, 255, 20))
    window.ids[45, 75:90], window.classes[45, 75:90] = 1, 1
    after = objects.smooth(window, 1)
    assert not (after.ids[:, 80:] > 0).any()
    assert abs(int((after.ids > 0).sum()) - np.pi * 400) < 40
    lost = (window.ids > 0) & (after.ids == 0)
    assert (after.provenance[lost] == HUMAN).all()
    assert (after.classes[lost] == 0).all()


def test_smooth_refuses_what_would_vanish() -> None:
    with pytest.raises(ConfigError, match="too small"):
        objects.smooth(disks(VIEW, (345, 255, 1)), 1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 200), y=st.integers(0, 90), x=st.integers(0, 110))
def test_mostly_inside_is_more_than_half(seed: int, y: int, x: int) -> None:
    window = scene(seed)
    inside = np.zeros(VIEW.shape, bool)
    inside[:y, :x] = True
    areas = {i: int((window.ids == i).sum()) for i in ids_of(window)}
    areas[1] = areas.get(1, 0) + 500  # most of it lies outside the window
    chosen = set(objects.mostly_inside(window.ids, inside, areas).tolist())
    meant = {i for i in ids_of(window) if 2 * int((inside & (window.ids == i)).sum()) > areas[i]}
    assert chosen == meant


@given(
    points=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=3, max_size=8),
    shift=st.integers(-3, 3),
)
@settings(max_examples=60, deadline=None)
def test_enclosed_is_what_a_line_goes_around_and_keeps_water_out_of(
    points: list[tuple[int, int]], shift: int
) -> None:
    """Off the line: what it winds around lies inside, and no flood from outside gets there.

    The flood alone cannot tell what is inside: pixels of the line also close narrow bays.
    """
    region = Region(-4 + shift, -4, 52, 52)
    where = [(float(y), float(x)) for y, x in points]
    line = crossed([*where, where[0]], region)
    outside = ndimage.label(~line)[0]
    dry = ~line & (outside != outside[0, 0])
    found = enclosed(where, region)
    off = ~ndimage.binary_dilation(line, EIGHT)
    assert not (found & ~dry)[off].any()
    assert not ((turns(where, region) != 0) & ~found)[off].any()


def turns(points: list[tuple[float, float]], region: Region) -> NDArray[np.int64]:
    """How often a closed path winds around every pixel that is not on it: its angles summed up."""
    corners = np.array([*points, points[0]])
    y, x = np.mgrid[region.y : region.y1, region.x : region.x1]
    angles = np.arctan2(corners[:, 0, None, None] - y, corners[:, 1, None, None] - x)
    steps = (np.diff(angles, axis=0) + np.pi) % (2 * np.pi) - np.pi
    return np.asarray(np.rint(steps.sum(axis=0) / (2 * np.pi)), np.int64)


def test_an_eight_encloses_both_its_loops() -> None:
    eight = [(0.0, 0.0), (20.0, 20.0), (20.0, 0.0), (0.0, 20.0)]
    found = enclosed(eight, Region(-2, -2, 26, 26))
    assert found[19, 12]
    assert found[5, 12]
    assert not found[12, 5]
    assert not enclosed(eight[:2], Region(0, 0, 5, 5)).any()


def test_bounds_hold_the_path_and_refuse_nonsense() -> None:
    assert bounds([(1.6, 2.4), (9.2, -3.0)]) == Region.from_bounds(2, -3, 10, 3)
    for bad in ([], [(float("nan"), 0.0)], [(1e30, 0.0)]):
        with pytest.raises(ConfigError, match="path"):
            bounds(bad)


def test_lengthened_goes_straight_on() -> None:
    longer = lengthened([(0.0, 0.0), (0.0, 10.0), (5.0, 10.0)], 2)
    assert longer[0] == (0.0, -2.0)
    assert longer[-1] == (7.0, 10.0)
    assert lengthened([(1.0, 1.0)], 2) == [(1.0, 1.0)]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=9))
def test_a_path_that_does_not_cross_itself_need_not_be_taken_apart(
    points: list[tuple[float, float]],
) -> None:
    if len(points) % 2:  # around their middle, so that it does not cross itself
        middle = np.mean(points, axis=0)
        points = sorted(points, key=lambda p: np.arctan2(*(np.array(p) - middle)))
    corners = [(x + 0.5, y + 0.5) for y, x in [*points, points[0]]]
    quick, slow = (shapely.union_all(p) for p in (outer_parts(points), crossing_parts(corners)))
    assert quick.symmetric_difference(slow).area < 1e-6
