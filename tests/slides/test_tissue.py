"""Tissue or glass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.tissue import tissue_mask

RGB = NDArray[np.uint8]


def glass(height: int, width: int, level: float = 243) -> RGB:
    noise = np.random.default_rng(0).normal(level, 2.5, (height, width, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def test_tissue_on_glass(make_tissue: Callable[..., tuple[RGB, Any]]) -> None:
    image = glass(300, 400)
    image[50:250, 100:330] = make_tissue(200, 230, seed=2)[0]
    truth = np.zeros((300, 400), bool)
    truth[50:250, 100:330] = True
    mask = tissue_mask(image)
    assert mask.dtype == np.bool_
    assert (mask & truth).sum() / truth.sum() > 0.98
    assert (mask & ~truth).sum() / truth.sum() < 0.1


def test_pale_tissue_beside_dark_is_not_lost() -> None:
    image = glass(300, 300)
    image[20:120, 20:280] = (110, 60, 140)
    image[150:280, 20:280] = (238, 212, 226)
    mask = tissue_mask(image)
    assert mask[30:110, 30:270].all()
    assert mask[160:270, 30:270].mean() > 0.95
    assert mask[:10].mean() == 0


@pytest.mark.parametrize("level", [255, 243, 225])
def test_empty_glass_has_none(level: int) -> None:
    assert not tissue_mask(glass(200, 200, level)).any()
    assert not tissue_mask(np.full((50, 50, 3), 252, np.uint8)).any()


def test_dust_is_removed_and_small_holes_are_filled() -> None:
    image = glass(400, 400)
    image[100:300, 100:300] = (180, 80, 150)
    image[200:205, 200:205] = 243
    image[20:23, 20:23] = (60, 20, 80)
    mask = tissue_mask(image)
    assert mask[190:215, 190:215].all()
    assert not mask[:60, :60].any()


def test_grey_slides_are_judged_by_darkness() -> None:
    image = glass(200, 200)
    image[50:150, 50:150] = 120
    image = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    mask = tissue_mask(image)
    assert mask[60:140, 60:140].all()
    assert not mask[:40].any()


def test_real_crops_are_tissue(crops_dir: Path) -> None:
    crops = sorted((crops_dir / "images").glob("*.png"))
    assert crops
    for crop in crops:
        with Image.open(crop) as image:
            small = np.asarray(image.convert("RGB").reduce(4))
        assert tissue_mask(small).mean() > 0.3, crop.name


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4), (0, 10, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="is needed"):
        tissue_mask(np.zeros(shape, np.uint8))
    with pytest.raises(ConfigError, match="is needed"):
        tissue_mask(np.zeros((10, 10, 3), np.float32))
