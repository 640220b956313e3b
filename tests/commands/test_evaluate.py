"""``genselfdiff evaluate``: the report other programs read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_genselfdiff.registry.folder import Model
from tests.commands.conftest import Run

INSTANCE_METRICS = {"dice", "iou", "aji", "pq", "dq", "sq", "f1", "object_dice", "hausdorff"}


@pytest.fixture
def folders(crops_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return folders of two real crops and their instance masks."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in ("tnbc_01_1", "tnbc_03_2"):
            shutil.copy(crops_dir / kind / f"{name}.png", tmp_path / kind)
    return tmp_path / "images", tmp_path / "masks"


def test_report_has_every_metric_with_its_interval(
    run: Run, folders: tuple[Path, Path], model: Model, speed: Any, tmp_path: Path
) -> None:
    images, masks = folders
    out, labels = tmp_path / "report.json", tmp_path / "labels"
    run(
        *("evaluate", "--model", "default", "--images", images, "--masks", masks, "--mpp", 0.25),
        *("--predictions", labels, "--pictures", tmp_path / "drawn", "--out", out, *speed),
    )
    report = json.loads(out.read_text())
    assert (report["schema"], report["model"], report["mpp"], report["n"]) == (
        1,
        model.card.name,
        0.25,
        2,
    )
    assert set(report["mean"]) >= INSTANCE_METRICS
    assert all(set(row) == {"value", "low", "high"} for row in report["mean"].values())
    assert [row["image"] for row in report["images"]] == ["tnbc_01_1", "tnbc_03_2"]
    found = np.asarray(Image.open(labels / "tnbc_01_1.png"))
    truth = np.asarray(Image.open(masks / "tnbc_01_1.png"))
    assert found.shape == truth.shape
    overlap = 2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum())
    assert report["images"][0]["dice"] == pytest.approx(overlap)
    ranked = sorted(report["images"], key=lambda row: row["dice"])
    worst, best = ranked[0]["image"], ranked[1]["image"]
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {
        f"worst-{worst}.png",
        f"median-{best}.png",
        f"best-{best}.png",
    }


def test_eight_bit_masks_are_classes(
    run: Run, folders: tuple[Path, Path], speed: Any, tmp_path: Path
) -> None:
    images, masks = folders
    for path in masks.iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    out = tmp_path / "report.json"
    result = run("evaluate", "--images", images, "--masks", masks, "--out", out, *speed)
    assert "taken to have 0.25 µm per pixel" in result.stderr
    assert {"dice", "iou"} <= set(json.loads(out.read_text())["mean"])
    assert "aji" not in json.loads(out.read_text())["mean"]


def test_image_without_a_mask_is_named(
    run: Run, folders: tuple[Path, Path], speed: Any, tmp_path: Path
) -> None:
    images, masks = folders
    (masks / "tnbc_03_2.png").unlink()
    out = tmp_path / "report.json"
    arguments = ("evaluate", "--images", images, "--masks", masks, "--out", out)
    assert "tnbc_03_2" in run(*arguments, *speed, code=1).stderr
    assert not out.exists()


def test_masks_are_required(run: Run, tmp_path: Path) -> None:
    run("evaluate", "--images", tmp_path, "--out", tmp_path / "r.json", code=2)
