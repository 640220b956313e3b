from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_genselfdiff.annotation.arrays import ArrayName
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import StoreCorruptError, StoreError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store, reopen, same, whole
from tests.annotation.checks import check_store
from tests.annotation.strokes import TASKS, work, work_until_killed

SHAPE = (720, 700)  # two by two chunks, two levels
Content = dict[str, dict[ArrayName, NDArray[Any]]]


def content(store: AnnotationStore) -> Content:
    return {task: whole(store, task) for task in TASKS}


def equal(a: Content, b: Content) -> bool:
    return all(same(a[task], b[task]) for task in TASKS)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty store to copy: making one takes longer than an operation."""
    store = new_store(tmp_path_factory.mktemp("blank"), SHAPE)
    store.close()
    return store.path


@pytest.fixture
def path(blank: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(blank, tmp_path / "case.svs.gsd.zarr"))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 10**6) | st.sampled_from(["undo", "redo", "reopen"]), max_size=14))
def test_undo_all_gives_the_start_and_redo_all_the_end(
    blank: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]
) -> None:
    path = tmp_path_factory.mktemp("undo") / "case.svs.gsd.zarr"
    shutil.copytree(blank, path)
    store = reopen(path)
    states, at = [content(store)], 0  # what the history should hold, step by step
    for step in steps:
        if isinstance(step, int):
            length = sum(not op.undone for op in store.history)
            work(store, step)
            if sum(not op.undone for op in store.history) > length:
                at += 1
                states[at:] = [content(store)]
        elif step == "reopen":
            store.close()
            store = reopen(path)
        else:
            moved = store.undo() if step == "undo" else store.redo()
            at += 0 if moved is None else -1 if step == "undo" else 1
        assert equal(content(store), states[at])
    check_store(store)
    while store.undo():
        at -= 1
    assert at == 0
    assert equal(content(store), states[0])
    check_store(store)
    store.close()
    store = reopen(path)
    while store.redo():
        at += 1
    assert at == len(states) - 1
    assert equal(content(store), states[-1])
    check_store(store)
    store.close()


class Crash(BaseException):
    """The process is gone at this point."""


class Interrupter:
    """Counts what changes the disk, and from number ``at`` on does ``instead``."""

    def __init__(self, at: int, instead: Callable[[str], None]) -> None:
        self.count, self.at, self.instead = 0, at, instead

    def wrap(self, name: str, original: Callable[..., Any], *, halves: bool) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count > self.at:
                if halves and self.count == self.at + 1:
                    args[0].write_bytes(args[1][: len(args[1]) // 2])
                self.instead(name)
            return original(*args, **kwargs)

        return step


@contextmanager
def interrupted(at: int, instead: Callable[[str], None]) -> Iterator[Interrupter]:
    """Within this, whatever changes the disk from number ``at`` on does ``instead`` first."""
    interrupter = Interrupter(at, instead)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in [
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
            (zipfile.ZipFile, "writestr"),
            (shutil, "rmtree"),
            (os, "fsync"),
        ]:
            patch.setattr(owner, name, interrupter.wrap(name, getattr(owner, name), halves=False))
        for module in ("disk", "journal"):
            target = f"napari_genselfdiff.annotation.{module}.write_file"
            original = sys.modules[f"napari_genselfdiff.annotation.{module}"].write_file
            patch.setattr(target, interrupter.wrap("write_file", original, halves=True))
        yield interrupter


def crash(_: str) -> None:
    raise Crash


def abandon(store: AnnotationStore) -> None:
    """Let the operating system free the lock, as it does for a process that dies."""
    lock = store._lock
    assert lock is not None
    lock._lock.release()


def act(store: AnnotationStore, kind: str) -> None:
    view = Region(400, 400, 250, 300)
    if kind == "write":
        store.write_prediction("Cells", disks(view, (500, 500, 40), (520, 640, 20)), model_hash="")
    elif kind == "undo":
        store.undo()
    else:
        store.redo()


def prepared(blank: Path, folder: Path, kind: str) -> AnnotationStore:
    store = reopen(Path(shutil.copytree(blank, folder / "case.svs.gsd.zarr")))
    store.write_prediction(
        "Cells", disks(Region(450, 450, 200, 200), (520, 520, 30)), model_hash=""
    )
    store.accept("Cells", Region(450, 450, 100, 100))
    if kind == "redo":
        store.undo()
    return store


@pytest.mark.parametrize("kind", ["write", "undo", "redo"])
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_crash_at_every_step_is_all_or_nothing(
    blank: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, every: int
) -> None:
    """Die before changes of the disk (writing half a file, if it is one), then open again."""
    store = prepared(blank, tmp_path_factory.mktemp("whole"), kind)
    before, with_none = content(store), [op.undone for op in store.history]
    ready = shutil.copytree(store.path, store.path.with_name("ready.gsd.zarr"))
    (ready / "owner.json").unlink()
    with interrupted(10**9, crash) as counter:
        act(store, kind)
    after, with_all = content(store), [op.undone for op in store.history]
    store.close()
    outcomes = set()
    for at in range(0, counter.count, every):
        store = reopen(
            Path(shutil.copytree(ready, tmp_path_factory.mktemp("crash") / "c.gsd.zarr"))
        )
        with interrupted(at, crash), pytest.raises(Crash):
            act(store, kind)
        abandon(store)
        store = reopen(store.path)
        assert store.recovered
        done = [op.undone for op in store.history] == with_all
        assert done or [op.undone for op in store.history] == with_none
        assert equal(content(store), after if done else before), at
        check_store(store)
        assert not list((store.path / "journal").glob("*partial*"))
        store.close()
        outcomes.add(done)
    assert outcomes == {False, True}


@pytest.mark.parametrize("kind", ["write", "undo", "redo"])
def test_full_disk_at_every_step_is_said_and_harmless(
    blank: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    store = prepared(blank, tmp_path_factory.mktemp("full"), kind)
    before, history = content(store), store.history

    def full(name: str) -> None:
        if name in {"write_file", "writestr", "mkdir", "fsync"}:  # what needs space
            raise OSError(errno.ENOSPC, "No space left on device")

    notices: list[str] = []
    store.events.notice.connect(notices.append)
    for at in range(200):
        message = ""
        with interrupted(at, full) as counter:
            try:
                act(store, kind)
            except StoreError as err:
                message = str(err)
        if not message:
            break
        assert "disk is full" in message
        assert equal(content(store), before)
        assert store.history == history
        leftovers = [f.name for f in (store.path / "journal").iterdir()]
        assert not [n for n in leftovers if "partial" in n or "apply" in n]
    assert counter.count > at > 5  # now it is committed, but the overview could not follow
    assert "saved" in notices[-1]
    after = content(store)
    assert not equal(after, before)
    store.close()
    store = reopen(store.path)
    assert equal(content(store), after)
    check_store(store)


def run_and_kill(path: Path, seed: int, seconds: float) -> int:
    """Work in another process, kill -9 it, and give the operations it had finished."""
    log = path.with_suffix(f".{seed}.log")
    log.touch()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.annotation.strokes"])
    process = context.Process(target=work_until_killed, args=(path, seed, log))
    process.start()
    while not log.stat().st_size and process.is_alive():
        time.sleep(0.01)
    time.sleep(seconds)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return len(log.read_text().splitlines())


def check_kill(path: Path, twin: AnnotationStore, seed: int, seconds: float) -> None:
    """Kill a process that works; the store must hold what an undisturbed twin holds."""
    with reopen(path) as store:
        known = max((op.id for op in store.history), default=0)
    finished = run_and_kill(path, seed, seconds)
    store = reopen(path)
    for number in range(seed, seed + finished):
        work(twin, number)
    if len(store.history) != len(twin.history):  # committed, but not noted any more
        work(twin, seed + finished)
    assert [op.what for op in store.history] == [op.what for op in twin.history]
    assert equal(content(store), content(twin))
    check_store(store)
    assert store.recovery is not None
    new = [op for op in store.history if op.id > known]
    assert list(store.recovery.operations) == new  # it says what it recovered
    assert not new or f"{len(new):,} step" in store.recovery.text
    store.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")
@pytest.mark.parametrize(
    ("points", "seed"),
    [(6, 0), *(pytest.param(50, seed, marks=pytest.mark.slow) for seed in range(1, 5))],
)
def test_kill_9_loses_nothing_that_was_finished(
    path: Path, tmp_path: Path, points: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    twin_path = Path(shutil.copytree(path, tmp_path / "twin.gsd.zarr"))
    with reopen(twin_path) as twin:
        for point in range(points):
            check_kill(path, twin, 100_000 * (point + 1), float(rng.uniform(0.0, 0.4)))


def test_quota_drops_the_oldest_steps_with_a_notice(path: Path) -> None:
    store = reopen(path)
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    for x in range(0, 500, 100):
        store.accept("Cells", Region(10, x, 50, 50))
    assert len(store.history) == 5
    store.quota = sum(f.stat().st_size for f in (path / "journal").iterdir()) // 2
    store.accept("Cells", Region(10, 550, 50, 50))
    assert 1 <= len(store.history) < 5
    assert "can no longer be undone" in notices[0]
    store.quota = 0
    store.accept("Cells", Region(10, 620, 50, 50))
    assert len(store.history) == 1  # the newest always stays
    assert len(list((path / "journal").iterdir())) == 1
    store.undo()
    assert store.undo() is None
    check_store(store)


@pytest.mark.parametrize("number", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_operations_can_be_undone_after_a_restart(path: Path, number: int) -> None:
    store = reopen(path)
    start = content(store)
    for step in range(number):
        store.accept("Regions", Region(step % 150, step // 150 * 9, 1, 9))
    store.close()
    store = reopen(path)
    assert len(store.history) == number
    while store.undo():
        pass
    assert equal(content(store), start)
    check_store(store)


def test_damaged_undo_step_is_said_and_the_annotations_stay(path: Path) -> None:
    store = reopen(path)
    store.accept("Cells", Region(10, 10, 50, 50))
    store.accept("Cells", Region(10, 90, 50, 50))
    store.close()
    steps = sorted((path / "journal").iterdir())
    steps[-1].write_bytes(steps[-1].read_bytes()[:-40])
    store = reopen(path)
    before = content(store)
    with pytest.raises(StoreCorruptError, match="Undo ends here"):
        store.undo()
    assert equal(content(store), before)
    assert store.accept("Cells", Region(200, 90, 50, 50)) == 2500


@pytest.mark.parametrize(
    "name", ["../../escaped", "labels/Cells.classes/0/c/../../../x", "zarr.json"]
)
def test_undo_step_cannot_write_elsewhere(path: Path, name: str) -> None:
    store = reopen(path)
    store.accept("Cells", Region(10, 10, 50, 50))
    (step,) = (path / "journal").iterdir()
    with zipfile.ZipFile(step, "a") as archive:
        archive.writestr(f"before/{name}", b"evil")
    with pytest.raises(StoreCorruptError, match="no chunk"):
        store.undo()
    assert not list(path.parent.rglob("escaped"))


def test_chunks_a_power_cut_took_are_put_back(path: Path) -> None:
    store = reopen(path)
    store.write_prediction(
        "Cells", disks(Region(400, 400, 300, 300), (500, 500, 40)), model_hash=""
    )
    before = content(store)
    abandon(store)
    chunk = path / "labels" / "Cells.objects" / "0" / "c" / "0" / "0"
    chunk.write_bytes(b"")
    (path / "labels" / "Cells.objects" / "1" / "c" / "0" / "0").write_bytes(b"")
    store = reopen(path)
    assert "nothing is lost" in store.recovered
    assert equal(content(store), before)
    check_store(store)


def test_recovery_shows_before_and_after_and_goes_back(path: Path) -> None:
    store = reopen(path)
    whole_grid = Region(0, 0, *SHAPE)
    work(store, 3)
    store.close()
    store = reopen(path)
    before, start = store.read("Cells", whole_grid), content(store)
    for seed in range(40, 60):
        work(store, seed)
    after, end = store.read("Cells", whole_grid), content(store)
    abandon(store)
    store = reopen(path)
    recovery = store.recovery
    assert recovery is not None
    assert len(recovery.operations) == len(recovery.places) > 5
    part = Region(300, 200, 90, 80)
    for window, expected in (
        (recovery.before("Cells", whole_grid), before),
        (recovery.after("Cells", whole_grid), after),
        (recovery.before("Cells", part), before.cropped(part)),
    ):
        np.testing.assert_array_equal(window.classes, expected.classes)
        np.testing.assert_array_equal(window.ids, expected.ids)
        np.testing.assert_array_equal(window.provenance, expected.provenance)
    abandon(store)  # a second crash before the user has decided: the same is asked
    store = reopen(path)
    assert store.recovery is not None
    assert len(store.recovery.operations) == len(recovery.operations)
    store.recovery.discard()
    assert not store.recovered
    assert equal(content(store), start)
    store.go_to(store.history.ids[-1])  # nothing is lost by that
    assert equal(content(store), end)
    abandon(store)
    store = reopen(path)
    assert store.recovery is not None
    assert not store.recovery.operations  # it was decided before
    store.recovery.keep()
    assert equal(content(store), end)
    store.close()
    assert reopen(path).recovery is None
