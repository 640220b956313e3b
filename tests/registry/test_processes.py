"""Models while several processes change them, and after one was killed at any point."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.registry import lock
from napari_genselfdiff.registry.active import read_active
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.registry.unfinished import Scratch, clean, clean_partials, owned
from tests.registry.networks import WriteModel, task

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "shutil.copyfile"}


def _forked(work: Callable[[], Any]) -> int:
    """Run ``work`` in a copy of this process; give its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside torch's threads
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  (a child must not go on with the tests)
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def _ended_by_itself(child: int) -> bool:
    """Wait for a child; False if it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed by itself"
    return True


def _killed_at(event: int, work: Callable[[], Any]) -> bool:
    """Run ``work`` in a process that is killed right before its ``event``-th change on disk.

    False if it ended before.
    """

    def counted() -> None:
        left = event

        def count(name: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            writes = name == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if name in _CHANGES or writes:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()

    return not _ended_by_itself(_forked(counted))


def _work(change: Callable[[Registry], Any], root: Path, bundled: Path) -> None:
    change(Registry(root, bundled=bundled))  # a lock does not survive a fork


def _left_overs(root: Path) -> list[str]:
    found = [p.name for p in root.rglob("*") if ".partial" in p.name]
    return found + [str(p) for p in (root / "runs").glob("*")]


@needs_fork
@pytest.mark.parametrize(
    "what", ["use", pytest.param("import", marks=pytest.mark.slow), "delete", "rollback"]
)
def test_killed_at_any_point(
    registry: Registry, write: WriteModel, tmp_path: Path, what: str
) -> None:
    """Whatever is interrupted, the list is whole and one of two models is in use."""
    mine, new = write("mine", 1), write("new", 2)
    packed = registry.export(new, tmp_path / "new.zip")
    bundled = registry.resolve("nuclei").path.parent
    works: dict[str, Callable[[Registry], Any]] = {
        "use": lambda r: r.use(new),
        "import": lambda r: r.import_(packed),
        "delete": lambda r: r.delete("other"),
        "rollback": lambda r: r.rollback("Nuclei"),
    }
    in_use = {"use": {mine.hash, new.hash}, "rollback": {mine.hash, registry.active("Nuclei").hash}}
    for event in range(1, 100):
        here = Registry(tmp_path / f"home{event}", bundled=bundled)
        other = here.use(write("other", 3, folder=tmp_path / f"other{event}"))
        here.use(mine)
        if what == "rollback":
            here.rollback("Nuclei")
            here.use(mine)
            in_use["rollback"].add(other.hash)
        killed = _killed_at(event, partial(_work, works[what], here.root, bundled))
        after = Registry(here.root, bundled=bundled)
        assert after.problems() == {}
        assert after.active("Nuclei").hash in in_use.get(what, {mine.hash})
        after.clean()
        assert _left_overs(here.root) == []
        after.use(mine)  # nobody holds the lock any more
        assert after.active("Nuclei").hash == mine.hash
        if not killed:
            break
    assert 3 < event < 99


def _use_many(root: Path, bundled: Path, model: Path, times: int) -> None:
    registry = Registry(root, bundled=bundled)
    for _ in range(times):
        registry.use(registry.resolve(model))
        registry.rollback(registry.resolve(model).card.task.name)


@needs_fork
def test_no_change_of_two_processes_is_lost(registry: Registry, write: WriteModel) -> None:
    """Two processes that choose models all the time lose none of each other's choices."""
    times = 8
    bundled = registry.resolve("nuclei").path.parent
    models = [write(name, 1, task=task(name)) for name in ("Glands", "Regions")]
    for model in models:
        registry.use(write(f"first-{model.card.name}", 2, task=model.card.task))
        registry.add(model.path)
    children = [
        _forked(partial(_use_many, registry.root, bundled, model.path, times)) for model in models
    ]
    assert all(_ended_by_itself(child) for child in children)
    log = read_active(registry.root / "active.json").log
    for model in models:
        done = [entry.what for entry in log if entry.task == model.card.name]
        assert done == ["use"] + ["use", "rollback"] * times


def test_a_lock_that_is_held_for_long_is_explained(
    registry: Registry, write: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_WAIT_S", 0.05)
    model = write("mine", 1)
    registry.root.mkdir(exist_ok=True)
    with FileLock(str(registry.root / "models.lock")):
        with pytest.raises(ModelFileError, match="being changed by another program") as caught:
            Registry(registry.root).add(model.path)
        registry.clean()  # waits for nobody
    assert "\n" not in str(caught.value)
    assert registry.add(model.path).path.name == "mine"


class TestLeftOvers:
    def test_only_what_nobody_works_on_is_removed(self, tmp_path: Path) -> None:
        mine, dead, theirs = (tmp_path / f".{n}.0.partial" for n in ("a", "b", "c*"))
        for folder in (mine, dead, theirs):
            folder.mkdir()
            (folder / "weights").write_bytes(b"x")
        (tmp_path / "kept").mkdir()
        with owned(mine):
            assert clean_partials(tmp_path, "c*") == [theirs]
            assert clean_partials(tmp_path) == [dead]
            assert (mine / "weights").exists()
        assert clean_partials(tmp_path) == [mine]
        assert [p.name for p in tmp_path.iterdir()] == ["kept"]

    def test_a_lock_without_its_folder_goes_too(self, tmp_path: Path) -> None:
        (tmp_path / ".a.0.partial.lock").touch()
        clean_partials(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_link_is_removed_and_what_it_shows_stays(self, tmp_path: Path) -> None:
        (tmp_path / "runs").mkdir()
        (tmp_path / "precious").mkdir()
        (tmp_path / "runs" / "x").symlink_to(tmp_path / "precious")
        clean(tmp_path / "runs", "*")
        assert [p.name for p in tmp_path.iterdir() if p.name != "runs"] == ["precious"]
        assert list((tmp_path / "runs").iterdir()) == []

    def test_scratch_lives_as_long_as_its_owner(self, registry: Registry) -> None:
        scratch = registry.scratch()
        (scratch.path / "model").mkdir()
        Registry(registry.root).clean()
        assert (scratch.path / "model").is_dir()
        scratch.remove()
        scratch.remove()
        assert list(scratch.path.parent.iterdir()) == []

    @needs_fork
    def test_scratch_of_a_killed_process(self, registry: Registry) -> None:
        parent = registry.root / "runs"

        def work() -> None:
            scratch = Scratch(parent)
            (scratch.path / "model").mkdir()
            (scratch.path / "model" / "weights").write_bytes(b"x")

        left = set()
        for event in range(1, 20):
            if not _killed_at(event, work):
                break
            left |= {p.suffix for p in parent.glob("*")}
            registry.clean()
            assert list(parent.glob("*")) == []
        assert left == {"", ".lock"}
