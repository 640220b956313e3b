"""Brightness, contrast and blur as the released code varies them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.camera import CameraDraw, CameraJitter, draw_camera, rephotograph
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from tests.learning import tiny

PIXELS = tiny.tissue(3, 48)[0]
IMAGES = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())[None].float()


def applied(draw: CameraDraw) -> np.ndarray:
    return np.asarray(rephotograph(IMAGES, [draw])[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_as_pillow_does_it(factor: float, first: bool) -> None:
    """Pillow rounds to whole numbers in between, so up to three steps of 255 apart."""
    steps = [(ImageEnhance.Brightness, 1.3), (ImageEnhance.Contrast, factor)]
    picture = Image.fromarray(PIXELS)
    for kind, by in reversed(steps) if first else steps:
        picture = kind(picture).enhance(by)
    ours = applied(CameraDraw(brightness=1.3, contrast=factor, contrast_first=first))
    assert np.abs(ours - np.asarray(picture, float)).max() <= 3


def test_blur_under_a_window_of_three() -> None:
    wanted = ndimage.gaussian_filter(PIXELS.astype(float), (1.5, 1.5, 0), mode="mirror", radius=1)
    np.testing.assert_allclose(applied(CameraDraw(blur=1.5)), wanted, atol=1e-3)


def test_nothing_drawn_changes_nothing() -> None:
    np.testing.assert_array_equal(applied(CameraDraw()), PIXELS)


def test_as_often_and_as_far_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_camera(CameraJitter(), rng) for _ in range(4000)]
    changed = [d for d in draws if d.brightness != 1]
    blurred = [d.blur for d in draws if d.blur]
    assert 0.27 < len(changed) / len(draws) < 0.33
    assert 0.27 < len(blurred) / len(draws) < 0.33
    assert 1 <= min(blurred) < 1.05 < 1.95 < max(blurred) <= 2
    low, high = min(d.contrast for d in changed), max(d.contrast for d in changed)
    assert 0.6 <= low < 0.63 < 1.37 < high <= 1.4


def test_labels_and_order_of_samples_do_not_matter() -> None:
    config = PatchConfig(size=32, stain=None, camera=CameraJitter(chance=1.0, blur=1.0))
    sampler = PatchSampler([tiny.source(1)], config, 0)
    whole, alone = sampler.batch([4, 5]), sampler.batch([5])
    torch.testing.assert_close(whole.images[1:], alone.images)
    plain = PatchSampler([tiny.source(1)], PatchConfig(size=32, stain=None), 0).batch([4, 5])
    assert plain.classes is not None
    assert whole.classes is not None
    torch.testing.assert_close(whole.classes, plain.classes)
    assert not torch.equal(whole.images, plain.images)
    raw = sampler.raw_batch([4, 5]).to(torch.device("cpu"))
    torch.testing.assert_close(raw.images, whole.images)


def test_not_beside_a_varied_stain() -> None:
    with pytest.raises(ConfigError, match=r"patch\.stain"):
        PatchConfig(camera=CameraJitter())
    with pytest.raises(ConfigError, match=r"camera\.chance must be 0..1, got 3"):
        CameraJitter(chance=3)
