"""What is on screen, for any camera."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image

from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.view import (
    look_at,
    pixel_on_screen,
    slide_shape,
    visible_region,
    zoom_to,
)

SHAPE = (1000, 2000)


@pytest.fixture(scope="module")
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.canvas.size = (400, 600)
    return viewer


@pytest.fixture(scope="module")
def slide(viewer: ViewerModel) -> Image:
    levels = [np.zeros((1000 >> k, 2000 >> k, 3), np.uint8) for k in range(3)]
    return viewer.add_image(levels, multiscale=True, rgb=True, scale=(0.25, 0.25))


def test_whole_slide(viewer: ViewerModel, slide: Image) -> None:
    look_at(viewer, slide, Region(0, 0, *SHAPE))
    assert visible_region(viewer, slide) == Region(0, 0, *SHAPE)
    assert slide_shape(slide) == SHAPE


@given(
    y=st.integers(0, 900),
    x=st.integers(0, 1900),
    height=st.integers(8, 400),
    width=st.integers(8, 400),
)
def test_what_one_looks_at_is_visible(
    viewer: ViewerModel, slide: Image, y: int, x: int, height: int, width: int
) -> None:
    region = Region(y, x, height, width).clipped(SHAPE)
    assert region is not None
    look_at(viewer, slide, region)
    seen = visible_region(viewer, slide)
    assert seen is not None
    assert seen.contains(region)
    # One side fills the canvas but for the margin and a pixel on either end.
    limit = 1.05 * max(region.height / 400, region.width / 600)
    assert seen.height <= np.ceil(limit * 400) + 1
    assert seen.width <= np.ceil(limit * 600) + 1


@given(zoom=st.floats(0.01, 50), y=st.floats(-100, 400), x=st.floats(-100, 700))
def test_visible_pixels_are_those_the_canvas_touches(
    viewer: ViewerModel, slide: Image, zoom: float, y: float, x: float
) -> None:
    viewer.scene.camera.zoom = zoom
    viewer.scene.camera.center = (0, y, x)
    top, left = (y - 200 / zoom) / 0.25, (x - 300 / zoom) / 0.25
    bottom, right = (y + 200 / zoom) / 0.25, (x + 300 / zoom) / 0.25
    rows = [i for i in range(SHAPE[0]) if i + 0.5 > top + 1e-5 and i - 0.5 < bottom - 1e-5]
    columns = [i for i in range(SHAPE[1]) if i + 0.5 > left + 1e-5 and i - 0.5 < right - 1e-5]
    seen = visible_region(viewer, slide)
    if not rows or not columns:
        assert seen is None
        return
    assert seen is not None
    assert abs(seen.y - rows[0]) <= 1
    assert abs(seen.y1 - 1 - rows[-1]) <= 1
    assert abs(seen.x - columns[0]) <= 1
    assert abs(seen.x1 - 1 - columns[-1]) <= 1


def test_zoom_to_keeps_the_centre(viewer: ViewerModel, slide: Image) -> None:
    viewer.scene.camera.center = (0, 100, 200)
    zoom_to(viewer, slide, 2.0)
    assert pixel_on_screen(viewer, slide) == pytest.approx(2.0)
    assert viewer.scene.camera.center[-2:] == pytest.approx((100, 200))


def test_nothing_is_visible_beside_the_slide_or_in_3d(viewer: ViewerModel, slide: Image) -> None:
    zoom_to(viewer, slide, 1.0)
    viewer.scene.camera.center = (0, 5000, 5000)
    assert visible_region(viewer, slide) is None
    look_at(viewer, slide, Region(0, 0, 100, 100))
    viewer.dims.ndisplay = 3
    assert visible_region(viewer, slide) is None
    viewer.dims.ndisplay = 2
