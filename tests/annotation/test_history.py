from __future__ import annotations

from pathlib import Path

import pytest

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import ConfigError, StoreError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store, reopen, same, whole
from tests.annotation.checks import check_store

VIEW = Region(100, 90, 600, 700)


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    store = new_store(tmp_path)
    for x in range(5):
        store.accept("Cells" if x % 2 else "Regions", Region(10, 40 * x, 30, 30))
    return store


def test_go_to_any_step_and_back(store: AnnotationStore) -> None:
    ids = [op.id for op in store.history]
    last = {task: whole(store, task) for task in ("Cells", "Regions")}
    assert store.go_to(ids[1]) == -3
    assert [op.undone for op in store.history] == [False, False, True, True, True]
    assert store.summary("Cells")["pixels"]["accepted"] == 900
    assert store.go_to(None) == -2
    assert store.summary("Cells")["pixels"]["accepted"] == 0
    assert store.go_to(ids[4]) == 5
    assert all(same(whole(store, task), last[task]) for task in last)
    assert store.go_to(ids[4]) == 0
    check_store(store)
    with pytest.raises(ConfigError, match="no step 77"):
        store.go_to(77)


def test_listeners_hear_once_a_task(store: AnnotationStore) -> None:
    heard: list[object] = []
    store.events.changed.connect(lambda task, region: heard.append((task, region)))
    store.events.history_changed.connect(lambda: heard.append("history"))
    store.go_to(None)
    assert heard == [
        ("Regions", Region(10, 0, 30, 190)),
        ("Cells", Region(10, 40, 30, 110)),
        "history",
    ]


def test_going_back_stops_at_a_damaged_step_and_tells_how_far_it_came(
    store: AnnotationStore,
) -> None:
    ids = [op.id for op in store.history]
    store.close()
    step = store.path / "journal" / f"{ids[2]:010d}.zip"
    step.write_bytes(step.read_bytes()[:-30])
    store = reopen(store.path)
    heard: list[str] = []
    store.events.changed.connect(lambda task, _: heard.append(task))
    with pytest.raises(StoreError, match="Undo ends here"):
        store.go_to(None)
    assert store.history.done == 3
    assert sorted(heard) == ["Cells", "Regions"]
    check_store(store)


def test_asking_for_the_length_reads_nothing(store: AnnotationStore) -> None:
    store.close()
    for step in (store.path / "journal").glob("*.zip"):
        step.write_bytes(b"")
    with AnnotationStore.open_read_only(store.path) as looking:
        assert len(looking.history) == 5
        assert looking.history.ids == (1, 2, 3, 4, 5)
        with pytest.raises(StoreError):
            looking.history[0]


def test_history_is_a_sequence(store: AnnotationStore) -> None:
    store.undo()
    history = store.history
    assert history[-1].undone
    assert not history[3].undone
    assert history[1:3] == [history[1], history[2]]
    assert history == list(history)
    assert history != list(history)[1:]
    with pytest.raises(IndexError):
        history[5]


def test_shares(tmp_path: Path) -> None:
    store = new_store(tmp_path / "other")
    assert store.shares("Cells") == {"model": 0, "accepted": 0, "human": 0, "unknown": 1}
    store.write_prediction("Cells", disks(Region(0, 0, 100, 100)), model_hash="m")
    store.accept("Cells", Region(0, 0, 100, 25))
    shares = store.shares("Cells")
    assert (shares["model"], shares["accepted"], shares["human"]) == (0.75, 0.25, 0)
    assert shares["unknown"] == 1 - 10_000 / (1300 * 1100)


def test_looks_follow_undo_and_redo(store: AnnotationStore) -> None:
    store.write_prediction("Cells", disks(VIEW, (300, 300, 20)), model_hash="m")
    before = store.read("Cells", VIEW)
    after = before.copy()
    after.classes[50:60, 50:60], after.ids[50:60, 50:60] = 1, 99
    store.write_edit("Cells", before, after, what="Brush")
    store.clear_to_unknown("Cells", Region(10, 40, 20, 20))
    looks = store.looks("Cells")
    assert [(look.what, look.seen) for look in looks] == [
        ("Accept view", True),
        ("Accept view", True),
        ("Brush", True),
        ("Clear to unknown", False),
    ]
    assert {look.who for look in looks} == {"Ada"}
    assert looks[0].region == Region(10, 40, 30, 30)
    store.undo()
    store.undo()
    assert len(store.looks("Cells")) == 2
    store.redo()
    assert store.looks("Cells") == looks[:3]


def test_looks_outlive_the_steps_undo_has_no_room_for(store: AnnotationStore) -> None:
    before = store.looks("Cells")
    store.quota = 0
    store.accept("Regions", Region(200, 200, 10, 10))
    assert len(store.history) == 1
    assert store.looks("Cells") == before
    store.close()
    store = reopen(store.path)
    assert store.looks("Cells") == before
    store.undo()
    assert store.looks("Cells") == before
    assert len(store.looks("Regions")) == 3


def test_a_look_cut_off_by_a_power_cut_is_passed_over(store: AnnotationStore) -> None:
    store.quota = 0
    store.accept("Regions", Region(200, 200, 10, 10))
    looks = store.looks("Cells")
    store.close()
    file = store.path / "looks.jsonl"
    file.write_bytes(b"{}\nnonsense\n" + file.read_bytes() + b'{"op": 9, "ta')
    assert reopen(store.path).looks("Cells") == looks
