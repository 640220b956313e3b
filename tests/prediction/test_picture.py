from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.picture import Picture, segment_picture
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.slides.geometry import Region
from tests.prediction.synthetic import Darkness, StandIn, make_card

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 31, 3), np.uint8)


@given(margin=st.integers(0, 30))
def test_the_surroundings_mirror_the_picture(margin: int) -> None:
    read = Picture(PIXELS, 0.5).read(Region(0, 0, 40, 31).padded(margin))
    expected = np.pad(PIXELS, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("downsample", [0.5, 0.8, 1.7, 2.0, 3.0])
def test_other_grids_keep_the_brightness(downsample: float) -> None:
    picture = Picture(np.full((40, 31, 3), 77, np.uint8), 0.5)
    region = Region(0, 0, 40, 31).to_grid(downsample)
    assert (picture.read(region, downsample) == 77).all()


def test_labels_have_the_size_of_the_picture() -> None:
    model = StandIn(make_card(mpp_range=(0.5, 0.5)), Darkness())
    labels = segment_picture(PIXELS, 0.4, model, model.load(), Profile())
    assert labels.classes.shape == (40, 31)
    assert labels.objects is not None
    assert labels.objects.shape == (40, 31)


def test_what_is_no_colour_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \(5, 5\)"):
        Picture(np.zeros((5, 5), np.uint8), 0.5)
