from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.window import Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction import whole_slide as module
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.records import run_record
from napari_genselfdiff.prediction.region import segment_region, to_store_window
from napari_genselfdiff.prediction.whole_slide import (
    SlideDone,
    SlideProgress,
    plan_slide,
    segment_slide,
)
from napari_genselfdiff.slides.geometry import Region, grid_shape
from napari_genselfdiff.slides.slide import Slide, open_slide
from tests.prediction.synthetic import Darkness, StandIn, make_card
from tests.prediction.test_instances import canonical

MODEL = StandIn(make_card(mpp_range=(0.5, 0.5)), Darkness())
PROFILE = Profile()


@dataclass
class Canvas:
    """Keeps what was handed over; objects of later windows replace those they cover."""

    shape: tuple[int, int]
    objects: NDArray[np.int64] = field(init=False)
    classes: NDArray[np.uint8] = field(init=False)
    windows: list[Window] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.objects = np.zeros(self.shape, np.int64)
        self.classes = np.zeros(self.shape, np.uint8)

    def write(self, window: Window) -> None:
        self.windows.append(window)
        part = window.region.slices
        assert window.objects is not None
        fresh = window.objects.astype(np.int64)
        old = self.objects[part]
        # An object that is there already, whole or the part inside the window, keeps its id.
        replaced = np.where(fresh > 0, fresh + self.objects.max(), 0)
        for number in np.unique(fresh[fresh > 0]):
            here = fresh == number
            ids = np.unique(old[here])
            if len(ids) == 1 and ids[0] > 0 and ((old == ids[0]) == here).all():
                replaced[here] = ids[0]
        self.objects[part] = replaced
        self.classes[part] = window.classes


@pytest.fixture(scope="module")
def slide(
    make_slide: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Slide]:
    path = make_slide(
        tmp_path_factory.mktemp("slides") / "s.tif", 500, 430, mpp=0.5, compression="zlib"
    )
    with open_slide(path) as opened:
        yield opened


def run(slide: Slide, canvas: Canvas, region0: Region | None, block: int) -> SlideDone:
    plan = plan_slide(slide, MODEL.card, region0, block=block)
    *steps, last = segment_slide(
        slide, MODEL, MODEL.load(), PROFILE, canvas.write, store_downsample=1, plan=plan
    )
    assert isinstance(last, SlideDone)
    progress = [step for step in steps if isinstance(step, SlideProgress)]
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert progress[-1].done == progress[-1].total == last.tiles == plan.total
    return last


@pytest.mark.parametrize("block", [64, 128, 192, 2048])
def test_blocks_equal_a_single_pass(
    slide: Slide, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARGIN", 64)
    region0 = Region(0, 0, *slide.shape)
    canvas = Canvas(slide.shape)
    done = run(slide, canvas, region0, block)
    single = to_store_window(segment_region(slide, MODEL, region0, PROFILE), slide.shape, 1)
    np.testing.assert_array_equal(canvas.classes, single.classes)
    assert single.objects is not None
    np.testing.assert_array_equal(canonical(canvas.objects), canonical(single.objects))
    assert done.objects == single.objects.max()
    assert done.objects > 30


@given(y=st.integers(0, 400), x=st.integers(0, 350), size=st.tuples(*[st.integers(1, 300)] * 2))
@settings(max_examples=10)
def test_a_region_equals_a_single_pass(slide: Slide, y: int, x: int, size: tuple[int, int]) -> None:
    """The margin of 256 px is more than what is left out here, so the objects are equal, too."""
    region0 = Region(y, x, *size)
    canvas = Canvas(slide.shape)
    run(slide, canvas, region0, 128)
    window = to_store_window(segment_region(slide, MODEL, region0, PROFILE), slide.shape, 1)
    np.testing.assert_array_equal(canvas.classes[window.region.slices], window.classes)


@pytest.mark.parametrize("downsample", [1, 2])
def test_the_annotations_hold_what_a_single_pass_gives(
    slide: Slide, tmp_path: Path, downsample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects across the borders of blocks arrive in the real store as one."""
    monkeypatch.setattr(module, "MARGIN", 64)
    region0 = Region(0, 0, *slide.shape)
    single = to_store_window(
        segment_region(slide, MODEL, region0, PROFILE), slide.shape, downsample
    )
    task = MODEL.card.task.model_copy(update={"mpp": 0.5 * downsample})
    with AnnotationStore.open(
        tmp_path / "s.gsd.zarr",
        slide_path=slide.path,
        slide_hash=slide.hash,
        shape=slide.shape,
        mpp=0.5,
        mpp_assumed=False,
    ) as store:
        store.add_task(task)
        assert store.downsample(task.name) == downsample
        plan = plan_slide(slide, MODEL.card, region0, block=128)
        for _ in segment_slide(
            slide,
            MODEL,
            MODEL.load(),
            PROFILE,
            lambda window: store.write_prediction(task.name, window, model_hash="0" * 64),
            store_downsample=downsample,
            plan=plan,
        ):
            pass
        stored = store.read(task.name, single.region)
    assert stored.objects is not None
    assert single.objects is not None
    np.testing.assert_array_equal(stored.classes, single.classes)
    np.testing.assert_array_equal(canonical(stored.objects), canonical(single.objects))


def test_every_tile_is_read_once(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARGIN", 64)
    read: list[Region] = []
    original = Slide.read

    def counted(self: Slide, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        read.append(region)
        return original(self, region, downsample)

    monkeypatch.setattr(Slide, "read", counted)
    done = run(slide, Canvas(slide.shape), Region(0, 0, *slide.shape), 128)
    assert len(read) == len(set(read)) == done.tiles == 8 * 7


def test_glass_is_left_out(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "glass.tif"
    with open_slide(make_slide(tmp_path / "t.tif", 300, 300, mpp=0.5)) as tissue:
        pixels = np.full((1500, 1800, 3), 243, np.uint8)
        pixels[900:1200, 1000:1300] = tissue.read(Region(0, 0, 300, 300))
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    with open_slide(path) as slide:
        plan = plan_slide(slide, MODEL.card, block=256)
        assert 25 <= plan.total <= 200, "of 24 * 29 tiles"
        canvas = Canvas(slide.shape)
        run(slide, canvas, None, 256)
    assert (canvas.classes[900:1200, 1000:1300] > 0).any()
    assert not canvas.classes[:800].any()
    assert len(canvas.windows) < 6 * 8


def test_stopping_ends_at_the_next_tile(slide: Slide) -> None:
    answers = iter([False, False, True])
    canvas = Canvas(slide.shape)
    steps = list(
        segment_slide(
            slide,
            MODEL,
            MODEL.load(),
            PROFILE,
            canvas.write,
            store_downsample=1,
            should_stop=lambda: next(answers),
        )
    )
    assert len(steps) == 2
    assert canvas.windows == []


def test_windows_are_in_the_grid_of_the_store(slide: Slide) -> None:
    canvas = Canvas(grid_shape(slide.shape, 2))
    plan = plan_slide(slide, MODEL.card, Region(0, 0, *slide.shape), block=128)
    list(
        segment_slide(
            slide, MODEL, MODEL.load(), PROFILE, canvas.write, store_downsample=2, plan=plan
        )
    )
    single = to_store_window(
        segment_region(slide, MODEL, Region(0, 0, *slide.shape), PROFILE), slide.shape, 2
    )
    np.testing.assert_array_equal(canvas.classes, single.classes)


def test_a_region_outside_is_refused(slide: Slide) -> None:
    with pytest.raises(ConfigError, match="outside the slide"):
        plan_slide(slide, MODEL.card, Region(9000, 0, 5, 5))


def test_the_record_of_a_run_is_plain_json(slide: Slide) -> None:
    @dataclass(frozen=True)
    class Named(StandIn):
        hash: str = "f" * 64

    record = run_record(
        slide,
        Named(MODEL.card, MODEL.network),  # type: ignore[arg-type]
        PROFILE,
        Region(1, 2, 3, 4),
        {"total": 2.0},
    )
    assert json.loads(json.dumps(record)) == record
    assert record["region"] == [1, 2, 3, 4]
    assert record["slide"]["hash"] == slide.hash
    assert record["profile"] == PROFILE.to_dict()
