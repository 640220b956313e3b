"""Form and stain of objects equal what scikit-image measures, and numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage import measure
from skimage.color import rgb2hed

from napari_genselfdiff.annotation.forms import (
    circularities,
    eccentricities,
    perimeters,
    stain_densities,
)

CODES = arrays(
    np.intp, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 3)
)


@given(CODES)
def test_forms_are_those_of_scikit_image(codes: NDArray[np.intp]) -> None:
    lengths, eccentric = perimeters(codes, 4), eccentricities(codes, 4)
    regions: Any = measure.regionprops
    for found in regions(codes):
        assert lengths[found.label] == pytest.approx(found.perimeter)
        assert eccentric[found.label] == pytest.approx(found.eccentricity, abs=1e-6)


def test_a_plate_by_hand() -> None:
    """4 x 6 pixels: 2 * (3 + 5) steps around; variances (4² - 1) / 12 and (6² - 1) / 12."""
    codes = np.zeros((8, 9), np.intp)
    codes[2:6, 1:7] = 1
    assert perimeters(codes, 2)[1] == 16
    assert eccentricities(codes, 2)[1] == pytest.approx(np.sqrt(1 - 15 / 35))
    areas = np.array([0.0, 24.0])
    assert circularities(areas, perimeters(codes, 2))[1] == 1.0  # 4π * 24 / 256 = 1.18, capped
    assert circularities(areas * 10, np.array([0.0, 100.0]))[1] == pytest.approx(0.30159, abs=1e-5)


def test_pure_stains_are_told_apart() -> None:
    """Light through pure haematoxylin of density 0.5: 10^(-0.5 * its vector)."""
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = np.array([[0, 1, 2]])
    light = np.array([[1, 1, 1], *10.0 ** (-0.5 * vectors)]) * 255
    rgb = np.rint(light).astype(np.uint8)[None]
    haematoxylin, eosin = stain_densities(rgb, codes, 3)
    assert haematoxylin[1:] == pytest.approx([0.5, 0.0], abs=0.01)
    assert eosin[1:] == pytest.approx([0.0, 0.5], abs=0.01)


def test_stains_rank_as_in_scikit_image() -> None:
    """It scales logarithms by ln(10⁶); ours are decadic: a factor of 6, and negatives are cut."""
    rgb = np.random.default_rng(0).integers(20, 200, (30, 30, 3)).astype(np.uint8)
    codes = np.arange(900).reshape(30, 30) + 1
    ours = stain_densities(rgb, codes, 901)[0][1:].reshape(30, 30)
    unit = np.linalg.norm([0.65, 0.70, 0.29])
    theirs = rgb2hed(rgb)[..., 0] * 6 * unit
    np.testing.assert_allclose(np.maximum(ours, 0), theirs, atol=1e-6)
