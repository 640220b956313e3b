from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from napari_genselfdiff.annotation.class_changes import added
from napari_genselfdiff.annotation.schema import TaskRecord
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import ConfigError, StoreCorruptError
from napari_genselfdiff.registry.card import ClassSpec
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import CELLS, disks, new_store, reopen, same, whole
from tests.annotation.checks import check_store

VIEW = Region(100, 90, 600, 700)


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return new_store(tmp_path)


def names(store: AnnotationStore, task: str = "Cells") -> list[str]:
    return [spec.name for spec in store.tasks[task].classes]


def label_names(store: AnnotationStore, task: str = "Cells") -> dict[int, str]:
    group = zarr.open_group(store.path / "labels" / f"{task}.classes", mode="r")
    ImageLabel.from_zarr(group)  # it is valid
    label: dict[str, Any] = group.attrs["ome"]["image-label"]  # type: ignore[index,assignment,call-overload]
    found = {item["label-value"]: item["class"] for item in label["properties"]}
    assert [item["label-value"] for item in label["colors"]] == list(found)
    return found


def two_classes(store: AnnotationStore) -> None:
    """Three tumour cells, two lymphocytes; one of each accepted, one drawn by hand."""
    window = disks(VIEW, (200, 200, 20), (300, 300, 20), (400, 400, 20), (500, 500, 15))
    window.classes[window.ids == 4] = 7
    store.write_prediction("Cells", window, model_hash="m")
    store.accept("Cells", Region(150, 150, 100, 100))
    before = store.read("Cells", Region(600, 600, 60, 60))
    after = before.copy()
    after.classes[10:30, 10:30], after.ids[10:30, 10:30] = 7, 99
    store.write_edit("Cells", before, after, what="Brush")


def test_a_new_class_is_there_at_once_and_after_a_restart(store: AnnotationStore) -> None:
    heard: list[str] = []
    store.events.tasks_changed.connect(heard.append)
    new = store.add_class("Cells", "Plasma cell", "#009E73", "3")
    assert new == ClassSpec(value=2, name="Plasma cell", color="#009E73", key="3")
    assert heard == ["Cells"]
    assert store.summary("Cells")["classes"]["Plasma cell"] == 0
    store.close()
    store = reopen(store.path)
    assert names(store) == ["Tumour cell", "Lymphocyte", "Plasma cell"]
    assert label_names(store) == {1: "Tumour cell", 7: "Lymphocyte", 2: "Plasma cell"}
    store.undo()
    assert names(store) == ["Tumour cell", "Lymphocyte"]
    assert label_names(store) == {1: "Tumour cell", 7: "Lymphocyte"}
    store.redo()
    assert store.tasks["Cells"].classes[-1] == new


def test_a_value_once_given_out_is_not_given_out_again(store: AnnotationStore) -> None:
    first = store.add_class("Cells", "A", "#009E73")
    store.undo()
    second = store.add_class("Cells", "B", "#009E73")
    store.merge_classes("Cells", second.value, 1)
    third = store.add_class("Cells", "C", "#009E73")
    assert len({first.value, second.value, third.value, 1, 7}) == 5


def test_all_values_are_used_before_one_is_taken_again() -> None:
    task = TaskRecord(spec=CELLS, downsample=1, used=tuple(range(1, 255)), merged={"2": 1})
    assert added(task, "New", "#009E73", "", ())[0].value == 255
    task = task.model_copy(update={"used": tuple(range(1, 256))})
    assert added(task, "New", "#009E73", "", {3, 4})[0].value == 5  # 2 still means 1 to a model
    with pytest.raises(ConfigError, match="merge some"):
        added(task, "New", "#009E73", "", range(1, 256))


def test_rename_recolor_and_key_are_steps(store: AnnotationStore) -> None:
    store.rename_class("Cells", 7, "T cell")
    store.recolor_class("Cells", 7, "#000000")
    store.rekey_class("Cells", 7, "t")
    assert store.tasks["Cells"].classes[1].model_dump() == {
        "value": 7,
        "name": "T cell",
        "color": "#000000",
        "key": "t",
    }
    store.rename_class("Cells", 7, "T cell")  # changes nothing, so it is no step
    assert [op.what for op in store.history] == [
        "Rename class Lymphocyte to T cell",
        "Change colour of T cell",
        "Change key of T cell",
    ]
    store.go_to(None)
    assert store.tasks["Cells"] == CELLS


def test_merging_moves_pixels_objects_and_totals_and_nothing_else(store: AnnotationStore) -> None:
    two_classes(store)
    before, steps = whole(store, "Cells"), len(store.history)
    pixels = int((before["classes"] == 7).sum())
    assert store.merge_classes("Cells", 7, 1) == pixels
    after = whole(store, "Cells")
    np.testing.assert_array_equal(
        after["classes"], np.where(before["classes"] == 7, 1, before["classes"])
    )
    np.testing.assert_array_equal(after["objects"], before["objects"])
    np.testing.assert_array_equal(after["provenance"], before["provenance"])
    assert store.summary("Cells")["objects"] == {"Tumour cell": 5}
    assert names(store) == ["Tumour cell"]
    assert label_names(store) == {1: "Tumour cell"}
    check_store(store)
    labels = zarr.open_group(store.path / "labels", mode="r")
    for name in Labels.from_zarr(labels).ome_attributes.labels:  # all of them are still valid
        ImageLabel.from_zarr(zarr.open_group(store.path / "labels" / name, mode="r"))
    assert len(store.history) == steps + 1
    store.close()
    store = reopen(store.path)
    store.undo()
    assert same(whole(store, "Cells"), before)
    assert store.tasks["Cells"] == CELLS
    check_store(store)
    store.redo()
    assert same(whole(store, "Cells"), after)
    check_store(store)


def test_what_models_call_a_merged_class_is_written_as_the_one_that_stays(
    store: AnnotationStore,
) -> None:
    extra = store.add_class("Cells", "Immune", "#009E73").value
    store.merge_classes("Cells", 7, 1)
    store.merge_classes("Cells", 1, extra)
    store.write_prediction("Cells", disks(VIEW, (300, 300, 20), value=7), model_hash="m")
    assert set(np.unique(store.read("Cells", VIEW).classes)) == {0, extra}
    check_store(store)


def test_a_model_may_know_fewer_classes_but_no_others(store: AnnotationStore) -> None:
    store.add_class("Cells", "Immune", "#009E73")
    assert store.answers(CELLS) is None
    store.add_task(CELLS)  # the task as models know it is still this task
    foreign = ClassSpec(value=9, name="Mitosis", color="#009E73")
    grown = CELLS.model_copy(update={"classes": (*CELLS.classes, foreign)})
    assert "Mitosis" in (store.answers(grown) or "")
    with pytest.raises(ConfigError, match="class 9"):
        store.write_prediction("Cells", disks(VIEW, (300, 300, 20), value=9), model_hash="m")
    with pytest.raises(ConfigError, match="another task"):
        store.add_task(grown)


def test_classes_of_a_model_are_taken_over_with_their_values(store: AnnotationStore) -> None:
    mitosis = ClassSpec(value=9, name="Mitosis", color="#009E73", key="1")
    grown = CELLS.model_copy(update={"classes": (*CELLS.classes, mitosis)})
    assert store.lacking(CELLS) == []
    assert store.lacking(grown) == [mitosis]
    assert store.take_over_classes(grown) == ["Mitosis"]
    last = store.tasks["Cells"].classes[-1]
    assert (last.value, last.name, last.key) == (9, "Mitosis", "")  # 1 is another class's key
    assert store.answers(grown) is None
    assert store.take_over_classes(grown) == []
    store.undo()
    assert store.take_over_classes(grown) == ["Mitosis"]  # it can come back as itself
    check_store(store)


def test_a_class_of_a_model_never_takes_the_place_of_another(store: AnnotationStore) -> None:
    mine = store.add_class("Cells", "Immune", "#009E73")
    same_name = ClassSpec(value=200, name="immune", color="#009E73")
    same_value = ClassSpec(value=mine.value, name="Mitosis", color="#009E73")
    assert store.lacking(CELLS.model_copy(update={"classes": (same_name,)})) == []
    store.undo()
    assert store.lacking(CELLS.model_copy(update={"classes": (same_value,)})) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.add_class("Cells", "Lymphocyte", "#009E73"), "same name"),
        (lambda s: s.add_class("Cells", "New", "green"), "color"),
        (lambda s: s.add_class("Cells", "New", "#009E73", "1"), "same key"),
        (lambda s: s.add_class("Cells", "  ", "#009E73"), "name"),
        (lambda s: s.add_class("Other", "New", "#009E73"), "no task"),
        (lambda s: s.rename_class("Cells", 5, "New"), "no class 5"),
        (lambda s: s.rename_class("Cells", 7, "Tumour cell"), "same name"),
        (lambda s: s.merge_classes("Cells", 7, 7), "another one"),
        (lambda s: s.merge_classes("Cells", 7, 5), "no class 5"),
    ],
)
def test_bad_changes_change_nothing(store: AnnotationStore, change: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        change(store)  # type: ignore[operator]
    assert store.tasks["Cells"] == CELLS
    assert len(store.history) == 0
    assert not [f for f in (store.path / "journal").glob("*") if f.exists()]


def test_a_step_with_impossible_classes_is_refused(store: AnnotationStore) -> None:
    """Undone, it would leave a record nobody can read."""
    store.add_class("Cells", "Mitosis", "#009E73")
    store.close()
    (step,) = (store.path / "journal").glob("*.zip")
    with zipfile.ZipFile(step) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(members["operation.json"])
    meta["classes"]["before"]["classes"][1]["name"] = "Tumour cell"
    with zipfile.ZipFile(step, "w") as archive:
        for name, data in {**members, "operation.json": json.dumps(meta).encode()}.items():
            archive.writestr(name, data)
    store = reopen(store.path)
    with pytest.raises(StoreCorruptError, match="same name"):
        store.undo()
    store.close()
    assert names(reopen(store.path)) == ["Tumour cell", "Lymphocyte", "Mitosis"]
