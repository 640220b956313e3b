from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.annotation import edit
from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, MODEL, UNKNOWN, Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks

VIEW = Region(100, 50, 60, 80)


def areas() -> Window:
    zeros = np.zeros(VIEW.shape, np.uint8)
    return Window(VIEW, zeros.copy(), None, zeros.copy())


@given(
    st.floats(95, 165), st.floats(45, 135), st.floats(0, 30, allow_nan=False), st.integers(1, 255)
)
def test_one_point_paints_the_pixels_within_its_radius(
    y: float, x: float, radius: float, value: int
) -> None:
    after = edit.paint_stroke(areas(), [(y, x)], radius, value)
    rows, columns = np.mgrid[VIEW.y : VIEW.y1, VIEW.x : VIEW.x1]
    distance = (rows - y) ** 2 + (columns - x) ** 2
    inside = (distance <= radius**2) | (distance < 0.25)
    np.testing.assert_array_equal(after.classes == value, inside)
    np.testing.assert_array_equal(after.provenance == HUMAN, inside)


def test_a_stroke_has_no_gaps() -> None:
    after = edit.paint_stroke(areas(), [(110, 60), (110, 100), (150, 100)], 3, 2)
    assert after.classes[10, 10:51].all()
    assert after.classes[10:51, 50].all()
    assert not after.classes[14, 10]


def test_painting_what_is_there_already_changes_nothing() -> None:
    before = disks(VIEW, (130, 90, 10), value=1)
    again = edit.paint_stroke(before, [(130, 90)], 4, 1, object_id=1)
    np.testing.assert_array_equal(again.provenance, before.provenance)


def test_erasing_says_that_nothing_is_there_also_of_unknown_pixels() -> None:
    before = disks(VIEW, (130, 90, 10))
    before.provenance[:, :40] = UNKNOWN
    after = edit.paint_stroke(before, [(130, 90)], 5, 0)
    erased = (np.mgrid[0:60, 0:80] ** 2).sum(0) < 0
    erased[25:36, 35:46] = edit.paint_stroke(areas(), [(130, 90)], 5, 1).classes[25:36, 35:46] > 0
    assert not after.classes[erased].any()
    assert not after.ids[erased].any()
    assert (after.provenance[erased] == HUMAN).all()
    np.testing.assert_array_equal(after.provenance[~erased], before.provenance[~erased])


def test_fill_stops_at_other_objects_and_diagonals() -> None:
    window = areas()
    window.classes[:30, :30] = 1
    window.classes[30:, 30:] = 1
    after = edit.fill(window, (100, 50), 2)
    assert (after.classes[:30, :30] == 2).all()
    assert (after.classes[30:, 30:] == 1).all()
    with pytest.raises(ConfigError, match="not inside"):
        edit.fill(window, (99, 50), 2)


def test_delete_and_change_class_act_on_one_object() -> None:
    before = disks(VIEW, (115, 65, 9), (140, 100, 9))
    gone = edit.delete_object(before, 1)
    assert set(np.unique(gone.ids)) == {0, 2}
    assert (gone.provenance[before.ids == 1] == HUMAN).all()
    other = edit.change_class(before, 2, 7)
    assert (other.classes[before.ids == 2] == 7).all()
    assert (other.classes[before.ids == 1] == 1).all()
    assert (other.provenance[before.ids != 2] == MODEL).all()
    np.testing.assert_array_equal(edit.delete_object(before, 0).ids, before.ids)


def test_accept_and_clear() -> None:
    window = edit.paint_stroke(areas(), [(110, 60)], 2, 1)
    accepted = edit.accept_window(window)
    assert set(np.unique(accepted.provenance)) == {ACCEPTED, HUMAN}
    cleared = edit.clear_pixels(accepted, accepted.classes > 0)
    assert not cleared.classes.any()
    assert (cleared.provenance[window.classes > 0] == UNKNOWN).all()


def test_an_edited_layer_of_ids_becomes_a_window() -> None:
    before = disks(VIEW, (115, 65, 9), (140, 100, 9), value=7)
    layer = before.ids.astype(np.int32)
    layer[0:4, 0:4] = 9
    layer[30, 30] = 1  # the first object grows
    layer[layer == 2] = 0
    after = edit.from_labels(before, layer, {9: 1})
    assert (after.classes[0:4, 0:4] == 1).all()
    assert after.classes[30, 30] == 7
    assert not after.classes[before.ids == 2].any()
    np.testing.assert_array_equal(after.provenance == HUMAN, layer != before.ids)
    with pytest.raises(ConfigError, match="new object 9 has no class"):
        edit.from_labels(before, layer, {})


def test_an_edited_layer_of_areas_becomes_a_window() -> None:
    layer = np.zeros(VIEW.shape, np.int64)
    layer[5, 5] = 255
    after = edit.from_labels(areas(), layer)
    assert after.classes[5, 5] == 255
    assert (after.provenance > 0).sum() == 1
    for bad in (layer + 1, layer - 1, layer[1:], layer * 1.0):
        with pytest.raises(ConfigError, match="labels"):
            edit.from_labels(areas(), bad)


def test_bad_strokes() -> None:
    with pytest.raises(ConfigError, match="at least one point"):
        edit.paint_stroke(areas(), [], 3, 1)
    with pytest.raises(ConfigError, match="radius nan"):
        edit.paint_stroke(areas(), [(1, 1)], float("nan"), 1)
    with pytest.raises(ConfigError, match="needs the id"):
        edit.paint_stroke(disks(VIEW), [(110, 60)], 3, 1)
    with pytest.raises(ConfigError, match="class 256"):
        edit.paint_stroke(areas(), [(110, 60)], 3, 256)
    with pytest.raises(ConfigError, match="delete it instead"):
        edit.change_class(disks(VIEW), 1, 0)
    assert edit.new_object_id(disks(VIEW, (115, 65, 9))) == 2
