"""Coarser levels that follow many steps at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.annotation.commit import joined
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store, reopen
from tests.annotation.checks import check_store

BOXES = [Region(y, x, 300, 300) for y in (0, 290, 580) for x in (0, 290, 580)]


def predict(store: AnnotationStore, box: Region) -> None:
    window = disks(box, (box.y + 150, box.x + 150, 40), (box.y + 20, box.x + 290, 15))
    store.write_prediction("Cells", window, model_hash="00" * 32)


@pytest.mark.parametrize("most", [1, 2, 4, 100])
def test_every_level_has_followed_in_the_end(tmp_path: Path, most: int) -> None:
    with new_store(tmp_path) as store:
        with store.overview_later(most):
            for box in BOXES:
                predict(store, box)
                assert len(store.record.dirty.get("Cells", ())) < most
        assert not store.record.dirty
        check_store(store)
        store.undo()
        check_store(store)


def test_a_process_that_ends_before_leaves_it_to_the_next(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    later = store.overview_later()
    later.__enter__()  # and never comes to the end
    for box in BOXES[:3]:
        predict(store, box)
    assert store._lock is not None
    store._lock.release()
    with reopen(store.path) as again:
        assert not again.record.dirty
        check_store(again)


REGIONS = st.builds(
    Region, st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20)
)


@given(st.lists(REGIONS, min_size=1, max_size=12))
def test_joined_boxes_cover_the_same(boxes: list[Region]) -> None:
    found = joined(boxes)
    assert len(found) <= len(boxes)
    assert all(any(whole.contains(box) for whole in found) for box in boxes)
    assert sum(box.area for box in found) <= 1.05 ** len(boxes) * sum(box.area for box in boxes)


def test_a_row_of_neighbours_is_one_box() -> None:
    row = [Region(0, x, 102, 102) for x in range(0, 1000, 100)]
    assert joined(row) == [Region(0, 0, 102, 1002)]
