from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from napari_genselfdiff.annotation.store import (
    ACCEPTED,
    HUMAN,
    MODEL,
    UNKNOWN,
    AnnotationStore,
    default_store_path,
)
from napari_genselfdiff.annotation.tasks import NUCLEI, REGIONS
from napari_genselfdiff.errors import (
    ConfigError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreMismatchError,
)
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import CELLS, disks, new_store, open_store, same, whole
from tests.annotation.checks import check_store

VIEW = Region(100, 90, 600, 700)


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return new_store(tmp_path)


def reopen(store: AnnotationStore) -> AnnotationStore:
    store.close()
    return open_store(store.path)


def test_a_prediction_is_there_again_after_reopening(store: AnnotationStore) -> None:
    window = disks(VIEW, (300, 300, 20), (400, 500, 30))
    written = store.write_prediction("Nuclei", window, model_hash="m1")
    assert written.changed_pixels == VIEW.area  # background is an answer, too
    before = whole(store, "Nuclei")
    store = reopen(store)
    assert same(whole(store, "Nuclei"), before)
    found = store.read("Nuclei", VIEW)
    np.testing.assert_array_equal(found.classes, window.classes)
    np.testing.assert_array_equal(found.ids, window.ids)
    assert (found.provenance == MODEL).all()
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 2}
    assert store.recovered == ""
    check_store(store)


def test_same_prediction_twice_changes_nothing(store: AnnotationStore) -> None:
    window = disks(VIEW, (300, 300, 20), (400, 500, 30), (101, 400, 25))
    store.write_prediction("Nuclei", window, model_hash="m1")
    again = store.write_prediction("Nuclei", window, model_hash="m1")
    assert again.changed_pixels == 0
    assert len(store.history) == 1


def test_erased_object_stays_erased_when_predicted_again(store: AnnotationStore) -> None:
    window = disks(VIEW, (300, 300, 20), (400, 500, 30))
    store.write_prediction("Nuclei", window, model_hash="m1")
    before = store.read("Nuclei", VIEW)
    after = before.copy()
    gone = after.ids == before.ids[200, 210]
    after.ids[gone], after.classes[gone] = 0, 0
    assert store.write_edit("Nuclei", before, after, what="Delete object") == gone.sum()
    now = store.read("Nuclei", VIEW)
    assert set(np.unique(now.provenance[gone])) == {HUMAN}
    written = store.write_prediction("Nuclei", window, model_hash="m2")
    assert (store.read("Nuclei", VIEW).classes[gone] == 0).all()
    assert (written.kept_pixels, written.kept_objects) == (gone.sum(), 0)
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 1}
    check_store(store)


def test_touched_object_is_kept_whole(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    before = store.read("Nuclei", VIEW)
    after = before.copy()
    after.ids[200:203, 228:236], after.classes[200:203, 228:236] = before.ids[200, 210], 1
    store.write_edit("Nuclei", before, after, what="Brush")
    painted = store.read("Nuclei", VIEW)
    written = store.write_prediction("Nuclei", disks(VIEW, (302, 299, 18)), model_hash="m2")
    assert written.kept_objects == 1
    assert written.changed_pixels == 0
    np.testing.assert_array_equal(store.read("Nuclei", VIEW).ids, painted.ids)


def test_object_across_the_border_is_one_object(store: AnnotationStore) -> None:
    left, right = Region(100, 100, 300, 200), Region(100, 300, 300, 200)
    store.write_prediction(
        "Nuclei", disks(Region(100, 100, 300, 400), (250, 300, 30)), model_hash=""
    )
    whole_before = whole(store, "Nuclei")
    for region in (left, right, left):
        written = store.write_prediction("Nuclei", disks(region, (250, 300, 30)), model_hash="")
        assert written.changed_pixels == 0
    assert same(whole(store, "Nuclei"), whole_before)
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 1}


@pytest.mark.parametrize(("x", "left"), [(310, 1), (290, 0)])
def test_lost_object_across_the_border_is_never_cut(
    store: AnnotationStore, x: int, left: int
) -> None:
    """Mostly outside the new window it stays whole; mostly inside it goes whole."""
    store.write_prediction("Nuclei", disks(Region(100, 100, 300, 400), (250, x, 30)), model_hash="")
    area = store.summary("Nuclei")["classes"]["Nucleus"]
    store.write_prediction("Nuclei", disks(Region(100, 100, 300, 200)), model_hash="m2")
    assert store.summary("Nuclei")["objects"] == {"Nucleus": left}
    assert store.summary("Nuclei")["classes"] == {"Nucleus": left * area}
    check_store(store)


def test_object_across_the_border_has_the_class_of_its_larger_part(store: AnnotationStore) -> None:
    both = Region(100, 100, 300, 400)
    for x, expected in ((290, 7), (310, 1)):
        store.write_prediction("Cells", disks(both, (250, x, 30), value=1), model_hash="")
        cut = disks(Region(100, 100, 300, 200), (250, x, 30), value=7)
        store.write_prediction("Cells", cut, model_hash="")
        now = store.read("Cells", both)
        assert set(np.unique(now.classes)) == {0, expected}
        check_store(store)


def test_areas_keep_what_a_person_drew(store: AnnotationStore) -> None:
    view = Region(0, 0, 200, 200)  # of the grid: level 0 by 4
    assert store.downsample("Regions") == 4
    before = store.read("Regions", view)
    after = before.copy()
    after.classes[50:60, 50:60] = 2
    assert store.write_edit("Regions", before, after, what="Brush") == 100
    new = before.copy()
    new.classes[...] = 1
    written = store.write_prediction("Regions", new, model_hash="m")
    assert (written.kept_pixels, written.changed_pixels) == (100, view.area - 100)
    assert store.summary("Regions")["classes"] == {"Tumour": view.area - 100, "Stroma": 100}
    check_store(store)


def test_accept_vouches_for_background_and_leaves_hand_work(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    before = store.read("Nuclei", VIEW)
    after = before.copy()
    after.classes[0:5, 0:5], after.ids[0:5, 0:5] = 1, 77
    store.write_edit("Nuclei", before, after, what="Brush")
    assert store.accept("Nuclei", VIEW) == VIEW.area - 25
    counted = np.bincount(store.read("Nuclei", VIEW).provenance.ravel(), minlength=4)
    assert counted.tolist() == [0, 0, VIEW.area - 25, 25]
    written = store.write_prediction("Nuclei", disks(VIEW, (500, 500, 20)), model_hash="m2")
    assert written.changed_pixels == 0
    assert written.kept_objects == 2
    check_store(store)


def test_what_lies_beside_the_slide_is_left_out(store: AnnotationStore) -> None:
    """A view reaches over the slide's edge as often as not."""
    over = Region(-50, -20, 100, 120)
    assert store.accept("Nuclei", over) == 50 * 100
    assert store.looks("Nuclei")[-1].region == Region(0, 0, 50, 100)
    assert store.clear_to_unknown("Nuclei", over) == 50 * 100
    with pytest.raises(ConfigError):
        store.accept("Nuclei", Region(-50, -20, 50, 10))


def test_clear_to_unknown_forgets(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    store.accept("Nuclei", VIEW)
    assert store.clear_to_unknown("Nuclei", VIEW) == VIEW.area
    assert (store.read("Nuclei", VIEW).provenance == UNKNOWN).all()
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 0}
    check_store(store)


def test_edit_can_state_unknown(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    before = store.read("Nuclei", VIEW)
    after = before.copy()
    after.provenance[190:195, :] = UNKNOWN
    store.write_edit("Nuclei", before, after, what="Clear to unknown")
    now = store.read("Nuclei", VIEW)
    assert not now.classes[190:195].any()
    assert not now.ids[190:195].any()
    check_store(store)


def test_drawn_ids_become_new_objects_even_if_the_number_is_taken(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    elsewhere = Region(800, 800, 100, 100)
    before = store.read("Nuclei", elsewhere)
    after = before.copy()
    after.classes[10:20, 10:20], after.ids[10:20, 10:20] = 1, 1  # napari counts from 1 here
    store.write_edit("Nuclei", before, after, what="Brush")
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 2}
    assert store.read("Nuclei", elsewhere).ids[15, 15] == 2
    check_store(store)


def test_class_of_an_object_changes_everywhere(store: AnnotationStore) -> None:
    both, left = Region(100, 100, 300, 400), Region(100, 100, 300, 200)
    store.write_prediction("Cells", disks(both, (250, 310, 30), value=1), model_hash="")
    before = store.read("Cells", left)
    after = before.copy()
    after.classes[after.classes > 0] = 7
    store.write_edit("Cells", before, after, what="Change class")
    now = store.read("Cells", both)
    assert set(np.unique(now.classes)) == {0, 7}
    assert set(np.unique(now.provenance[now.classes > 0])) == {HUMAN}
    check_store(store)


def test_object_without_class_is_refused(store: AnnotationStore) -> None:
    before = store.read("Nuclei", VIEW)
    after = before.copy()
    after.ids[5, 5] = 3
    with pytest.raises(ConfigError, match="without a class"):
        store.write_edit("Nuclei", before, after, what="Brush")
    assert store.history == []


def test_known_regions(store: AnnotationStore) -> None:
    assert store.known_regions("Nuclei", 256) == []
    store.accept("Nuclei", Region(500, 1050, 30, 50))
    assert store.known_regions("Nuclei", 256) == [
        Region(256, 1024, 256, 76),
        Region(512, 1024, 256, 76),
    ]


def test_history_says_who_did_what_where(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    store.accept("Nuclei", VIEW)
    store.undo()
    done, undone = store.history
    assert (done.what, done.who, done.task, done.region) == ("Predict", "Ada", "Nuclei", VIEW)
    assert (undone.what, undone.undone) == ("Accept view", True)
    assert done.when.endswith("+00:00")
    store.write_prediction("Nuclei", disks(VIEW), model_hash="m2")
    assert [op.what for op in store.history] == ["Predict", "Predict"]
    assert store.redo() is None


def test_listeners_hear_what_changed(store: AnnotationStore) -> None:
    heard: list[tuple[str, Region]] = []
    store.events.changed.connect(lambda task, region: heard.append((task, region)))
    store.accept("Nuclei", Region(10, 20, 30, 40))
    store.undo()
    assert heard == [("Nuclei", Region(10, 20, 30, 40))] * 2


def test_labels_are_valid_ome_zarr_in_place(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    labels = zarr.open_group(store.path / "labels", mode="r")
    names = Labels.from_zarr(labels).ome_attributes.labels
    assert names[:3] == ["Nuclei.classes", "Nuclei.objects", "Nuclei.provenance"]
    assert "Regions.objects" not in names
    for name in names:
        group = zarr.open_group(store.path / "labels" / name, mode="r")
        image = ImageLabel.from_zarr(group).ome_attributes
        datasets = image.multiscales[0].datasets
        for level, dataset in enumerate(datasets):
            scale, shift = (t.model_dump() for t in dataset.coordinateTransformations)
            downsample = (4 if name.startswith("Regions") else 1) * 2**level
            assert scale["scale"] == pytest.approx([0.25 * downsample] * 2)
            # The centre of the first pixel, where the slide's first pixel has its centre at 0.
            assert shift["translation"] == pytest.approx([0.25 * (downsample - 1) / 2] * 2)


def test_only_touched_chunks_are_written(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(Region(0, 0, 1300, 1100), (300, 300, 9)), model_hash="")
    level0 = store.path / "labels" / "Nuclei.classes" / "0" / "c"
    assert len(list(level0.rglob("*"))) < 9  # empty chunks have no file
    times = {f: f.stat().st_mtime_ns for f in store.path.rglob("c/*/*") if f.parts[-4] == "0"}
    before = store.read("Nuclei", VIEW)
    after = before.copy()
    after.classes[0, 0], after.ids[0, 0] = 1, 99
    store.write_edit("Nuclei", before, after, what="Brush")
    touched = {f for f, t in times.items() if f.stat().st_mtime_ns != t}
    assert {f.parts[-5:] for f in touched} == {
        ("Nuclei.classes", "0", "c", "0", "0"),
        ("Nuclei.objects", "0", "c", "0", "0"),
        ("Nuclei.provenance", "0", "c", "0", "0"),
    }


def test_second_opener_may_only_look(store: AnnotationStore) -> None:
    store.accept("Nuclei", VIEW)
    with pytest.raises(StoreLockedError, match="another window"):
        open_store(store.path)
    with AnnotationStore.open_read_only(store.path) as second:
        assert second.read_only
        assert (second.read("Nuclei", VIEW).provenance == ACCEPTED).all()
        with pytest.raises(StoreError, match="read-only"):
            second.accept("Nuclei", VIEW)
    store.close()
    open_store(store.path).close()


def test_stale_lock_is_taken_over_and_a_foreign_one_is_not(store: AnnotationStore) -> None:
    store.close()
    import socket

    note = store.path / "owner.json"
    note.write_text(json.dumps({"pid": 1, "host": socket.gethostname()}))
    open_store(store.path).close()
    assert not note.exists()
    note.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(StoreLockedError, match="process 1 on elsewhere"):
        open_store(store.path)


def test_another_slide_is_refused(store: AnnotationStore) -> None:
    store.close()
    with pytest.raises(StoreMismatchError, match=r"case\.svs"):
        open_store(store.path, slide_hash="cd" * 32)
    with pytest.raises(StoreMismatchError, match="1300 x 1100"):
        open_store(store.path, shape=(1300, 1101))
    open_store(store.path).close()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"attributes": {"gsd": {"schema_version": 1}}}', "[" * 100_000],
)
def test_damaged_root_is_refused_and_left_alone(store: AnnotationStore, text: str) -> None:
    store.close()
    (store.path / "zarr.json").write_text(text)
    for attempt in (open_store, AnnotationStore.open_read_only):
        with pytest.raises(StoreCorruptError, match="Nothing was changed"):
            attempt(store.path)
    assert (store.path / "zarr.json").read_text() == text


def test_newer_version_is_refused_as_such(store: AnnotationStore) -> None:
    store.close()
    root = store.path / "zarr.json"
    root.write_text(root.read_text().replace('"schema_version": 2', '"schema_version": 3'))
    with pytest.raises(StoreError, match="update napari-genselfdiff"):
        open_store(store.path)


def test_damaged_chunk_is_named_and_left_alone(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    chunk = store.path / "labels" / "Nuclei.classes" / "0" / "c" / "0" / "0"
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    chunk.write_bytes(damaged)
    with pytest.raises(StoreCorruptError, match=r"Nuclei\.classes/0"):
        store.read("Nuclei", VIEW)
    assert chunk.read_bytes() == damaged


@pytest.mark.parametrize("change", [("shape", [10**9, 10**9]), ("data_type", "float64")])
def test_header_that_lies_is_refused(store: AnnotationStore, change: tuple[str, object]) -> None:
    store.close()
    path = store.path / "labels" / "Nuclei.classes" / "0" / "zarr.json"
    header = json.loads(path.read_text())
    header[change[0]] = change[1]
    path.write_text(json.dumps(header))
    with pytest.raises(StoreCorruptError, match="is needed"):
        open_store(store.path)


def test_closed_store_refuses_to_write(store: AnnotationStore) -> None:
    store.close()
    with pytest.raises(StoreError, match="read-only"):
        store.accept("Nuclei", VIEW)


def test_tasks_are_added_once(store: AnnotationStore) -> None:
    store.accept("Nuclei", VIEW)
    store.add_task(NUCLEI)
    assert store.summary("Nuclei")["pixels"]["accepted"] == VIEW.area
    with pytest.raises(ConfigError, match="another task"):
        store.add_task(NUCLEI.model_copy(update={"mpp": 0.5}))
    assert list(reopen(store).tasks) == ["Nuclei", CELLS.name, REGIONS.name]


def test_bad_requests(store: AnnotationStore) -> None:
    with pytest.raises(ConfigError, match="no task 'Glands'"):
        store.read("Glands", VIEW)
    with pytest.raises(ConfigError, match="outside the task's grid"):
        store.read("Nuclei", Region(5000, 0, 5, 5))
    with pytest.raises(ConfigError, match="no array"):
        store.levels("Regions", "objects")
    window = disks(VIEW)
    window.classes = window.classes[:5]
    with pytest.raises(ConfigError, match="classes of shape"):
        store.write_prediction("Nuclei", window, model_hash="")


def test_a_slide_of_100000_squared_opens_at_once(tmp_path: Path) -> None:
    store = new_store(tmp_path, (100_000, 100_000))
    store.write_prediction("Nuclei", disks(Region(70_000, 70_000, 300, 300)), model_hash="")
    files = sum(1 for f in store.path.rglob("*") if f.is_file())
    assert files < 120  # metadata and a handful of chunks
    assert store.summary("Nuclei")["pixels"]["unknown"] == 10**10 - 90_000


def test_default_place(tmp_path: Path, home: Path) -> None:
    slide = tmp_path / "case 12.svs"
    assert default_store_path(slide) == tmp_path / "case 12.svs.gsd.zarr"
    tmp_path.chmod(0o500)
    try:
        place = default_store_path(slide)
        if (tmp_path / "probe").parent.stat().st_uid != 0:  # root may write anywhere
            assert place.parent == home / "annotations"
    finally:
        tmp_path.chmod(0o700)


def test_annotations_stay_where_they_began(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = tmp_path / "case.svs"
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        own = default_store_path(slide)
    assert own.parent == home / "annotations"
    assert default_store_path(slide) == tmp_path / "case.svs.gsd.zarr"
    with open_store(own) as store:
        store.add_task(CELLS)
        store.add_roi("Cells", "Front", [(9.5, 9.5), (9.5, 99.5), (99.5, 99.5)])
    assert default_store_path(slide) == own  # the folder can be written by now
    beside = tmp_path / "case.svs.gsd.zarr"
    beside.mkdir()  # a colleague's
    assert default_store_path(slide) == beside


def test_read_only_folder_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="choose another folder"):
        open_store(tmp_path / "x.gsd.zarr")


def test_coverage_counts_chunk_by_chunk(store: AnnotationStore) -> None:
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="m1")
    store.accept("Nuclei", Region(0, 0, 512, 600))
    coverage = store.coverage("Nuclei")
    provenance = store.read("Nuclei", Region(0, 0, *store.shape("Nuclei"))).provenance
    assert coverage.shape == (*(-(-side // 512) for side in provenance.shape), 3)
    for (y, x, source), pixels in np.ndenumerate(coverage):
        chunk = provenance[y * 512 : y * 512 + 512, x * 512 : x * 512 + 512]
        assert pixels == (chunk == source + 1).sum()
    assert coverage[..., 1].sum() == 512 * 600
