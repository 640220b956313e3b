"""Disks that refuse in the middle of the work: it goes on, is kept, and comes home."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.annotation.aside import asides_home
from napari_genselfdiff.annotation.fork import Fork
from napari_genselfdiff.annotation.store import AnnotationStore, Window
from napari_genselfdiff.errors import StoreError, StoreLockedError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store, reopen, same, whole
from tests.annotation.checks import check_store
from tests.annotation.faults import gone, refusing
from tests.annotation.strokes import TASKS, work
from tests.annotation.test_journal import content, equal

SHAPE = (720, 700)
VIEW = Region(300, 300, 300, 300)
SQUARE = [(99.5, 99.5), (99.5, 299.5), (299.5, 299.5), (299.5, 99.5)]


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with some steps, one of them undone."""
    store = new_store(tmp_path_factory.mktemp("worked"), SHAPE)
    for seed in range(6):
        work(store, seed)
    store.write_prediction("Cells", disks(VIEW, (400, 400, 40)), model_hash="m")
    store.accept("Cells", Region(300, 300, 50, 50))
    store.undo()
    store.close()
    return store.path


@pytest.fixture
def path(worked: Path, tmp_path: Path, home: Path) -> Path:
    return Path(shutil.copytree(worked, tmp_path / "case.svs.gsd.zarr"))


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def brush(store: AnnotationStore, y: int, value: int = 1) -> int:
    """Draw a bar into the view."""
    before = store.read("Cells", VIEW)
    after = before.copy()
    after.classes[y : y + 10, 20:80] = value
    after.ids[y : y + 10, 20:80] = int(after.ids.max()) + 1 if value else 0
    return store.write_edit("Cells", before, after, what="Brush" if value else "Erase")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EIO, "does not answer"),
        (errno.ESTALE, "network drive is gone"),
    ],
)
def test_work_goes_on_and_comes_home_by_itself(path: Path, error: int, reason: str) -> None:
    twin = reopen(Path(shutil.copytree(path, path.with_name("twin.gsd.zarr"))))
    store = reopen(path)
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    before = snapshot(path)
    with refusing(path, error):
        for step in (twin, store):
            brush(step, 100)
            brush(step, 150, 7)
            step.accept("Cells", Region(0, 0, 90, 90))
            step.undo()
            step.undo()
            brush(step, 200)
            step.add_class("Cells", "Mitosis", "#009E73")
            step.add_roi("Cells", "Front", SQUARE)
            step.rename_roi("Cells", "Front", "Margin")
        assert len(notices) == 1
        assert reason in notices[0]
        assert "kept safe on this computer" in notices[0]
        assert snapshot(path) == before  # nothing half-written there
        assert equal(content(store), content(twin))
        check_store(store)
        with pytest.raises(StoreError):
            store.return_home()
    assert store.return_home()
    assert not list(asides_home().iterdir())
    store.close()
    store = reopen(path)
    assert store.recovery is None
    assert equal(content(store), content(twin))
    assert [op.what for op in store.history] == [op.what for op in twin.history]
    assert [roi.name for roi in store.rois] == ["Margin"]
    assert store.rois == twin.rois
    check_store(store)
    for step in (store, twin):
        step.redo()
    assert equal(content(store), content(twin))
    store.go_to(None)
    assert not any(whole(store, "Cells")["classes"].ravel())
    check_store(store)


def test_undo_works_on_a_full_disk(path: Path) -> None:
    store = reopen(path)
    start = content(store)
    brush(store, 100)
    with refusing(path, errno.ENOSPC):
        assert store.undo() is not None
        assert equal(content(store), start)
        check_store(store)


def test_a_drive_that_goes_away_takes_nothing_with_it(path: Path) -> None:
    store = reopen(path)
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    start = content(store)
    brush(store, 50)
    shown = store.read("Cells", VIEW)  # what is on screen is known
    with gone(path):
        np.testing.assert_array_equal(store.read("Cells", VIEW).classes, shown.classes)
        brush(store, 100)
        assert "the folder is gone" in notices[0]
        assert store.read("Cells", VIEW).classes[105, 50] == 1
        assert store.levels("Cells", "classes")[0][405, 350] == 1  # what napari shows
        assert not path.exists()  # and nothing was made in its place
        assert store.undo() is not None
        assert store.redo() is not None
        store.close()
    store = reopen(path)
    assert store.recovery is not None
    assert "the folder has everything again" in store.recovery.text
    assert [op.what for op in store.recovery.operations] == ["Brush", "Brush"]
    assert store.read("Cells", VIEW).classes[105, 50] == 1
    check_store(store)
    store.recovery.discard()
    assert equal(content(store), start)
    check_store(store)


def test_what_was_never_read_is_not_taken_for_empty(path: Path) -> None:
    store = reopen(path)
    with gone(path):
        with pytest.raises(StoreError, match="the folder is gone"):
            store.read("Cells", VIEW)
        with pytest.raises(StoreError, match="the folder is gone"):
            store.accept("Cells", VIEW)
        assert store.kept_aside is None  # nothing could be kept, so nothing is aside


def test_both_disks_refusing_is_said_and_harmless(path: Path) -> None:
    store = reopen(path)
    start, history = content(store), list(store.history)
    with refusing(path.parent, errno.ENOSPC), refusing(asides_home(), errno.ENOSPC):
        with pytest.raises(StoreError, match="disk is full"):
            brush(store, 100)
        with pytest.raises(StoreError, match="disk is full"):
            store.undo()
    assert store.kept_aside is None
    assert equal(content(store), start)
    assert store.history == history
    assert brush(store, 100) > 0
    check_store(store)


def test_an_import_that_cannot_be_repeated_changes_nothing(path: Path) -> None:
    store = reopen(path)
    start = content(store)
    window = disks(Region(0, 0, 100, 100), (50, 50, 20), first=store.new_ids(1))
    with ExitStack() as stack:

        def late() -> Iterator[Window]:
            stack.enter_context(refusing(path, errno.ENOSPC))
            yield window

        with pytest.raises(StoreError, match="disk is full"):
            store.write_blocks("Cells", late(), region=window.region, what="Import")
        assert equal(content(store), start)
        assert store.kept_aside is None
        assert store.write_blocks("Cells", [window], region=window.region, what="Import") > 0
    assert store.return_home()
    check_store(store)


def test_still_full_at_the_next_start(path: Path) -> None:
    store = reopen(path)
    with refusing(path, errno.ENOSPC):
        brush(store, 100)
    now = content(store)
    aside = store.kept_aside
    assert store._lock is not None
    store._lock._lock.release()  # the program ends without a chance to bring anything back

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_genselfdiff.annotation.aside.replace_file", full)
        store = reopen(path)
        assert store.kept_aside == aside
        assert store.recovery is not None
        assert "kept safe on this computer" in store.recovery.text
        assert equal(content(store), now)
        brush(store, 200)
    assert store.return_home()
    assert [op.what for op in store.history[-2:]] == ["Brush", "Brush"]
    check_store(store)


EVERYWHERE = [pytest.param(at, marks=pytest.mark.slow) for at in range(60)]


@pytest.mark.parametrize("at", [0, 9, 18, 27, *EVERYWHERE])
def test_coming_home_may_be_interrupted_anywhere(path: Path, at: int) -> None:
    from tests.annotation.test_journal import Crash, abandon, crash, interrupted

    store = reopen(path)
    with refusing(path, errno.ENOSPC):
        store.undo()
        brush(store, 100)
        brush(store, 150, 7)
        store.undo()
    now, history = content(store), [(op.what, op.undone) for op in store.history]
    with interrupted(at, crash):
        try:
            store.return_home()
        except Crash:
            assert at < 10**6
    abandon(store)
    store = reopen(path)
    assert store.kept_aside is None
    assert equal(content(store), now)
    assert [(op.what, op.undone) for op in store.history] == history
    check_store(store)
    assert not list(asides_home().glob("*"))


def forked(path: Path) -> tuple[AnnotationStore, Fork]:
    """A store that was changed on another computer while work was kept on this one."""
    store = reopen(path)
    elsewhere = Path(shutil.copytree(path, path.with_name("elsewhere.gsd.zarr")))
    (elsewhere / "owner.json").unlink()
    with refusing(path, errno.ENOSPC):
        brush(store, 100)
        brush(store, 250)
    assert store._lock is not None
    store._lock._lock.release()
    with reopen(elsewhere) as other:
        brush(other, 105)
        other.accept("Regions", Region(0, 0, 40, 40))
    shutil.rmtree(path)
    shutil.copytree(elsewhere, path)
    store = reopen(path)
    assert isinstance(store.recovery, Fork)
    return store, store.recovery


def test_what_others_changed_is_never_overwritten(path: Path) -> None:
    store, fork = forked(path)
    others = {task: whole(store, task) for task in TASKS}
    assert [op.what for op in fork.operations] == ["Brush", "Brush"]
    assert fork.before("Cells", VIEW).classes[112, 50] == 1
    assert fork.after("Cells", VIEW).classes[102, 50] == 1
    assert fork.after("Cells", VIEW).classes[255, 50] == 1
    fork.keep()
    assert fork.left_out > 0
    assert store.recovery is None
    assert store.read("Cells", VIEW).classes[255, 50] == 1  # nobody else was there
    now = whole(store, "Cells")
    known = others["Cells"]["provenance"] >= 2
    for name, values in others["Cells"].items():
        np.testing.assert_array_equal(now[name][known], values[known])
    assert same(whole(store, "Regions"), others["Regions"])
    check_store(store)
    assert [op.what for op in store.history][-1] == "Brush"
    store.close()
    assert reopen(path).recovery is None
    assert [f.suffix for f in asides_home().iterdir()] == [".merged"]  # still on disk


def test_discarding_leaves_the_annotations_and_the_work_on_disk(path: Path) -> None:
    store, fork = forked(path)
    before = {task: whole(store, task) for task in TASKS}
    fork.discard()
    assert store.recovery is None
    assert all(same(whole(store, task), before[task]) for task in TASKS)
    assert [f.suffix for f in asides_home().iterdir()] == [".discarded"]
    store.close()
    assert reopen(path).recovery is None


def test_annotations_that_cannot_be_written_from_the_start(path: Path) -> None:
    before = snapshot(path)
    with refusing(path, errno.EROFS):
        store = reopen(path)
        assert store.recovery is not None
        assert "read-only" in store.recovery.text
        assert brush(store, 100) > 0
        now = content(store)
        with pytest.raises(StoreLockedError):
            reopen(path)  # a second window
        store.close()
        store = reopen(path)
        assert equal(content(store), now)  # found again
        brush(store, 200)
        now = content(store)
        check_store(store)
        store.close()
    (path / "lock").unlink(missing_ok=True)
    assert snapshot(path).items() <= before.items()
    store = reopen(path)
    assert store.kept_aside is None
    assert store.recovery is not None
    assert "2 steps were kept" in store.recovery.text
    assert equal(content(store), now)
    check_store(store)
    assert not list(asides_home().iterdir())


def test_a_folder_that_can_be_written_again(path: Path) -> None:
    with refusing(path, errno.EROFS):
        store = reopen(path)
        brush(store, 100)
    now = content(store)
    assert store.return_home()
    brush(store, 200)
    with pytest.raises(StoreLockedError):
        reopen(path)
    store.undo()
    store.close()
    store = reopen(path)
    assert equal(content(store), now)
    check_store(store)


def test_regions_of_interest_are_brought_beside_those_of_others(path: Path) -> None:
    lower = [(y + 200, x) for y, x in SQUARE]
    with reopen(path) as store:
        for name in ("Front", "Margin", "Nest", "Stroma"):
            store.add_roi("Cells", name, SQUARE)
    with refusing(path, errno.EROFS):
        store = reopen(path)
        store.add_roi("Cells", "New", lower)
        store.add_roi("Cells", "Shared", lower)
        store.rename_roi("Cells", "Front", "Edge")
        store.remove_roi("Cells", "Margin")
        store.rename_roi("Cells", "Nest", "Island")
        store.close()
    with pytest.MonkeyPatch.context() as patch:  # the owner's computer knows nothing of it
        patch.setattr("napari_genselfdiff.annotation.store.asides_of", lambda *_: [])
        with reopen(path) as other:
            brush(other, 105)
            other.add_roi("Cells", "shared", SQUARE)
            other.remove_roi("Cells", "Nest")
    store = reopen(path)
    assert isinstance(store.recovery, Fork)
    store.recovery.keep()
    found = {roi.name: roi for roi in store.rois}
    assert list(found) == ["Edge", "Stroma", "shared", "New", "Shared (2)"]
    assert found["Shared (2)"].shape.equals(found["New"].shape)
    assert [step.what for step in store.history][-1] == "Remove Margin"
    store.undo()
    assert "Margin" in [roi.name for roi in store.rois]
    store.close()


def test_read_only_annotations_that_their_owner_changed(path: Path) -> None:
    with refusing(path, errno.EROFS):
        store = reopen(path)
        brush(store, 100)
        brush(store, 250)
        store.close()
    with pytest.MonkeyPatch.context() as patch:  # the owner's computer knows nothing of it
        patch.setattr("napari_genselfdiff.annotation.store.asides_of", lambda *_: [])
        with reopen(path) as other:
            brush(other, 105)
    with refusing(path, errno.EROFS):
        store = reopen(path)
        assert isinstance(store.recovery, Fork)
        store.recovery.keep()
        assert store.read("Cells", VIEW).classes[112, 50] == 1  # theirs
        assert store.read("Cells", VIEW).classes[255, 50] == 1  # ours
        check_store(store)
        store.close()


def test_programs_without_a_window_are_told_that_work_is_not_at_home(path: Path) -> None:
    store = reopen(path)
    store.check_home()
    with refusing(path, errno.ENOSPC):
        brush(store, 100)
        store.close()
        with pytest.raises(StoreError, match="kept safe in"):
            store.check_home()
    reopen(path).check_home()
