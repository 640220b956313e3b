from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from napari_genselfdiff.annotation.window import MODEL
from napari_genselfdiff.backbone.heads import SegmentationOutput, build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction.answers import TileReader, assemble
from napari_genselfdiff.prediction.network import Network
from napari_genselfdiff.prediction.picture import Picture
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import (
    RegionDone,
    TileDone,
    predict_region,
    renumbered,
    segment_region,
    to_store_window,
)
from napari_genselfdiff.prediction.tiles import ScaleChoice, tiles_for
from napari_genselfdiff.slides.geometry import Region
from tests.prediction.synthetic import Darkness, StandIn, make_card

Tissue = tuple[NDArray[np.uint8], NDArray[np.uint16]]
PROFILE = Profile()
MODEL_1 = StandIn(make_card(), Darkness())


@pytest.fixture(scope="module")
def slide(make_tissue: Callable[..., Tissue]) -> Picture:
    return Picture(make_tissue(330, 360, 3)[0], 0.5)


@pytest.fixture(scope="module")
def whole(slide: Picture) -> RegionDone:
    return segment_region(slide, MODEL_1, Region(0, 0, 330, 360), PROFILE)


def steps(
    slide: Picture, region: Region, profile: Profile = PROFILE
) -> list[TileDone | RegionDone]:
    return list(predict_region(slide, MODEL_1, MODEL_1.load(), region, profile))


def test_nuclei_are_found(whole: RegionDone, make_tissue: Callable[..., Tissue]) -> None:
    truth = make_tissue(330, 360, 3)[1] > 0
    found = whole.classes == 3
    dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    assert dice > 0.9
    assert whole.objects is not None
    assert whole.objects.max() > 20
    np.testing.assert_array_equal(whole.objects > 0, found)


@given(y=st.integers(-20, 300), x=st.integers(-20, 300), size=st.tuples(*[st.integers(1, 200)] * 2))
@settings(max_examples=25)
def test_panning_gives_the_same_labels_on_the_overlap(
    slide: Picture, whole: RegionDone, y: int, x: int, size: tuple[int, int]
) -> None:
    inside = Region(y, x, *size).clipped(slide.shape)
    if inside is None:
        return
    part = segment_region(slide, MODEL_1, Region(y, x, *size), PROFILE)
    assert part.region == inside
    np.testing.assert_array_equal(part.classes, whole.classes[inside.slices])
    np.testing.assert_array_equal(part.confidence, whole.confidence[inside.slices])
    # Objects whole within the part are the same objects.
    assert part.objects is not None
    assert whole.objects is not None
    there = whole.objects[inside.slices]
    ring = np.ones(there.shape, bool)
    ring[1:-1, 1:-1] = False
    for number in np.setdiff1d(np.unique(part.objects), part.objects[ring]):
        ids = np.unique(there[part.objects == number])
        assert len(ids) == 1, "an object that is two in the whole"


def test_previews_come_centre_first_and_show_the_final_foreground(slide: Picture) -> None:
    """Only near the borders of tiles, which fade into each other in the end, may they differ."""
    region = Region(40, 30, 250, 300)
    found = steps(slide, region)
    done = found[-1]
    assert isinstance(done, RegionDone)
    drawn = np.full(done.region.shape, 255, np.uint8)
    tiles = [step for step in found if isinstance(step, TileDone)]
    counted = [tile.done for tile in tiles]
    assert counted == sorted(set(counted))
    assert {tile.total for tile in tiles} == {tiles[0].total}
    assert counted[-1] <= tiles[0].total
    for tile in tiles:
        assert tile.eta_s >= 0
        drawn[tile.core.shifted(-region.y, -region.x).slices] = tile.classes
    assert (drawn == done.classes).mean() > 0.99
    assert tiles[0].core.contains(Region(165, 180, 1, 1))
    steps_timed = {"prepare", "read", "network", "keep", "instances", "confidence", "total"}
    assert set(done.seconds) == steps_timed


def test_the_order_of_arrival_does_not_matter(slide: Picture) -> None:
    card = make_card(n_classes=2)
    reader = TileReader(slide, card, ScaleChoice(1.0, 0.5))
    network = Network(Darkness(2), PROFILE)  # type: ignore[arg-type]
    area = Region(64, 64, 128, 192)
    tiles = tiles_for(area, card.tile, card.halo)
    answers = [reader.decide([t], network(reader.read([t])))[0] for t in tiles]
    first = assemble(answers, card, 0.5, area)
    for order in itertools.islice(itertools.permutations(answers), 100, 400, 60):
        again = assemble(order, card, 0.5, area)
        for one, two in zip(first, again, strict=True):
            assert one is not None
            assert two is not None
            assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("batch", [2, 5])
def test_tiles_together_answer_as_one_by_one(slide: Picture, whole: RegionDone, batch: int) -> None:
    done = steps(slide, Region(0, 0, 330, 360), Profile(batch=batch))[-1]
    assert isinstance(done, RegionDone)
    assert (done.classes == whole.classes).mean() > 0.999


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_real_network_gives_equal_bytes_twice(slide: Picture, parallel: int) -> None:
    """Side by side or one after the other: the labels do not depend on it."""
    config = replace(PRESETS["fast"], dims=(8, 16), init_dim=8, attention=("none", "linear"))
    model = StandIn(make_card(), build_segmenter(config, 1, 0))
    first, again = (
        segment_region(slide, model, Region(10, 20, 200, 250), profile)
        for profile in (PROFILE, replace(PROFILE, parallel=parallel))
    )
    assert first.classes.tobytes() == again.classes.tobytes()
    assert first.confidence.tobytes() == again.confidence.tobytes()
    assert first.objects is not None
    assert again.objects is not None
    assert first.objects.tobytes() == again.objects.tobytes()


@pytest.mark.parametrize("parallel", [1, 3])
def test_stopping_ends_without_labels(slide: Picture, parallel: int) -> None:
    begun: list[int] = []

    class Counted(Darkness):
        def forward(self, x: Tensor) -> SegmentationOutput:
            begun.append(len(x))
            return super().forward(x)

    profile, stop = Profile(parallel=parallel), iter([False, False, True])
    found = list(
        predict_region(
            slide,
            MODEL_1,
            Counted(),  # type: ignore[arg-type]
            Region(0, 0, 330, 360),
            profile,
            should_stop=lambda: next(stop),
        )
    )
    assert not any(isinstance(step, RegionDone) for step in found)
    assert 1 <= len(begun) <= 2 + parallel


def test_stopping_ends_before_the_next_tile(slide: Picture) -> None:
    asked = iter([False, False, True])
    found = list(
        predict_region(
            slide,
            MODEL_1,
            MODEL_1.load(),
            Region(0, 0, 330, 360),
            PROFILE,
            should_stop=lambda: next(asked),
        )
    )
    assert len(found) == 2
    assert all(isinstance(step, TileDone) for step in found)


def test_areas_have_no_objects(slide: Picture) -> None:
    model = StandIn(make_card("areas", n_classes=2), Darkness(2))
    done = segment_region(slide, model, Region(0, 0, 100, 100), PROFILE)
    assert done.objects is None
    assert set(np.unique(done.classes)) <= {0, 3, 5}
    assert (done.classes > 0).any()


def test_a_region_outside_the_slide_is_refused(slide: Picture) -> None:
    with pytest.raises(ConfigError, match=r"lies outside the slide of 330 x 360 px"):
        segment_region(slide, MODEL_1, Region(400, 0, 10, 10), PROFILE)


def test_a_region_too_large_for_the_memory_is_refused() -> None:
    class Huge:
        shape = (100_000, 100_000)
        mpp = 0.5

        def read(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
            raise AssertionError("nothing may be read")

    with pytest.raises(ConfigError, match="zoom in, or segment the whole slide"):
        segment_region(Huge(), MODEL_1, Region(0, 0, 100_000, 100_000), PROFILE)


def test_a_finer_slide_is_read_at_the_models_resolution(
    make_tissue: Callable[..., Tissue],
) -> None:
    pixels = make_tissue(200, 220, 1)[0]
    fine = Picture(pixels.repeat(4, 0).repeat(4, 1), 0.125)
    done = segment_region(
        fine, StandIn(make_card(mpp_range=(0.5, 0.5)), Darkness()), Region(0, 0, 800, 880), PROFILE
    )
    coarse = segment_region(Picture(pixels, 0.5), MODEL_1, Region(0, 0, 200, 220), PROFILE)
    assert (done.downsample, done.region) == (4.0, Region(0, 0, 200, 220))
    np.testing.assert_array_equal(done.classes, coarse.classes)


@given(
    model=st.sampled_from([0.5, 1.0, 1.3, 2.0]),
    store=st.sampled_from([1, 2, 4]),
    y=st.integers(0, 90),
    x=st.integers(0, 90),
    size=st.tuples(*[st.integers(1, 60)] * 2),
)
def test_the_store_gets_the_nearest_pixels(
    model: float, store: int, y: int, x: int, size: tuple[int, int]
) -> None:
    """Windows of neighbouring regions never overlap and never leave a gap."""
    shape = (101, 103)
    region0 = Region(y, x, *size).clipped(shape)
    if region0 is None:
        return
    region = region0.to_grid(model)
    rows, columns = np.mgrid[region.y : region.y1, region.x : region.x1]
    marks = (rows * 1000 + columns).astype(np.uint32)
    classes = (marks % 251).astype(np.uint8)
    done = RegionDone(region, model, 0.5, classes, marks, np.ones(region.shape, np.float16))
    try:
        window = to_store_window(done, shape, store)
    except ConfigError:
        assert min(region.shape) * model <= store
        return
    assert (window.provenance == MODEL).all()
    assert window.objects is not None
    for i, j in itertools.product((0, -1), repeat=2):
        centre_y = (range(window.region.y, window.region.y1)[i] + 0.5) * store / model
        centre_x = (range(window.region.x, window.region.x1)[j] + 0.5) * store / model
        expected_y = min(int(centre_y + 1e-9), region.y1 - 1)
        expected_x = min(int(centre_x + 1e-9), region.x1 - 1)
        assert window.objects[i, j] == expected_y * 1000 + expected_x
        assert region.y <= expected_y
        assert region.x <= expected_x


def test_the_whole_slide_fills_the_whole_store() -> None:
    done = RegionDone(
        Region(0, 0, 101, 103),
        1.0,
        0.5,
        np.ones((101, 103), np.uint8),
        None,
        np.ones((101, 103), np.float16),
    )
    assert to_store_window(done, (101, 103), 4).region == Region(0, 0, 26, 26)


def test_renumbered_follows_the_reading_order() -> None:
    objects = np.array([[0, 9, 9], [4, 0, 9], [4, 7, 0]], np.uint32)
    assert renumbered(objects).tolist() == [[0, 1, 1], [2, 0, 1], [2, 3, 0]]
    assert renumbered(objects[:1, 1:]).tolist() == [[1, 1]]
