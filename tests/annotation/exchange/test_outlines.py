from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from napari_genselfdiff.annotation.exchange.outlines import Boundary, outlines, rasterize
from napari_genselfdiff.annotation.exchange.shapes import polygons

LABELS = arrays(
    np.uint32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)
)
ISLAND = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 1, 0, 1, 0, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ]
)


@given(LABELS, st.integers(0, 50_000), st.integers(0, 50_000))
def test_filling_outlines_gives_the_pixels_back(labels: NDArray[np.uint32], y: int, x: int) -> None:
    rings = outlines(labels, y, x)
    for label in range(1, 4):
        mine = [ring for ring in rings if ring.label == label]
        filled = rasterize([ring.points.astype(float) for ring in mine], y, x, labels.shape)
        np.testing.assert_array_equal(filled, labels == label)
        assert sum(ring.area for ring in mine) == (labels == label).sum()


@given(LABELS)
def test_polygons_are_valid_and_disjoint(labels: NDArray[np.uint32]) -> None:
    for label, found in polygons(outlines(labels)).items():
        solid = [shapely.Polygon(polygon.exterior, polygon.holes) for polygon in found]
        assert all(polygon.is_valid for polygon in solid)
        together = shapely.MultiPolygon(solid)
        assert together.is_valid
        assert together.area == (labels == label).sum()


@given(LABELS, st.integers(1, 5))
def test_outlines_do_not_depend_on_the_pieces(labels: NDArray[np.uint32], side: int) -> None:
    boundary = Boundary()
    framed = np.pad(labels, 1)
    for y in range(0, labels.shape[0], side):
        for x in range(0, labels.shape[1], side):
            boundary.add(framed[y : y + side + 2, x : x + side + 2], y, x)
    pieces = sorted((r.label, r.points.tolist()) for r in boundary.outlines())
    assert pieces == sorted((r.label, r.points.tolist()) for r in outlines(labels))


def test_an_island_in_a_hole_is_a_polygon_of_its_own() -> None:
    (found,) = polygons(outlines(ISLAND)).values()
    assert [len(polygon.holes) for polygon in found] == [1, 1]
    areas = [shapely.Polygon(p.exterior, p.holes).area for p in found]
    assert sorted(areas) == [8, 24]


def test_only_corners_are_kept() -> None:
    (ring,) = outlines(np.ones((3, 500), np.uint8), 10, 20)
    assert sorted(map(tuple, ring.points.tolist())) == [(20, 10), (20, 13), (520, 10), (520, 13)]


@given(st.integers(0, 2**32 - 1))
def test_centres_decide_also_for_slanted_edges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ring = rng.uniform(-3, 15, (3, 2))
    filled = rasterize([ring], 0, 0, (12, 12))
    triangle = shapely.Polygon(ring)
    for y, x in np.ndindex(12, 12):
        centre = shapely.Point(x + 0.5, y + 0.5)
        if triangle.exterior.distance(centre) > 1e-9:
            assert filled[y, x] == triangle.contains(centre)


@pytest.mark.parametrize("points", [200_000])
def test_a_monstrous_ring_takes_bounded_memory(points: int) -> None:
    import tracemalloc

    zigzag = np.stack([np.linspace(0, 64, points), np.arange(points) % 2 * 2048.0], axis=1)
    tracemalloc.start()
    rasterize([zigzag], 0, 0, (256, 64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 700 * 2**20
