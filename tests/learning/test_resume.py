"""A run that is killed and resumed ends with the weights and the log of one that was not."""

from __future__ import annotations

import csv
import multiprocessing
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_genselfdiff.errors import ConfigError, ModelFileError, StoreError, TrainingError
from napari_genselfdiff.learning import checkpoint
from napari_genselfdiff.learning.checkpoint import Stateful, load_checkpoint, save_checkpoint
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.run import Clock, RunOptions
from napari_genselfdiff.registry.folder import WEIGHTS_FILE
from tests.backbone.networks import TINY
from tests.learning import killable
from tests.learning.killable import BATCH, EVERY, LOOP, TOTAL, Death, Recipe, learn


class _Kept:
    """Takes the state of a part of a checkpoint as it is."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The children's number of threads, with which results are equal bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def state_of(run: Path) -> dict[str, torch.Tensor]:
    parts = {name: _Kept() for name in ("model", "optimizer", "ema")}
    values = load_checkpoint(run / "checkpoint.pt", dict[str, Stateful](parts))
    found = {f"{name}.{k}": v for name in ("model", "ema") for k, v in parts[name].state.items()}
    for number, moments in parts["optimizer"].state["state"].items():
        found |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
    found["images_seen"] = values["images_seen"]
    return {k: torch.as_tensor(v) for k, v in found.items()}


def log_of(run: Path) -> list[tuple[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return [(row["images_seen"], row["loss"]) for row in csv.DictReader(file)]


def in_a_child(out: Path, *, resume: bool, death: Death | None = None) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.learning.killable"])
    child = context.Process(target=killable.learn_with_one_thread, args=(out, resume, death))
    child.start()
    child.join(300)
    assert child.exitcode == (0 if death is None else -signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    in_a_child(out, resume=False)
    assert [int(seen) for seen, _ in log_of(out)] == list(range(BATCH, TOTAL + 1, BATCH))
    return out


def assert_equal_runs(run: Path, whole: Path) -> None:
    ours, theirs = state_of(run), state_of(whole)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert (run / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()
    assert log_of(run) == log_of(whole)


def test_killed_twice_and_resumed_equals_uninterrupted(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    in_a_child(run, resume=False, death=Death(20, "step"))
    assert len(log_of(run)) == 5  # beyond the checkpoint at 12 images
    in_a_child(run, resume=True, death=Death(36, "writing"))
    in_a_child(run, resume=True)
    assert_equal_runs(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_anywhere_and_resumed_equals_uninterrupted(
    whole: Path, tmp_path: Path, seed: int
) -> None:
    rng, run = random.Random(seed), tmp_path / "run"
    where = rng.choice(["step", "step", "writing", "renaming"])
    # the first save has no earlier file to rename
    first = 2 * EVERY if where == "renaming" else BATCH
    at = rng.randrange(first, TOTAL + 1 - (BATCH if where == "step" else 0), BATCH)
    in_a_child(run, resume=False, death=Death(at, where))  # type: ignore[arg-type]
    in_a_child(run, resume=True)
    assert_equal_runs(run, whole)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_checkpoint_gives_way_to_the_one_before(
    whole: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    newest = run / "checkpoint.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        newest.unlink()
    else:
        newest.write_bytes(data if damage == "flipped" else data[: len(data) // 3])
    learn(run, resume=True)
    assert "the checkpoint before it" in caplog.text
    assert_equal_runs(run, whole)


def test_two_damaged_checkpoints_are_refused(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (run / name).write_bytes(b"nothing of ours")
    with pytest.raises(ModelFileError, match="cannot be read"):
        learn(run, resume=True)


def test_full_disk_stops_and_loses_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    write = checkpoint.write_file  # type: ignore[attr-defined]
    written: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        if written:
            write(path, data[:100])
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_file", full)
        with pytest.raises(StoreError, match=r"disk is full.*free some space") as error:
            learn(run)
    assert "--resume" in str(error.value)
    assert int(state_of(run)["images_seen"]) == EVERY
    assert not list(run.glob("*.partial")) + list(run.glob(".*.partial"))
    learn(run, resume=True)
    assert_equal_runs(run, whole)


def test_resuming_what_has_ended_changes_nothing(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert learn(run, resume=True) == []
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_other_network_is_refused(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(ConfigError, match="another network"):
        learn(run, resume=True, network=replace(TINY, dims=(16, 16)))


def test_changed_recipe_is_refused_by_name(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    changed = Recipe(loop=replace(LOOP, lr=2e-3, batch=8))
    with pytest.raises(ConfigError, match=r"loop\.batch, loop\.lr"):
        learn(run, resume=True, recipe=changed)
    with pytest.raises(ConfigError, match="--resume or another --out"):
        learn(run)


def test_recipe_without_a_later_setting_can_go_on(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    stored = run / "recipe.json"
    text = stored.read_text()
    assert '"divergence": 4.0,' in text
    stored.write_text(text.replace('"divergence": 4.0,', ""))
    assert learn(run, resume=True) == []


def test_nan_keeps_the_weights_before_it_and_names_the_image(tmp_path: Path) -> None:
    def spoiled(indices: Any) -> Batch:
        batch = killable.pictures(indices)
        return batch._replace(images=batch.images * float("nan")) if indices[0] >= 20 else batch

    with pytest.raises(TrainingError, match="at image 20"):
        learn(tmp_path, make_batch=spoiled)
    assert int(state_of(tmp_path)["images_seen"]) == EVERY
    assert len(log_of(tmp_path)) == 5


def test_time_budget_counts_all_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(Clock, "seconds", property(lambda clock: clock.before_s + next(ticks)))
    long = Recipe(loop=replace(LOOP, total_images=10**6))
    first = learn(tmp_path, recipe=long, options=RunOptions(budget_s=40))
    assert 20 < first[-1].images_seen < 10**3
    assert first[-1].done > 0.9
    # the schedule has followed the clock down
    assert first[-1].lr < 0.1 * max(report.lr for report in first)
    assert (tmp_path / WEIGHTS_FILE).exists()
    ticks = iter(range(10**6))
    assert not learn(tmp_path, resume=True, recipe=long, options=RunOptions(budget_s=40))
    more = learn(tmp_path, resume=True, recipe=long, options=RunOptions(budget_s=60))
    assert more[0].images_seen == first[-1].images_seen + BATCH


def test_stopped_run_goes_on_where_it_was(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answers = iter([False] * 5)
    reports = learn(run, options=RunOptions(should_stop=lambda: next(answers, True)))
    assert reports[-1].images_seen == 20
    learn(run, resume=True)
    assert_equal_runs(run, whole)


def test_old_file_survives_a_checkpoint_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {}, images_seen=1)
    save_checkpoint(path, {}, images_seen=2)

    def broken(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint, "flush_file", broken)
    with pytest.raises(OSError, match="Input/output"):
        save_checkpoint(path, {}, images_seen=3)
    assert load_checkpoint(path, {})["images_seen"] == 2
    assert load_checkpoint(checkpoint.previous(path), {})["images_seen"] == 1
