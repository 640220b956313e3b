"""Taking a window, painting on it, and what is written back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_genselfdiff.annotation.edit import capsule
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.tasks import REGIONS
from napari_genselfdiff.annotation.window import HUMAN, MODEL, UNKNOWN
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session.editing import (
    FORGOTTEN,
    MAX_SIDE,
    NOTHING,
    Brush,
    EditWindow,
    Stroke,
    with_surroundings,
)
from napari_genselfdiff.session.objects import delete_object
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import CELLS, disks, new_store

VIEW = Region(200, 300, 160, 180)
Values = NDArray[np.uint16]


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    store = new_store(tmp_path)
    found = disks(VIEW, (240, 350, 12), (300, 420, 10), value=7)
    store.write_prediction("Cells", found, model_hash="0" * 64)
    return store


def test_untouched_window_writes_nothing(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    assert window.save(window.values(), "Brush").pixels == 0
    assert len(store.history) == 1


def test_new_object_gets_its_own_id_and_class(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    painted = window.values()
    painted[100:110, 20:30] = window.new_value(1)
    assert window.save(painted, "Brush").pixels == 100
    now = store.read("Cells", VIEW)
    box = (slice(100, 110), slice(20, 30))
    assert len(np.unique(now.ids[box])) == 1
    assert (now.classes[box] == 1).all()
    assert (now.provenance[box] == HUMAN).all()
    assert (now.provenance == HUMAN).sum() == 100
    assert len(np.unique(now.ids)) == 4


def test_extending_an_object_keeps_its_id(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    before = store.read("Cells", VIEW).ids
    value, class_value = window.at(240, 350)
    assert class_value == 7
    painted = window.values()
    painted[40:44, 62:75] = value
    window.save(painted, "Brush")
    now = store.read("Cells", VIEW)
    assert now.ids[42, 72] == before[40, 50]
    assert now.classes[42, 72] == 7


def test_erasing_background_vouches_for_it(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, Region(0, 0, 50, 50))
    painted = window.values()
    painted[10:20, 10:20] = NOTHING
    assert window.save(painted, "Erase").pixels == 100
    now = store.read("Cells", Region(0, 0, 50, 50))
    assert (now.provenance[10:20, 10:20] == HUMAN).all()
    assert (now.classes == 0).all()
    assert now.provenance[0, 0] == UNKNOWN
    assert (window.values() == 0).all()


def test_saving_twice_writes_once(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    painted = window.values()
    painted[100:110, 20:30] = window.new_value(1)
    window.save(painted, "Brush")
    assert window.save(window.values(), "Brush").pixels == 0


def test_fill_closes_a_ring_and_refuses_open_ground(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    painted = window.values()
    ring = window.new_value(1)
    painted[100:120, 100:120] = ring
    painted[103:117, 103:117] = 0
    filled = window.filled(painted, VIEW.y + 110, VIEW.x + 110, 7)
    assert (filled[100:120, 100:120] == ring).all()
    with pytest.raises(ConfigError, match="open"):
        window.filled(painted, VIEW.y + 150, VIEW.x + 5, 7)


def test_fill_gives_an_object_another_class(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    window.save(window.filled(window.values(), 300, 420, 1), "Fill")
    now = store.read("Cells", VIEW)
    assert now.classes[100, 120] == 1
    assert now.classes[40, 50] == 7


def test_fill_of_areas_takes_what_hangs_together(store: AnnotationStore) -> None:
    region = Region(0, 0, 60, 60)
    window = EditWindow(store, REGIONS, region)
    painted = window.values()
    painted[:, 30] = 1
    filled = window.filled(painted, 10, 10, 2)
    assert (filled[:, :30] == 2).all()
    assert (filled[:, 31:] == 0).all()
    window.save(filled, "Fill")
    now = store.read("Regions", region)
    assert (now.classes[:, :30] == 2).all()
    assert (now.provenance[:, 31:] == UNKNOWN).all()


def test_what_others_wrote_is_read_again(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    delete_object(store, CELLS, 240, 350)
    fresh = window.reread(Region(0, 0, 270, 400))
    assert fresh is not None
    values, y, x = fresh
    assert (y, x) == (0, 0)
    assert not values[40, 50]
    assert window.at(300, 420)[1] == 7
    assert window.reread(Region(0, 0, 10, 10)) is None


def test_delete_takes_the_whole_object_across_any_border(store: AnnotationStore) -> None:
    big = Region(500, 500, 400, 400)
    store.write_prediction("Cells", disks(big, (700, 700, 150)), model_hash="0" * 64)
    assert delete_object(store, CELLS, 700, 849)
    assert not store.read("Cells", big).ids.any()
    assert delete_object(store, CELLS, 700, 849) == 0


def test_window_of_a_whole_slide_is_refused(store: AnnotationStore) -> None:
    with pytest.raises(ConfigError, match="zoom in"):
        EditWindow(store, CELLS, Region(0, 0, 10, MAX_SIDE + 1))


@given(st.integers(0, 9000), st.integers(0, 9000), st.integers(1, 5000), st.integers(1, 5000))
def test_surroundings_hold_the_view_and_stay_small(y: int, x: int, height: int, width: int) -> None:
    shape = (10_000, 10_000)
    view = Region(y, x, height, width).clipped(shape)
    assert view is not None
    wide = with_surroundings(view, shape)
    assert wide.contains(view)
    assert Region(0, 0, *shape).contains(wide)
    assert max(wide.shape) <= max(MAX_SIDE, *view.shape)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_any_painting_comes_back_as_it_was_painted(store: AnnotationStore, seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = EditWindow(store, CELLS, VIEW)
    painted = window.values()
    for _ in range(int(rng.integers(1, 5))):
        y, x = rng.integers(0, 120, 2)
        value = NOTHING if rng.random() < 0.3 else window.new_value(int(rng.choice([1, 7])))
        painted[y : y + int(rng.integers(2, 30)), x : x + int(rng.integers(2, 30))] = value
    classes = {0: 0, NOTHING: 0, **window.class_of_values}
    meant = np.vectorize(classes.get)(painted)
    changed = painted != window.values()
    window.save(painted, "Brush")
    now = store.read("Cells", VIEW)
    np.testing.assert_array_equal(now.classes[changed], meant[changed])
    np.testing.assert_array_equal((now.ids > 0)[changed], (meant > 0)[changed])
    assert (now.provenance[changed] == HUMAN).all()
    assert set(np.unique(now.provenance[~changed])) <= {UNKNOWN, MODEL, HUMAN}


def paint(window: EditWindow, values: Values, stroke: Stroke, *path: tuple[int, int]) -> None:
    """Draw a stroke of 9 pixels' width on values, as the tools do."""
    for start, end in zip(path, [*path[1:], path[-1]], strict=True):
        rows, columns = window.dab(values, start, end, 4.5, stroke)
        values[rows, columns] = stroke.value


def test_a_stroke_extends_what_it_begins_in_and_spares_others(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    old = store.read("Cells", VIEW)
    values = window.values()
    same_class = window.stroke("paint", 7, (240, 350))
    paint(window, values, same_class, (240, 350), (300, 420))
    window.save(values, "Brush")
    now = store.read("Cells", VIEW)
    assert now.ids[65, 80] == old.ids[40, 50]
    assert now.ids[100, 120] == old.ids[100, 120]
    other_class = window.stroke("paint", 1, (240, 350))
    assert other_class.value != same_class.value


def test_new_objects_keep_their_values_when_they_are_saved(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    values = window.values()
    stroke = window.stroke("paint", 1, None)
    paint(window, values, stroke, (220, 320), (220, 330))
    assert window.save(values, "Brush").region is not None
    np.testing.assert_array_equal(window.values(), values)
    again = window.stroke("paint", 1, (220, 325))
    assert again.value == stroke.value


@pytest.mark.parametrize("protect", [False, True])
@pytest.mark.parametrize("brush", ["paint", "erase", "forget"])
def test_areas_of_other_classes_are_protected_if_one_wishes(
    store: AnnotationStore, brush: Brush, protect: bool
) -> None:
    region = Region(0, 0, 60, 60)
    window = EditWindow(store, REGIONS, region)
    values = window.values()
    values[:, :20], values[:, 20:40] = 1, 2
    window.save(values, "Brush")
    values = window.values()
    paint(window, values, window.stroke(brush, 2, None, protect=protect), (30, 5), (30, 55))
    window.save(values, "Brush")
    now = store.read("Regions", region)
    there = {"paint": 2, "erase": 0, "forget": 0}[brush]
    assert now.classes[30, 10] == (1 if protect else there)
    assert now.classes[30, 30] == there
    assert now.classes[30, 50] == there
    assert now.provenance[30, 30] == (UNKNOWN if brush == "forget" else HUMAN)


def test_the_eraser_spares_protected_objects(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    values = window.values()
    paint(window, values, window.stroke("erase", 1, None, protect=True), (240, 330), (240, 370))
    window.save(values, "Erase")
    now = store.read("Cells", VIEW)
    assert now.ids[40, 50]
    assert now.provenance[40, 32] == HUMAN
    values = window.values()
    paint(window, values, window.stroke("erase", 7, None, protect=True), (240, 330), (240, 370))
    window.save(values, "Erase")
    assert not store.read("Cells", VIEW).ids[40, 50]


def test_clearing_to_unknown_forgets_what_was_said(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    values = window.values()
    paint(window, values, window.stroke("forget", 1, (240, 350)), (240, 330), (240, 370))
    assert (values == FORGOTTEN).any()
    window.save(values, "Clear to unknown")
    now = store.read("Cells", VIEW)
    assert not now.ids[40, 32:68].any()
    assert (now.provenance[40, 32:68] == UNKNOWN).all()
    assert now.ids[50, 50]  # the rest of the object stays
    assert not (window.values() == FORGOTTEN).any()
    assert store.undo() is not None
    assert store.read("Cells", VIEW).ids[40, 50]


def test_a_protected_class_is_not_filled(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    with pytest.raises(ConfigError, match="protected"):
        window.filled(window.values(), 240, 350, 1, protect=True)


def test_values_of_another_brush_become_new_objects_or_nothing(store: AnnotationStore) -> None:
    window = EditWindow(store, CELLS, VIEW)
    values = window.values()
    values[100:110, 20:30] = 5000  # napari's own brush takes the next number that is free
    window.save(values, "Brush")
    now = store.read("Cells", VIEW)
    assert now.classes[105, 25] == CELLS.classes[0].value
    assert now.ids[105, 25]
    areas = EditWindow(store, REGIONS, Region(0, 0, 30, 30))
    painted = areas.values()
    painted[:, :10], painted[:, 20:] = 1, 77
    areas.save(painted, "Brush")
    assert set(np.unique(store.read("Regions", Region(0, 0, 30, 30)).classes)) == {0, 1}


@settings(max_examples=40, deadline=None)
@given(
    ends=st.lists(st.tuples(st.floats(-20, 60), st.floats(-20, 60)), min_size=2, max_size=2),
    radius=st.floats(0, 15),
)
def test_a_brush_reaches_what_lies_near_its_way(
    ends: list[tuple[float, float]], radius: float
) -> None:
    region = Region(3, 5, 40, 30)
    part, near = capsule(ends[0], ends[1], radius, region)
    mask = np.zeros(region.shape, bool)
    mask[part] = near
    (y0, x0), (y1, x1) = ends
    assume(math.hypot(y1 - y0, x1 - x0) > 1e-3)
    line = shapely.LineString(ends)
    rows, columns = np.indices(region.shape)
    away = shapely.distance(line, shapely.points(rows + region.y, columns + region.x))
    assert mask[away < radius - 1e-6].all()
    assert not mask[away > max(radius, 0.5) + 1e-6].any()
