"""Whole-slide runs: cut off and gone on with, faults, and what a person said meanwhile."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_genselfdiff
from napari_genselfdiff.annotation import disk
from napari_genselfdiff.annotation.runs import RunFolder, unfinished_runs
from napari_genselfdiff.annotation.store import ACCEPTED, HUMAN, AnnotationStore
from napari_genselfdiff.engine import slide_tasks
from napari_genselfdiff.engine.slide_tasks import work
from napari_genselfdiff.engine.workers import HereWorkers, LocalWorkers, for_many_workers
from napari_genselfdiff.errors import (
    ConfigError,
    GenSelfDiffError,
    ModelFileError,
    SlideError,
    StoreError,
)
from napari_genselfdiff.prediction import plan as plan_module
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import segment_region, to_store_window
from napari_genselfdiff.registry.folder import Model
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from tests.engine.slide_runs import (
    BLOCK,
    PROFILE,
    SIDE,
    Death,
    assert_same,
    canonical,
    die,
    labels,
    whole,
)


@pytest.fixture(scope="module", autouse=True)
def margin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "MARGIN", plan_module.MARGIN)  # put back at the end
        yield


@pytest.fixture(scope="module")
def reference(folder: Path, slide_path: Path, model: Model) -> Path:
    """Annotations of a run that nothing interrupted."""
    done = whole(slide_path, folder / "reference.gsd.zarr", model)
    assert done.tiles == done.computed == 7 * 7
    return folder / "reference.gsd.zarr"


def test_a_run_equals_a_single_pass(reference: Path, slide_path: Path, model: Model) -> None:
    with open_slide(slide_path) as slide:
        single = segment_region(slide, model, Region(0, 0, *SIDE), PROFILE)
        window = to_store_window(single, SIDE, 1)
    stored = labels(reference)
    assert 0.03 < (stored.classes > 0).mean() < 0.9, "the test needs something to compare"
    np.testing.assert_array_equal(stored.classes, window.classes)
    assert window.objects is not None
    np.testing.assert_array_equal(canonical(stored.ids), canonical(window.ids))
    (record,) = reference.glob("runs/*/run.json")
    assert [path.name for path in record.parent.iterdir()] == ["run.json"], "only the record stays"


DEATHS = [
    Death("write_tile", 20),
    Death("write_block", 2),
    Death("take", 1),
    Death("installed", 2),
    Death("drop_tiles", 3),
]


def _killed(slide_path: Path, store: Path, model: Model, death: Death) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=die, args=(slide_path, store, model.path, death))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL


def _tiles_kept(store: Path) -> set[tuple[int, int]]:
    (run,) = unfinished_runs(store)
    names = (path.name for path in (run.path / "tiles").iterdir())
    return {(int(n.split("_")[0]), int(n.split("_")[1])) for n in names if n[0] != "."}


@pytest.mark.parametrize(
    "death",
    [DEATHS[0], *(pytest.param(d, marks=pytest.mark.slow) for d in DEATHS[1:])],
    ids=lambda d: f"{d.where}-{d.times}",
)
def test_after_kill_9_only_the_tiles_in_flight_are_repeated(
    death: Death, slide_path: Path, reference: Path, model: Model, tmp_path: Path
) -> None:
    store = tmp_path / "killed.gsd.zarr"
    _killed(slide_path, store, model, death)
    kept = _tiles_kept(store)
    done = whole(slide_path, store, model)
    assert done.resumed
    if death.where == "write_tile":  # answers that are gone already served a finished block
        assert done.computed == done.tiles - (death.times - 1)
    assert done.computed <= done.tiles - len(kept)
    assert_same(labels(store), labels(reference))
    assert not unfinished_runs(store)


@pytest.mark.slow
def test_a_run_may_be_killed_again_and_again(
    slide_path: Path, reference: Path, model: Model, tmp_path: Path
) -> None:
    store, rng = tmp_path / "killed.gsd.zarr", np.random.default_rng(5)
    places = ("write_tile", "write_block", "take", "installed", "drop_tiles")
    for turn in range(8):
        where = places[turn % len(places)]
        count = int(rng.integers(1, 12)) if where == "write_tile" else 1
        _killed(slide_path, store, model, Death(where, count))  # type: ignore[arg-type]
    whole(slide_path, store, model)
    assert_same(labels(store), labels(reference))


def test_a_paused_run_goes_on(
    slide_path: Path, reference: Path, model: Model, tmp_path: Path
) -> None:
    store = tmp_path / "paused.gsd.zarr"
    shares: list[float] = []
    done = whole(
        slide_path,
        store,
        model,
        show=lambda share, _eta: shares.append(share),
        should_stop=lambda: bool(shares) and shares[-1] > 0.2,
    )
    assert done.paused
    assert 0 < done.computed < done.tiles
    rest = whole(slide_path, store, model)
    assert (rest.resumed, rest.paused) == (True, False)
    assert rest.computed + done.computed == done.tiles
    assert_same(labels(store), labels(reference))


def test_what_a_person_says_meanwhile_stays(
    slide_path: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two blocks a person draws and accepts, also where the run comes later."""
    rng, said = np.random.default_rng(0), np.zeros(SIDE, np.uint8)
    before = np.zeros(SIDE, np.uint8)
    original = AnnotationStore.write_prediction

    def with_a_person(self: AnnotationStore, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        y, x = (int(rng.integers(0, side - 60)) for side in SIDE)
        spot = Region(y, x, 50, 40)
        window = self.read("Nuclei", spot)
        drawn = window.copy()
        drawn.classes[10:30, 10:30], drawn.ids[10:30, 10:30] = 1, 4_000_000_000
        self.write_edit("Nuclei", window, drawn, what="Brush")
        accepted = Region(int(rng.integers(0, 390)), int(rng.integers(0, 360)), 30, 30)
        self.accept("Nuclei", accepted)
        there = self.read("Nuclei", Region(0, 0, *SIDE))
        said[:], before[:] = there.provenance, there.classes
        return result

    monkeypatch.setattr(AnnotationStore, "write_prediction", with_a_person)
    known: list[tuple[np.ndarray, np.ndarray]] = []
    take = RunFolder.take

    def noting(self: RunFolder, *args: Any, **options: Any) -> None:
        known.append((said.copy(), before.copy()))
        take(self, *args, **options)

    monkeypatch.setattr(RunFolder, "take", noting)
    whole(slide_path, tmp_path / "s.gsd.zarr", model)
    monkeypatch.undo()
    end = labels(tmp_path / "s.gsd.zarr")
    assert len(known) == 16
    drawn_on = np.zeros(SIDE, bool)
    for provenance, _ in known:
        assert (end.provenance[provenance >= ACCEPTED] >= ACCEPTED).all()
        drawn_on |= provenance == HUMAN
    provenance, classes = known[-1]
    np.testing.assert_array_equal(end.classes[provenance >= ACCEPTED], classes[provenance >= 2])
    assert drawn_on.sum() > 16 * 100


# -- refusals -------------------------------------------------------------------------------------


def _interrupted(slide_path: Path, store: Path, model: Model) -> None:
    def fail(self: RunFolder, *_: Any) -> None:
        raise StoreError("cut")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "write_block", fail)
        with pytest.raises(StoreError, match="cut"):
            whole(slide_path, store, model)


@pytest.mark.parametrize("other", ["model", "profile", "version"])
def test_an_unfinished_run_of_another_kind_is_not_mixed(
    other: str,
    slide_path: Path,
    model: Model,
    make_tissue: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, profile, used = tmp_path / "s.gsd.zarr", PROFILE, model
    _interrupted(slide_path, store, model)
    if other == "model":
        used = _another_model(model, tmp_path)
    elif other == "profile":
        profile = Profile(threads=1, batch=2)
    else:
        monkeypatch.setattr(napari_genselfdiff, "__version__", "99.0")
    with pytest.raises(ConfigError, match=f"another value of .*{other}.*--fresh"):
        whole(slide_path, store, used, profile=profile)
    assert len(unfinished_runs(store)) == 1, "refusing changes nothing"
    assert whole(slide_path, store, used, profile=profile, fresh=True).resumed is False
    assert not unfinished_runs(store)


def _another_model(model: Model, folder: Path) -> Model:
    from napari_genselfdiff.registry.folder import write_model

    fields = model.card.model_dump(exclude={"weights_sha256", "files", "created", "app_version"})
    return write_model(folder / "other", {**fields, "min_object_um2": 3.0}, model.load())


def test_another_threshold_is_a_run_of_its_own_only_when_fresh(
    slide_path: Path, model: Model, tmp_path: Path
) -> None:
    """An unfinished run keeps the tissue it was begun with."""
    store = tmp_path / "s.gsd.zarr"
    _interrupted(slide_path, store, model)
    (run,) = unfinished_runs(store)
    assert run.manifest().threshold is None
    assert whole(slide_path, store, model).resumed


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_slide_that_changes_or_vanishes_midway(
    how: str, slide_path: Path, reference: Path, model: Model, tmp_path: Path
) -> None:
    path = Path(shutil.copy(slide_path, tmp_path / "slide.tif"))
    store = tmp_path / "s.gsd.zarr"
    original = path.read_bytes()

    def tamper(share: float, _eta: float | None) -> None:
        if share > 0.3:
            if how == "gone":
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(original + b"more")

    with pytest.raises(SlideError, match=r"has changed since|is gone"):
        whole(path, store, model, show=tamper)
    path.write_bytes(original)
    rest = whole(path, store, model)
    assert rest.resumed
    assert_same(labels(store), labels(reference))


@pytest.mark.parametrize("where", ["tiles", "blocks", "taken", "journal"])
def test_a_full_disk_is_said_and_loses_nothing(
    where: str,
    slide_path: Path,
    reference: Path,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, write, left = tmp_path / "s.gsd.zarr", disk.write_file, [3]

    def full(path: Path, data: bytes) -> None:
        if where in path.parts:
            left[0] -= 1
            if left[0] < 0:
                write(path, data[:7])
                raise OSError(errno.ENOSPC, "no space")
        write(path, data)

    from napari_genselfdiff.annotation import journal

    monkeypatch.setattr(disk, "write_file", full)
    monkeypatch.setattr(journal, "write_file", full)
    with pytest.raises(StoreError, match="the disk is full; free some space"):
        whole(slide_path, store, model)
    monkeypatch.undo()
    assert whole(slide_path, store, model).resumed
    assert_same(labels(store), labels(reference))


def test_a_damaged_block_is_computed_again(
    slide_path: Path, reference: Path, model: Model, tmp_path: Path, monkeypatch: Any
) -> None:
    store, read = tmp_path / "s.gsd.zarr", RunFolder.read_block
    damaged: list[int] = []

    def torn(self: RunFolder, number: int) -> Any:
        if number == 2 and not damaged:
            damaged.append(number)
            path = self.path / "blocks" / "2"
            path.write_bytes(path.read_bytes()[:-5])
        return read(self, number)

    monkeypatch.setattr(RunFolder, "read_block", torn)
    whole(slide_path, store, model)
    assert damaged
    assert_same(labels(store), labels(reference))


def test_a_damaged_manifest_says_what_to_do(slide_path: Path, model: Model, tmp_path: Path) -> None:
    store = tmp_path / "s.gsd.zarr"
    _interrupted(slide_path, store, model)
    (run,) = unfinished_runs(store)
    (run.path / "manifest.json").write_text('{"tiles": 3}')
    with pytest.raises(GenSelfDiffError, match=r"is damaged \(manifest.json.*--fresh"):
        whole(slide_path, store, model)
    whole(slide_path, store, model, fresh=True)
    assert not unfinished_runs(store)


# -- workers --------------------------------------------------------------------------------------


def test_a_worker_of_another_version_says_so() -> None:
    with pytest.raises(ConfigError, match="but the run was begun with 7; install that version"):
        work({"version": "7"})


def test_a_worker_without_model_folder_or_slide_says_so(
    slide_path: Path, model: Model, tmp_path: Path
) -> None:
    spec: dict[str, Any] = {
        "version": napari_genselfdiff.__version__,
        "run": str(tmp_path / "run"),
        "slide": str(slide_path),
        "slide_hash": "0" * 64,
        "mpp": None,
        "colors": "stored",
        "model": str(model.path),
        "model_hash": model.hash,
        "profile": PROFILE.to_dict(),
        "region": [0, 0, *SIDE],
        "store_downsample": 1,
        "places": [],
        "what": "predict",
    }
    with pytest.raises(ConfigError, match="does not see the folder"):
        work(spec)
    (tmp_path / "run").mkdir()
    with pytest.raises(ModelFileError, match="does not have the model"):
        work({**spec, "model": str(tmp_path / "nowhere")})
    with pytest.raises(ModelFileError, match="is another one"):
        work({**spec, "model_hash": "1" * 64})
    with pytest.raises(SlideError, match="has changed since the run began"):
        work(spec)
    slide_tasks.forget()


class Dying(HereWorkers):
    """Workers of which every third dies, as a broken pool says it."""

    def __init__(self, always: bool = False) -> None:
        super().__init__()
        self.count, self.always = 0, always

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        from concurrent.futures.process import BrokenProcessPool

        self.count += 1
        if self.always or self.count % 3 == 0:
            broken: Future[Any] = Future()
            broken.set_exception(BrokenProcessPool("a child process terminated abruptly"))
            return broken
        return super().submit(task, *arguments)

    def revived(self, _error: BaseException) -> bool:
        return True


def test_workers_may_die(slide_path: Path, reference: Path, model: Model, tmp_path: Path) -> None:
    store = tmp_path / "s.gsd.zarr"
    whole(slide_path, store, model, lambda _: Dying())
    assert_same(labels(store), labels(reference))


def test_a_task_that_kills_every_worker_ends_the_run(
    slide_path: Path, model: Model, tmp_path: Path
) -> None:
    with pytest.raises(GenSelfDiffError, match="workers died 3 times over the same part"):
        whole(slide_path, tmp_path / "s.gsd.zarr", model, lambda _: Dying(always=True))


@pytest.mark.slow
def test_processes_give_the_same_and_may_be_killed(
    slide_path: Path, reference: Path, model: Model, tmp_path: Path
) -> None:
    store, made = tmp_path / "s.gsd.zarr", LocalWorkers(2)
    killed: list[int] = []

    def kill_one(share: float, _eta: float | None) -> None:
        if share > 0.1 and not killed and made.pids:
            killed.append(made.pids[0])
            os.kill(killed[0], signal.SIGKILL)

    done = whole(slide_path, store, model, lambda _: made, show=kill_one)
    assert killed
    assert done.objects > 0
    assert_same(labels(store), labels(reference))


def _own_a_pool(sender: Any) -> None:
    made = LocalWorkers(1)
    made.submit(os.getpid).result()
    sender.send(made.pids)
    time.sleep(600)


@pytest.mark.slow
def test_workers_end_with_their_owner_however_it_ends() -> None:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    owner = context.Process(target=_own_a_pool, args=(sender,))
    owner.start()
    (worker,) = receiver.recv()
    owner.kill()
    owner.join()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


def test_cores_are_shared_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_genselfdiff.engine import workers

    monkeypatch.setattr(workers, "available_cores", lambda: 8)
    assert for_many_workers(Profile(threads=8), None) == (Profile(threads=1), 8)
    assert for_many_workers(Profile(threads=8), 2) == (Profile(threads=4), 2)
    gpu = Profile(device="cuda", precision="bf16", batch=16)
    assert for_many_workers(gpu, None) == (gpu, 4)
    with pytest.raises(ConfigError, match="at least 1"):
        for_many_workers(gpu, 0)


def test_objects_cross_the_borders_of_blocks(reference: Path) -> None:
    """Else the comparisons above would say nothing about borders."""
    ids = labels(reference).ids
    for border in range(BLOCK, SIDE[0], BLOCK):
        both = (ids[border - 1] == ids[border]) & (ids[border] > 0)
        assert len(np.unique(ids[border][both])) >= 2
