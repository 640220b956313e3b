"""What keeps a refine from forgetting: drawn tissue to practise on, and an anchor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser, Segmenter
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.anchor import Anchored
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from napari_genselfdiff.learning.generated import generated_images, labelled
from napari_genselfdiff.learning.lesson import practice_tiles
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.scoring import classify
from napari_genselfdiff.registry.folder import Backbone, read_model, write_backbone
from tests.backbone.networks import TINY
from tests.learning import tiny


def backbone(path: Path, schedule: str = "quadratic") -> Backbone:
    torch.manual_seed(0)
    fields = {
        "schedule": schedule,
        "timesteps": 100,
        "prediction": "epsilon",
        "mpp_range": (0.25, 0.5),
        "images_seen": 0,
    }
    return write_backbone(path, fields, Denoiser(TINY))


class TestGenerated:
    def test_the_same_seed_draws_the_same_tissue(self, tmp_path: Path) -> None:
        start = backbone(tmp_path / "b")
        images = generated_images(start, 5, 32)
        assert images.shape == (5, 32, 32, 3)
        assert images.dtype == np.uint8
        assert len({image.tobytes() for image in images}) == 5
        assert np.array_equal(images, generated_images(start, 5, 32))
        assert not np.array_equal(images, generated_images(start, 5, 32, seed=1))

    def test_the_model_is_believed_and_everything_is_known(self, base: Path) -> None:
        model = read_model(base)
        images = np.stack([tiny.tile(seed).image for seed in (1, 2)])
        for tile, image in zip(labelled(images, model), images, strict=True):
            assert np.array_equal(tile.classes > 0, classify(model.load(), image) > 0)
            assert tile.objects is not None
            assert np.array_equal(tile.objects > 0, tile.classes > 0)
            assert tile.known.all()
            assert 0.25 < tile.mpp < 0.5

    def test_a_backbone_that_fills_in_cannot_draw(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="not to draw"):
            generated_images(backbone(tmp_path / "b", "masked"), 1, 32)


def test_practising_on_nothing_and_on_what_is_stored(base: Path) -> None:
    model = read_model(base)
    assert practice_tiles(model, "none") == []
    assert [tile.source for tile in practice_tiles(model, "stored")] == ["test:92", "test:93"]


def test_an_anchor_pulls_straight_back() -> None:
    torch.manual_seed(0)
    model = Segmenter(TINY, 1, 50)
    start = [weight.detach().clone() for weight in model.parameters()]
    batch = PatchSampler([tiny.source(1)], PatchConfig(size=32), 0).batch(range(2))
    plain, _ = Segmentation()(model, batch)
    pulled, parts = Anchored(Segmentation(), start, 0.5)(model, batch)
    torch.testing.assert_close(pulled, plain)  # nothing has moved yet
    assert parts["moved"].tolist() == [0.0, 0.0]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    n_weights = sum(weight.numel() for weight in start)
    plain, _ = Segmentation()(model, batch)
    pulled, _ = Anchored(Segmentation(), start, 0.5)(model, batch)
    torch.testing.assert_close(
        pulled - plain, torch.full((2,), 0.5 * 1e-4 * n_weights), rtol=1e-3, atol=0
    )
    gradients = [
        torch.autograd.grad(loss.mean(), list(model.parameters()), allow_unused=True)
        for loss in (Anchored(Segmentation(), start, 0.5)(model, batch)[0], plain)
    ]
    for with_anchor, without in zip(*gradients, strict=True):
        assert with_anchor is not None
        expected = 2 * 0.5 * 0.01 + (0 if without is None else without)
        torch.testing.assert_close(
            with_anchor, torch.zeros_like(with_anchor) + expected, rtol=1e-3, atol=1e-4
        )
