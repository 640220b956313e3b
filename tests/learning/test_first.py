"""The first model of a task: from a backbone and a few tiles, judged against no learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.first import FIRST, smallest_object_um2, write_untrained
from napari_genselfdiff.learning.gate import best_constant, count_blocks, judge_first
from napari_genselfdiff.learning.refine import RefineRequest, RefineResult, refine
from napari_genselfdiff.learning.scoring import classify
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.folder import Model, read_backbone, read_model, write_backbone
from tests.backbone.networks import TINY
from tests.learning import tiny

CONFIG = replace(FIRST, patch=64, lr=3e-3, most_steps=120, fewest_steps=120, budget_s=200.0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    fields = {
        "schedule": "quadratic",
        "timesteps": 1000,
        "prediction": "epsilon",
        "mpp_range": (0.25, 0.5),
        "images_seen": 0,
    }
    return write_backbone(tmp_path_factory.mktemp("b") / "backbone", fields, Denoiser(TINY)).path


@pytest.fixture
def untrained(backbone: Path, tmp_path: Path) -> Model:
    return write_untrained(tmp_path / "start", tiny.NUCLEI, backbone)


def test_it_begins_with_the_backbones_weights(untrained: Model, backbone: Path) -> None:
    ours, theirs = untrained.load().unet.state_dict(), read_backbone(backbone).load().unet
    for name, values in theirs.state_dict().items():
        assert torch.equal(ours[name], values), name


def test_a_few_tiles_make_a_model(untrained: Model, tmp_path: Path, backbone: Path) -> None:
    tiles = [tiny.tile(seed) for seed in (1, 2, 3)]
    request = RefineRequest(
        untrained.path, untrained.path, tiles, tmp_path / "out", "nuclei", CONFIG
    )
    *_, result = refine(request, Profile())
    assert isinstance(result, RefineResult)
    assert result.verdict.decision == "better", result.verdict.sentence
    assert result.verdict.sentence.startswith("A first model")
    assert not result.picture.before.any()
    model = read_model(result.model)
    answer, truth = classify(model.load(), tiny.tile(50).image) > 0, tiny.tile(50).classes > 0
    assert 2 * (answer & truth).sum() / (answer.sum() + truth.sum()) > 0.7
    assert model.card.parent is None
    assert model.card.recipe["base"] == read_backbone(backbone).hash
    assert 0 < model.card.min_object_um2 < 10


def test_background_alone_teaches_no_task(untrained: Model, tmp_path: Path) -> None:
    nothing = replace(tiny.tile(1), classes=np.zeros((128, 128), np.uint8), objects=None)
    request = RefineRequest(
        untrained.path, untrained.path, [nothing], tmp_path / "out", "nuclei", CONFIG
    )
    with pytest.raises(ConfigError, match="draw a few"):
        list(refine(request, Profile()))
    assert not (tmp_path / "out").exists()


def test_answering_the_same_everywhere_is_not_useful() -> None:
    """Worked by hand: 1/4 of the pixels are class 2, none is class 1; all-2 has Dice 0.4."""
    truth = np.zeros((128, 256), np.int64)
    truth[:, :64] = 2
    scored = np.ones(truth.shape, bool)
    constant = count_blocks(best_constant([truth], [scored])[0], truth, scored, 2)
    assert constant.mean_dice() == pytest.approx(0.4)
    verdict = judge_first(constant, constant, ["a", "b"])
    assert verdict.decision == "not_better"
    assert "0.40" in verdict.sentence
    right = count_blocks(truth, truth, scored, 2)
    assert judge_first(constant, right, ["a", "b"]).decision == "better"


def test_objects_far_smaller_than_those_drawn_are_none() -> None:
    ids = np.zeros((128, 128), np.uint32)
    ids[:10, :10], ids[20:40, 20:40], ids[50:60, 50:60] = 1, 2, 3  # 100, 400 and 100 pixels
    tile = replace(tiny.tile(1), objects=ids)
    assert smallest_object_um2([tile]) == pytest.approx(0.25 * 100 * 0.25**2)
    assert smallest_object_um2([replace(tile, objects=None)]) == 0.0
