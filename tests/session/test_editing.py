"""Taking a window, painting on it, and what is written back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.tasks import REGIONS
from napari_genselfdiff.annotation.window import HUMAN, MODEL, UNKNOWN
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session.editing import (
    FORGOTTEN,
    MAX_SIDE,
    NOTHING,
    EditWindow,
    with_surroundings,
)
from napari_genselfdiff.session.objects import delete_object
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import CELLS, disks, new_store

VIEW = Region(200, 300, 160, 180)


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
