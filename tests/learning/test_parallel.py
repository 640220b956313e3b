"""Several processes, or several micro-batches, take the same step as one of each."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_genselfdiff.learning.checkpoint import load_tensors
from napari_genselfdiff.learning.logs import read_log
from napari_genselfdiff.learning.shares import Shares
from tests.learning import shared_run
from tests.learning.shared_run import one_step

ROOT = Path(__file__).parents[2]


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / one.norm())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """What two gloo processes found."""
    folder = tmp_path_factory.mktemp("two")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.learning.shared_run"])
    children = [context.Process(target=shared_run.main, args=(rank, folder)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0, 0]
    return [load_tensors(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch", [7, 1])
def test_two_processes_give_the_gradient_of_one(
    two: list[dict[str, torch.Tensor]], batch: int, reduction: str
) -> None:
    alone, report, weights = one_step(batch, reduction=reduction)
    name = f"{batch} {reduction}"
    for found in two:
        assert found[name].dtype == torch.float64
        assert relative(alone, found[name]) <= 1e-6
        assert float(found[f"{name} loss"]) == pytest.approx(report.loss, rel=1e-9)
        assert relative(weights, found[f"{name} weights"]) <= 1e-6
    assert torch.equal(two[0][f"{name} weights"], two[1][f"{name} weights"])


def test_sum_is_the_mean_times_the_batch() -> None:
    mean, report, _ = one_step(7)
    total, same, _ = one_step(7, reduction="sum")
    assert relative(7 * mean, total) <= 1e-9
    assert same.loss == pytest.approx(report.loss)


@pytest.mark.parametrize("micro", [1, 3, 7, 20])
def test_micro_batches_give_the_gradient_of_the_batch(micro: int) -> None:
    whole, report, _ = one_step(7)
    split, same, _ = one_step(7, micro_batch=micro)
    assert relative(whole, split) <= 1e-6
    assert same.loss == pytest.approx(report.loss, rel=1e-9)


def test_processes_stop_together_by_the_first_ones_clock(
    two: list[dict[str, torch.Tensor]],
) -> None:
    assert [found["agreed"].tolist() for found in two] == [[1.0, 0.25]] * 2


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_every_sample_is_taken_once_in_order(world: int, count: int) -> None:
    parts = [Shares(rank, world).part(range(5, 5 + count)) for rank in range(world)]
    assert [index for part in parts for index in part] == list(range(5, 5 + count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


RECIPE = """
name = "small"
[patch]
size = 32
skip_glass = false
[loop]
total_images = 10
batch = 4
[snapshots]
every_images = 4
tiles = 0
[data]
root = "{root}"
folders = ["images"]
"""


@pytest.mark.slow
def test_torchrun_gives_the_run_of_one_process(tmp_path: Path, crops_dir: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(root=crops_dir))
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
    started = {"one": [sys.executable], "two": [*run, "2"]}
    outputs = {}
    for name, start in started.items():
        command = [*start, "-m", "training.pretrain", str(recipe), "--out", str(tmp_path / name)]
        done = subprocess.run(
            [*command, "--device", "cpu"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs[name] = done.stdout
    one, two = (read_log(tmp_path / name / "log.csv") for name in started)
    assert one["images_seen"] == two["images_seen"] == [4, 8, 10]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert outputs["two"].count("genselfdiff finetune") == 1  # one process speaks
    files = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in started]
    assert files[0] == files[1]
