"""The shared fixtures do what the tests rely on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile


def test_every_test_has_a_home_of_its_own(home: Path) -> None:
    assert Path(os.environ["GENSELFDIFF_HOME"]) == home
    assert not list(home.iterdir())


def test_synthetic_tissue_has_dark_separate_nuclei(make_tissue: Callable[..., Any]) -> None:
    rgb, instances = make_tissue(200, 300, seed=3)
    assert rgb.shape == (200, 300, 3)
    assert instances.max() >= 5
    assert rgb[instances > 0].mean() < rgb[instances == 0].mean() - 50


def test_synthetic_slide_is_a_pyramid_with_its_pixel_size(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_slide(tmp_path / "slide.tif", 600, 700, mpp=0.5)
    with tifffile.TiffFile(path) as tif:
        assert [level.shape for level in tif.series[0].levels] == [
            (600, 700, 3),
            (300, 350, 3),
            (150, 175, 3),
        ]
        numerator, denominator = tif.pages.first.tags["XResolution"].value
        np.testing.assert_allclose(1e4 * denominator / numerator, 0.5, rtol=1e-6)
