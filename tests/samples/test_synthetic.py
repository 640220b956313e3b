from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.samples.synthetic import CELL, MPP, write_synthetic_slide
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("synthetic") / "slide.tif"
    write_synthetic_slide(file, (2, 3))
    return file


@pytest.fixture
def slide(path: Path) -> Slide:
    return open_slide(path)


def test_it_is_far_larger_than_its_file(path: Path, slide: Slide) -> None:
    assert slide.shape == (2 * CELL[0], 3 * CELL[1])
    assert slide.mpp == pytest.approx(MPP, rel=1e-3)
    assert [level.shape[0] for level in slide.levels] == [12288, 3072, 768, 192]
    assert path.stat().st_size < slide.shape[0] * slide.shape[1] * 3 / 30
    assert not slide.warnings


def test_a_section_is_the_shipped_sample(slide: Slide) -> None:
    with open_slide(sample_path("cmu_small_region")) as source:
        wanted = source.read(Region(900, 900, 300, 300), 1.0).astype(float)
    y, x = (CELL[0] - 2 * 2967) // 2, (CELL[1] - 2220) // 2
    # the place in the middle is always filled
    place = Region(CELL[0] + y + 900, CELL[1] + x + 900, 300, 300)
    found = slide.read(place, 1.0).astype(float)
    error = np.abs(found - wanted).mean()
    assert error < 8  # of a second JPEG
    for axis in (0, 1):
        for by in (-1, 1):  # in place to the pixel
            assert np.abs(np.roll(found, by, axis) - wanted).mean() > 1.5 * error


@pytest.mark.parametrize("level", [1, 2, 3])
def test_levels_show_the_same(slide: Slide, level: int) -> None:
    by = 4**level
    small = np.asarray(slide.levels[level][:], float)
    rows, columns = small.shape[0] // 4, small.shape[1] // 3
    part = (slice(rows * 2, rows * 3), slice(columns, columns * 2))
    large = np.asarray(
        slide.levels[0][
            part[0].start * by : part[0].stop * by, part[1].start * by : part[1].stop * by
        ],
        np.float32,
    )
    means = large.reshape(rows, by, columns, by, 3).mean(axis=(1, 3))
    assert np.abs(means - small[part]).mean() < 3


def test_no_place_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 x 1 or more"):
        write_synthetic_slide(tmp_path / "x.tif", (0, 3))
    assert not list(tmp_path.iterdir())
