from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_genselfdiff.backbone.heads import Denoiser, Segmenter
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.learning import snapshot
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.logs import CsvLog, open_logs, read_log
from napari_genselfdiff.learning.loop import Report
from napari_genselfdiff.learning.objectives import Denoising
from tests.backbone.networks import TINY
from tests.learning.killable import pictures


def report(seen: int, **metrics: float) -> Report:
    return Report(seen, 10**8, 0.5 + seen / 1e9, metrics, 10.0, 1.0, 0.5, 1e-4, 2.0)


def write(path: Path, seen: range, after: int = 0) -> None:
    log = CsvLog(path, after)
    for number in seen:
        log.write(report(number, mse=1.0))
    log.close()


def test_going_on_leaves_no_line_twice_and_none_out(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write(path, range(4, 44, 4))
    with path.open("a") as file:
        file.write("44,0.5,1")  # a line cut short by the end of the process
    write(path, range(28, 60, 4), after=24)
    assert read_log(path)["images_seen"] == list(range(4, 60, 4))
    assert set(read_log(path)) == {
        "images_seen", "loss", "mse", "lr", "gradient_norm", "images_per_s",
    }  # fmt: skip


def test_numbers_of_images_are_written_in_full(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", range(12_345_678, 12_345_679))
    assert (tmp_path / "log.csv").read_text().splitlines()[1].startswith("12345678,")


def test_a_log_with_other_columns_goes_on_with_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("images_seen,loss,old\n4,0.5,1\n")
    write(path, range(8, 12, 4), after=4)
    assert path.read_text().splitlines()[-1] == "8,0.5,"


def test_missing_tensorboard_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    (only,) = open_logs(tmp_path, 0, tensorboard=True)
    only.close()
    (record,) = caplog.records
    assert "napari-genselfdiff[tensorboard]" in record.getMessage()


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    logs = open_logs(tmp_path, 0, tensorboard=True)
    for log in logs:
        log.write(report(8, mse=1.0))
        log.flush()
        log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"gradient_norm" in events.read_bytes()


def test_progress_shows_the_loss_and_every_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    write(tmp_path / "log.csv", range(4, 400, 4))
    pretext = Denoising(NoiseSchedule(NoiseConfig(timesteps=20)))
    indices = range(3)
    rows = snapshot.mending_rows(
        Denoiser(TINY), pretext, pictures(indices).images, indices, timesteps=20,
        words=("noised", "denoised"),
    )  # fmt: skip
    labels = [row.label for row in rows]
    assert labels[:4] == ["made from pure noise", "real tissue", "noised, t = 2 of 20", "denoised"]
    assert len(rows) == 2 + 2 * len(snapshot.SHARES)
    path = tmp_path / "progress.png"
    snapshot.write_progress(path, "a title", tmp_path / "log.csv", rows)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    curve = (pixels == snapshot._LINE).all(axis=2)
    assert curve.any(axis=0).sum() > 300  # from left to right
    noised, real = (rows[i].images for i in (6, 1))
    assert float((noised - real).std()) > float((rows[2].images - real).std()) > 0


def test_segmentation_shows_truth_and_answer(tmp_path: Path) -> None:
    classes = torch.zeros(2, 16, 16, dtype=torch.long)
    classes[:, 4:8] = 1
    batch = pictures(range(2))._replace(classes=classes)
    rows = snapshot.segmentation_rows(Segmenter(TINY, 1, 0), batch)
    assert [row.label for row in rows] == ["image", "truth", "answer"]
    assert torch.equal(rows[1].images[:, :, 4:8], batch.images[:, :, 4:8])
    assert not torch.equal(rows[1].images, batch.images)
    snapshot.write_progress(tmp_path / "p.png", "no log yet", tmp_path / "log.csv", rows)
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.height > 3 * 128


def test_unlabelled_patches_have_no_truth_row() -> None:
    batch: Batch = pictures(range(2))
    rows = snapshot.segmentation_rows(Segmenter(TINY, 1, 0), batch)
    assert [row.label for row in rows] == ["image", "answer"]
