"""What part of the slide is on screen, from camera and canvas size.

Never from ``layer.corner_pixels``: on multiscale layers those are pixels of the shown level, grow
to chunk borders and stay behind the camera.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_EDGE = 1e-6  # share of a pixel: a view that ends on a pixel's border does not show that pixel


def canvas_shape(viewer: ViewerModel) -> tuple[float, float]:
    """Height and width of one viewbox in screen pixels."""
    height, width = viewer.canvas.viewbox_size(viewer.layers)
    return float(height), float(width)


def visible_region(viewer: ViewerModel, layer: Layer) -> Region | None:
    """Give what is on screen of a 2-D layer.

    Parameters
    ----------
    viewer
        The viewer, in 2-D display.
    layer
        The slide; scale and translation count, of a rotated layer the bounding box is given.

    Returns
    -------
    Region or None
        Level-0 pixels of the layer, clipped to it; None if nothing of it is on screen.
    """
    height, width = canvas_shape(viewer)
    camera = viewer.scene.camera
    if viewer.dims.ndisplay != 2 or height <= 0 or width <= 0 or camera.zoom <= 0:
        return None
    centre = np.asarray(camera.center[-2:], float)
    half = np.array([height, width]) / 2 / camera.zoom
    corners = np.array(
        [
            layer.world_to_data(centre + half * signs)
            for signs in itertools.product((-1, 1), repeat=2)
        ],
        dtype=float,
    )[:, -2:]
    # Pixel i covers [i - 0.5, i + 0.5).
    first = np.floor(corners.min(axis=0) + 0.5 + _EDGE).astype(int)
    stop = np.floor(corners.max(axis=0) + 0.5 - _EDGE).astype(int) + 1
    shape = slide_shape(layer)
    first, stop = np.clip(first, 0, shape), np.clip(stop, 0, shape)
    if (stop <= first).any():
        return None
    return Region.from_bounds(first[0], first[1], stop[0], stop[1])


def slide_shape(layer: Layer) -> tuple[int, int]:
    """Height and width of a layer in level-0 pixels, without the colour axis."""
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    return int(shape[0]), int(shape[1])


def pixel_on_screen(viewer: ViewerModel, layer: Layer) -> float:
    """Level-0 pixels that one screen pixel covers; above 1 when zoomed out."""
    return 1.0 / (float(viewer.scene.camera.zoom) * float(layer.scale[-1]))


def zoom_to(viewer: ViewerModel, layer: Layer, pixels: float) -> None:
    """Keep the centre and zoom so that one screen pixel covers ``pixels`` level-0 pixels."""
    viewer.scene.camera.zoom = 1.0 / (pixels * float(layer.scale[-1]))


def look_at(viewer: ViewerModel, layer: Layer, region: Region, margin: float = 1.05) -> None:
    """Centre a level-0 region and make it fill the canvas but for a small margin."""
    height, width = canvas_shape(viewer)
    centre = layer.data_to_world([(region.y + region.y1 - 1) / 2, (region.x + region.x1 - 1) / 2])
    pixels = max(region.height / max(height, 1), region.width / max(width, 1)) * margin
    zoom_to(viewer, layer, pixels)
    viewer.scene.camera.center = (0.0, float(centre[-2]), float(centre[-1]))


def centre_on(viewer: ViewerModel, layer: Layer, y0: float, x0: float) -> None:
    """Bring a level-0 pixel to the centre; the zoom stays."""
    centre = layer.data_to_world([y0, x0])
    viewer.scene.camera.center = (0.0, float(centre[-2]), float(centre[-1]))


def world_to_pixel(layer: Layer, position: tuple[float, ...]) -> tuple[int, int] | None:
    """Pixel of a 2-D layer under a point in world units; None outside the layer."""
    y, x = (math.floor(value + 0.5) for value in layer.world_to_data(position)[-2:])
    height, width = slide_shape(layer)
    return (y, x) if 0 <= y < height and 0 <= x < width else None
