"""Fine-tuning with a denoising companion: it teaches the U-Net and leaves nothing behind."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from skimage.io import imsave

from napari_genselfdiff.backbone.heads import Denoiser, Segmenter, build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.backbone.weights import read_state, read_weights, write_weights
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.companion import (
    Accompanied,
    AccompaniedSegmenter,
    CompanionConfig,
    without_companion,
)
from napari_genselfdiff.learning.data import Batch, PatchConfig, PatchSampler
from napari_genselfdiff.learning.finetune import finetune, start
from napari_genselfdiff.learning.finish import finish_backbone
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.recipe import FinetuneRecipe, PretrainRecipe
from tests.backbone.networks import TINY
from tests.learning import tiny


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for seed in range(2):
        image, ids = tiny.tissue(seed)
        imsave(tmp_path / "data" / "images" / f"{seed}.png", image, check_contrast=False)
        imsave(
            tmp_path / "data" / "masks" / f"{seed}.png", ids.astype("uint16"), check_contrast=False
        )
    return tmp_path / "data"


def recipe(root: Path, **changes: Any) -> FinetuneRecipe:
    settings = {
        "name": "small",
        "preset": "tiny",
        "start": "scratch",
        "task": tiny.NUCLEI.model_dump(),
        "data": {"root": str(root), "sets": [{"folder": ".", "mpp": 0.25}]},
        "patch": {"size": 32, "skip_glass": False},
        "loop": {"total_images": 8, "batch": 4, "warmup_images": 0},
        "companion": {"weight": 0.5},
    }
    return FinetuneRecipe.model_validate(settings | changes)


def batch(count: int = 2) -> Batch:
    return PatchSampler([tiny.source(1)], PatchConfig(size=32), 0).batch(range(count))


def test_what_is_saved_is_a_segmenter_and_nothing_else(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    reports = list(finetune(recipe(root), out))
    assert reports[-1].metrics["companion"] > 0
    read_weights(out / "weights.safetensors", build_segmenter(TINY, 1, 0))
    with (out / "log.csv").open() as file:
        assert "companion" in next(csv.reader(file))


def test_it_is_off_unless_asked_for(root: Path) -> None:
    model, objective = start(recipe(root, companion=None))
    assert isinstance(model, Segmenter)
    assert isinstance(objective, Segmentation)
    assert without_companion(model) is model


def test_loss_is_the_sum_of_both() -> None:
    torch.manual_seed(0)
    model = AccompaniedSegmenter(Segmenter(TINY, 1, 50))
    pretext = CompanionConfig().build(3)
    task = Segmentation()
    loss, parts = Accompanied(task, pretext, 0.25)(model, batch())

    denoiser = Denoiser(TINY)
    denoiser.unet, denoiser.head = model.segmenter.unet, model.noise_head
    alone, _ = task(model.segmenter, batch())
    mended, _ = pretext(denoiser, batch())
    torch.testing.assert_close(loss, alone + 0.25 * mended)
    torch.testing.assert_close(parts["companion"], 0.25 * mended.detach())
    loss.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_noise_head_goes_on_from_the_backbones(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    backbone = Denoiser(TINY)
    folder = tmp_path / "backbone"
    folder.mkdir()
    write_weights(folder / "weights.safetensors", backbone)
    model, _ = start(recipe(root, start=str(folder)))
    assert isinstance(model, AccompaniedSegmenter)
    stored = read_state(folder / "weights.safetensors")
    for name, value in model.noise_head.state_dict().items():
        assert torch.equal(value, stored[f"head.{name}"])
    for name, value in model.segmenter.unet.state_dict().items():
        assert torch.equal(value, stored[f"unet.{name}"])


@pytest.mark.parametrize(
    ("learned", "companion", "says"),
    [
        ({"prediction": "v"}, {}, "companion.prediction=v"),
        ({"pretext": "masked"}, {}, "companion.pretext=masked"),
        ({}, {"pretext": "masked"}, "companion.pretext=noise"),
    ],
)
def test_a_backbone_that_learned_another_pretext_is_refused(
    root: Path, tmp_path: Path, learned: dict[str, Any], companion: dict[str, Any], says: str
) -> None:
    folder = tmp_path / "backbone"
    folder.mkdir()
    write_weights(folder / "weights.safetensors", Denoiser(TINY))
    loop = {"total_images": 8}
    settings = {"name": "b", "preset": "tiny", "data": {}, "loop": loop, **learned}
    finish_backbone(PretrainRecipe.model_validate(settings), folder)
    with pytest.raises(ConfigError, match=says):
        start(recipe(root, start=str(folder), companion=companion))
    matching = {"companion": {**learned, "weight": 0.5}}
    start(recipe(root, start=str(folder), **matching))


def test_the_range_of_the_released_fine_tuning_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"mends images in \[-1, 1\], got .*'unit'"):
        recipe(root, patch={"size": 32, "input_range": "unit"})


def test_a_weight_of_nothing_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        recipe(root, companion={"weight": 0})
