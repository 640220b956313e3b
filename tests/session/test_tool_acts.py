"""Tools on a store: what a click or a line changes, in one step, wherever objects reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_genselfdiff.annotation.paths import enclosed
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.tasks import REGIONS
from napari_genselfdiff.annotation.window import HUMAN, MODEL, UNKNOWN, Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session.objects import MAX_REACH, holding, reading
from napari_genselfdiff.session.tool_acts import ClickTool, Target, along, at
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import CELLS, disks, new_store, same, whole

VIEW = Region(200, 300, 160, 180)
CIRCLES = ((240, 350, 12), (300, 420, 10), (300, 442, 9), (330, 330, 14))


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    store = new_store(tmp_path)
    store.write_prediction("Cells", disks(VIEW, *CIRCLES, value=7), model_hash="0" * 64)
    return store


def cells(store: AnnotationStore, class_value: int = 1, *, protect: bool = False) -> Target:
    return Target(store, CELLS, class_value, protect)


def read(store: AnnotationStore, task: str = "Cells", region: Region = VIEW) -> Window:
    return store.read(task, region)


def id_at(store: AnnotationStore, y: int, x: int) -> int:
    return int(store.read("Cells", Region(y, x, 1, 1)).ids[0, 0])


def square(y: int, x: int, side: int) -> list[tuple[float, float]]:
    return [(y, x), (y, x + side), (y + side, x + side), (y + side, x)]


def test_every_tool_is_one_step_with_a_name_and_undo_gives_back_everything(
    store: AnnotationStore,
) -> None:
    start = whole(store, "Cells")
    id_at(store, 240, 350)
    acts: list[tuple[str, Callable[[], str]]] = [
        ("Split", lambda: along(cells(store), "split", [(225, 350), (256, 350)])),
        ("Merge", lambda: along(cells(store), "merge", [(300, 420), (300, 442)])),
        ("Smooth", lambda: at(cells(store), "smooth", 330, 330)),
        ("Change class", lambda: at(cells(store), "class", 330, 330)),
        ("Delete", lambda: at(cells(store), "delete", 330, 330)),
        ("Polygon", lambda: along(cells(store), "polygon", square(260, 310, 20))),
        ("Lasso", lambda: along(cells(store), "lasso", square(262, 340, 9))),
        ("Lasso delete", lambda: along(cells(store), "cut", square(255, 305, 60))),
    ]
    for name, act in acts:
        before = whole(store, "Cells")
        said = act()
        assert said.endswith("."), said
        step = store.history[-1]
        assert step.what == name
        now = whole(store, "Cells")
        assert not same(before, now)
        changed = (before["objects"] != now["objects"]) | (before["classes"] != now["classes"])
        assert (now["provenance"][changed] == HUMAN).all()
        assert store.undo() is not None
        assert same(whole(store, "Cells"), before), name
        store.redo()
        assert same(whole(store, "Cells"), now)
    for _ in acts:
        store.undo()
    assert same(whole(store, "Cells"), start)


def test_split_tells_what_it_did_and_what_not(store: AnnotationStore) -> None:
    old = id_at(store, 240, 350)
    assert along(cells(store), "split", [(225, 345), (256, 345)]) == "Split 1 object into 2."
    assert id_at(store, 240, 352) == old
    assert id_at(store, 240, 340) not in (0, old)
    with pytest.raises(ConfigError, match="does not cut through"):
        along(cells(store), "split", [(315, 330), (330, 330)])
    with pytest.raises(ConfigError, match="no object under"):
        along(cells(store), "split", [(205, 305), (210, 310)])
    said = along(cells(store), "split", [(285, 420), (320, 420), (320, 442), (300, 442)])
    assert said == "Split 1 object into 2. 1 object was not cut through."


def test_a_split_vouches_for_the_whole_object(store: AnnotationStore) -> None:
    mask = read(store).ids == id_at(store, 240, 350)
    along(cells(store), "split", [(225, 350), (256, 350)])
    assert (read(store).provenance[mask] == HUMAN).all()
    assert (read(store).provenance[~mask] == MODEL).all()


def test_merge_names_the_reason_when_it_cannot(store: AnnotationStore) -> None:
    with pytest.raises(ConfigError, match="pixels apart"):
        along(cells(store), "merge", [(240, 350), (330, 330)])
    with pytest.raises(ConfigError, match="alone"):
        along(cells(store), "merge", [(240, 348), (240, 352)])
    with pytest.raises(ConfigError, match="no object"):
        along(cells(store), "merge", [(205, 305), (210, 310)])


def test_clicks_beside_objects_and_needless_ones_change_nothing(store: AnnotationStore) -> None:
    steps = len(store.history)
    for tool in get_args(ClickTool):
        with pytest.raises(ConfigError, match="no object here"):
            at(cells(store), tool, 205, 305)
    assert "no holes" in at(cells(store), "holes", 240, 350)
    assert "already" in at(cells(store, 7), "class", 240, 350)
    assert len(store.history) == steps


def test_objects_of_areas_are_refused_in_words(store: AnnotationStore) -> None:
    target = Target(store, REGIONS, 1)
    with pytest.raises(ConfigError, match="areas, not objects"):
        along(target, "split", [(10, 10), (20, 20)])
    with pytest.raises(ConfigError, match="no object here"):
        at(target, "smooth", 10, 10)


def test_tools_take_objects_whole_across_any_border(store: AnnotationStore) -> None:
    big = Region(500, 400, 420, 420)
    store.write_prediction("Cells", disks(big, (700, 600, 190), value=7), model_hash="0" * 64)
    size = int((read(store, region=big).ids > 0).sum())
    at(cells(store), "class", 700, 411)
    assert (read(store, region=big).classes == 1).sum() == size
    said = along(cells(store), "split", [(500, 600), (900, 600)])
    assert said == "Split 1 object into 2."
    assert int((read(store, region=big).ids > 0).sum()) == size
    along(cells(store), "merge", [(700, 595), (700, 605)])
    assert len(np.unique(read(store, region=big).ids)) == 2
    at(cells(store), "delete", 700, 789)
    assert not read(store, region=big).ids.any()


def test_a_new_outline_stays_in_one_piece_and_off_its_neighbours(store: AnnotationStore) -> None:
    before = read(store)
    # Around the object at (240, 350) from left to right: slivers on both sides of it.
    along(cells(store), "lasso", [(238, 320), (242, 320), (242, 364), (238, 364)])
    now = read(store)
    taken = before.ids > 0
    np.testing.assert_array_equal(now.ids[taken], before.ids[taken])
    new = (now.ids > 0) & ~taken
    columns = np.nonzero(new)[1]
    assert columns.max() + VIEW.x < 350  # the larger sliver only
    assert (now.classes[new] == 1).all()
    with pytest.raises(ConfigError, match="already"):
        along(cells(store), "lasso", square(238, 348, 4))


def test_shift_extends_and_alt_erases(store: AnnotationStore) -> None:
    old = id_at(store, 240, 350)
    along(cells(store), "lasso", [(240, 355), (240, 380), (248, 380), (248, 355)], "extend")
    assert id_at(store, 244, 375) == old
    assert store.read("Cells", Region(244, 375, 1, 1)).classes[0, 0] == 7
    along(cells(store), "polygon", square(230, 340, 40), "erase")
    now = read(store)
    inside = enclosed(square(230, 340, 40), VIEW)
    assert not now.ids[inside].any()
    assert (now.provenance[inside] == HUMAN).all()
    with pytest.raises(ConfigError, match="begin inside"):
        along(cells(store), "lasso", square(262, 340, 9), "extend")


def test_outlines_that_make_no_sense_are_refused(store: AnnotationStore) -> None:
    for points in ([(210.0, 310.0), (215.0, 315.0)], [(210.0, 310.0)] * 5):
        with pytest.raises(ConfigError, match="encloses nothing"):
            along(cells(store), "polygon", points)
    with pytest.raises(ConfigError, match="draw it in pieces"):
        reading(store, CELLS, [(0.0, 0.0), (0.0, MAX_REACH + 1.0)])
    with pytest.raises(ConfigError, match="outside"):
        along(cells(store), "lasso", square(-900, -900, 50))


def test_areas_are_drawn_over_unless_protected(store: AnnotationStore) -> None:
    region = Region(0, 0, 60, 60)
    tumour, stroma = Target(store, REGIONS, 1), Target(store, REGIONS, 2)
    along(tumour, "polygon", square(10, 10, 30))
    along(Target(store, REGIONS, 2, protect=True), "lasso", square(20, 20, 30))
    now = read(store, "Regions", region)
    assert now.classes[25, 25] == 1
    assert now.classes[45, 45] == 2
    along(stroma, "lasso", square(20, 20, 30))
    assert read(store, "Regions", region).classes[25, 25] == 2
    along(Target(store, REGIONS, 1, protect=True), "cut", square(0, 0, 55))
    now = read(store, "Regions", region)
    assert set(np.unique(now.classes)) == {0, 2}
    assert now.provenance[12, 12] == HUMAN
    along(stroma, "cut", square(0, 0, 55))
    now = read(store, "Regions", region)
    assert not now.classes.any()
    assert (now.provenance[22:48, 22:48] == HUMAN).all()
    assert now.provenance[5, 5] == UNKNOWN
    with pytest.raises(ConfigError, match="nothing to delete"):
        along(stroma, "cut", square(0, 0, 55))


def test_protected_classes_survive_the_lasso(store: AnnotationStore) -> None:
    at(cells(store, 1), "class", 240, 350)
    with pytest.raises(ConfigError, match="no object lies mostly inside"):
        along(cells(store, 7, protect=True), "cut", square(220, 330, 40))
    along(cells(store, 1, protect=True), "cut", square(205, 305, 150))
    assert not id_at(store, 240, 350)
    assert id_at(store, 300, 420)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    points=st.lists(
        st.tuples(st.floats(VIEW.y, VIEW.y1), st.floats(VIEW.x, VIEW.x1)), min_size=3, max_size=6
    )
)
def test_lasso_delete_deletes_exactly_what_lies_mostly_inside(
    store: AnnotationStore, points: list[tuple[float, float]]
) -> None:
    before = read(store)
    inside = enclosed(points, VIEW)
    ids = set(np.unique(before.ids).tolist()) - {0}
    meant = {
        i for i in ids if 2 * int((inside & (before.ids == i)).sum()) > (before.ids == i).sum()
    }
    if not meant:
        with pytest.raises(ConfigError):
            along(cells(store), "cut", points)
        return
    along(cells(store), "cut", points)
    now = read(store)
    assert set(np.unique(now.ids).tolist()) - {0} == ids - meant
    gone = np.isin(before.ids, list(meant))
    np.testing.assert_array_equal(now.ids[~gone], before.ids[~gone])
    assert (now.provenance[gone] == HUMAN).all()
    store.undo()
    np.testing.assert_array_equal(read(store).ids, before.ids)


def test_an_object_that_reaches_too_far_is_refused(
    store: AnnotationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_genselfdiff.session.objects.MAX_REACH", 64)
    big = Region(500, 400, 420, 420)
    store.write_prediction("Cells", disks(big, (700, 600, 190)), model_hash="0" * 64)
    with pytest.raises(ConfigError, match="reaches further"):
        holding(store, CELLS, Region(700, 600, 1, 1), [id_at(store, 700, 600)])
