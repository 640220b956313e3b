"""Regions and grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region, grid_shape

regions = st.builds(
    Region,
    st.integers(-5000, 100_000),
    st.integers(-5000, 100_000),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
downsamples = st.floats(0.05, 600, allow_nan=False)


def test_bounds_shape_and_slices() -> None:
    region = Region(2, 3, 4, 5)
    assert (region.y1, region.x1, region.shape, region.area) == (6, 8, (4, 5), 20)
    assert np.arange(100).reshape(10, 10)[region.slices].shape == (4, 5)


def test_numpy_integers_become_plain() -> None:
    region = Region(*np.array([1, 2, 3, 4]))
    assert region == Region(1, 2, 3, 4)
    assert all(type(v) is int for v in (region.y, region.x, region.height, region.width))


@pytest.mark.parametrize("bad", [(0, 0, 0, 5), (0, 0, 5, -1), (0.5, 0, 1, 1), ("1", 0, 1, 1)])
def test_no_rectangle_is_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="region"):
        Region(*bad)


def test_negative_start_gives_no_slices() -> None:
    with pytest.raises(ConfigError, match="clip"):
        _ = Region(-1, 0, 2, 2).slices


def test_parse_reads_four_numbers() -> None:
    assert Region.parse("10, -20,30,40") == Region(10, -20, 30, 40)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4", "0,0,0,9"])
def test_parse_refuses_anything_else(text: str) -> None:
    with pytest.raises(ConfigError, match="region"):
        Region.parse(text)


def test_intersection_clipping_and_containment() -> None:
    region = Region(-2, -3, 10, 10)
    assert region.clipped((5, 100)) == Region(0, 0, 5, 7)
    assert region.clipped((0, 9)) is None
    assert region.intersection(Region(8, 0, 1, 1)) is None
    assert region.contains(Region(-2, -3, 1, 1))
    assert not region.contains(Region(7, 6, 2, 1))
    assert region.padded(2).padded(-2) == region
    assert region.shifted(2, 3) == Region(0, 0, 10, 10)


@pytest.mark.parametrize("downsample", [0, -1, float("nan"), float("inf")])
def test_impossible_downsample_is_refused(downsample: float) -> None:
    with pytest.raises(ConfigError, match="downsample"):
        Region(0, 0, 1, 1).to_grid(downsample)


@given(region=regions, downsample=downsamples)
def test_grid_region_covers_and_is_smallest(region: Region, downsample: float) -> None:
    grid = region.to_grid(downsample)
    assert grid.from_grid(downsample).contains(region)
    slack = 2e-6 * max(1.0, downsample)
    assert grid.y * downsample <= region.y + slack < (grid.y + 1) * downsample + 2 * slack
    assert (grid.y1 - 1) * downsample - slack <= region.y1 <= grid.y1 * downsample + slack


@given(region=regions, k=st.integers(1, 64))
def test_whole_downsamples_are_exact(region: Region, k: int) -> None:
    grid = region.to_grid(k)
    assert (grid.y, grid.x) == (region.y // k, region.x // k)
    assert (grid.y1, grid.x1) == (-(-region.y1 // k), -(-region.x1 // k))
    assert grid.from_grid(k).to_grid(k) == grid


@given(
    height=st.integers(1, 200_000), width=st.integers(1, 200_000), level_height=st.integers(1, 5000)
)
def test_grid_shape_of_a_level_is_the_level(height: int, width: int, level_height: int) -> None:
    """A downsample is a quotient of sizes; dividing by it again must not round up."""
    assert grid_shape((height, width), height / level_height)[0] == level_height
    assert grid_shape((height, width), 1.0) == (height, width)
