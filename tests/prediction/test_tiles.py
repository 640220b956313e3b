from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.tiles import model_downsample, tiles_for
from napari_genselfdiff.slides.geometry import Region

SIZES = st.sampled_from([(64, 0), (64, 16), (288, 16), (256, 32)])
REGIONS = st.builds(
    Region, st.integers(-200, 700), st.integers(-200, 700), st.integers(1, 700), st.integers(1, 700)
)


@given(region=REGIONS, size=SIZES)
def test_cores_cover_the_region_exactly_once(region: Region, size: tuple[int, int]) -> None:
    tiles = tiles_for(region, *size)
    count = np.zeros(region.shape, np.int64)
    for tile in tiles:
        common = tile.core.intersection(region)
        assert common is not None, "a tile that holds nothing of the region"
        count[common.shifted(-region.y, -region.x).slices] += 1
    assert (count == 1).all()


@given(region=REGIONS, size=SIZES, dy=st.integers(-300, 300), dx=st.integers(-300, 300))
def test_panning_gives_the_same_tiles(
    region: Region, size: tuple[int, int], dy: int, dx: int
) -> None:
    moved = region.shifted(dy, dx)
    before = {(t.row, t.column): t for t in tiles_for(region, *size)}
    for tile in tiles_for(moved, *size):
        if tile.core.intersection(region) is not None:
            assert before[tile.row, tile.column] == tile


@given(region=REGIONS, size=SIZES)
def test_the_centre_comes_first(region: Region, size: tuple[int, int]) -> None:
    def distance(y: float, x: float) -> float:
        return (y - region.y - region.height / 2) ** 2 + (x - region.x - region.width / 2) ** 2

    tiles = tiles_for(region, *size)
    far = [distance(t.core.y + t.core.height / 2, t.core.x + t.core.width / 2) for t in tiles]
    assert far == sorted(far)


def test_padded_is_the_core_and_its_halo() -> None:
    (tile,) = tiles_for(Region(0, 256, 10, 10), 288, 16)
    assert tile.core == Region(0, 256, 256, 256)
    assert tile.padded == Region(-16, 240, 288, 288)


def test_a_halo_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="halo of 32 px leaves 0 px"):
        tiles_for(Region(0, 0, 10, 10), 64, 32)


@pytest.mark.parametrize(
    ("slide_mpp", "downsample", "mpp"),
    [
        (0.25, 1.0, 0.25),
        (0.4, 1.0, 0.4),
        (0.2496, 1.0, 0.2496),  # not worth resampling
        (0.125, 2.0, 0.25),
        (0.1, 2.5, 0.25),
    ],
)
def test_the_nearest_resolution_of_the_range_is_used(
    slide_mpp: float, downsample: float, mpp: float
) -> None:
    choice = model_downsample(slide_mpp, (0.25, 0.5))
    assert choice.downsample == pytest.approx(downsample)
    assert choice.mpp == pytest.approx(mpp)
    assert choice.warning is None


@pytest.mark.parametrize("slide_mpp", [0.6, 1.0])
def test_a_coarse_slide_is_enlarged_with_a_warning(slide_mpp: float) -> None:
    choice = model_downsample(slide_mpp, (0.25, 0.5))
    assert choice.downsample == pytest.approx(0.5 / slide_mpp)
    assert choice.warning is not None
    assert f"{slide_mpp:g} µm/px" in choice.warning


def test_a_slide_far_too_coarse_is_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"slide has 1\.2 µm/px.*0\.25-0\.5 µm/px.*2 times"):
        model_downsample(1.2, (0.25, 0.5))


def test_an_unknown_resolution_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="does not state its micrometre per pixel"):
        model_downsample(None, (0.25, 0.5))
