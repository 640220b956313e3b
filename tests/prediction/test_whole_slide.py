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

from napari_genselfdiff.annotation.runs import RunFolder
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.window import Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction import plan as module
from napari_genselfdiff.prediction.plan import Plan, plan_slide
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.records import run_record
from napari_genselfdiff.prediction.region import segment_region, to_store_window
from napari_genselfdiff.prediction.whole_slide import SlideWork, pieces
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
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


def empty_run(folder: Path) -> RunFolder:
    for name in ("tiles", "blocks", "taken"):
        (folder / name).mkdir(parents=True)
    return RunFolder(folder)


def segment(
    slide: Slide,
    plan: Plan,
    folder: Path,
    write: Callable[[Window], object],
    downsample: int = 1,
    order: Callable[[list[int]], None] = lambda _: None,
) -> tuple[int, int]:
    """Answer for all tiles, decide on all blocks, in any order; tiles computed and objects."""
    run = empty_run(folder)
    work = SlideWork(slide, MODEL, MODEL.load(), PROFILE, run, plan.region, downsample)
    numbers = list(range(len(plan.blocks)))
    order(numbers)
    tiles = sum(work.predict(plan.fresh(n)).tiles for n in numbers)
    objects = 0
    order(numbers)
    for n in numbers:
        spent = work.decide(n, plan.blocks[n], plan.around(n), plan.needs(n))
        assert spent.tiles == 0
        objects += spent.objects
        found = run.read_block(n)
        assert found is not None
        assert found[1] == {"objects": spent.objects}
        write(found[0])
    return tiles, objects


@pytest.mark.parametrize("block", [64, 128, 192, 2048])
def test_blocks_equal_a_single_pass(
    slide: Slide, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARGIN", 64)
    region0 = Region(0, 0, *slide.shape)
    canvas = Canvas(slide.shape)
    plan = plan_slide(slide, MODEL.card, region0, block=block)
    tiles, objects = segment(slide, plan, tmp_path / "run", canvas.write)
    assert tiles == plan.total == 8 * 7
    single = to_store_window(segment_region(slide, MODEL, region0, PROFILE), slide.shape, 1)
    np.testing.assert_array_equal(canvas.classes, single.classes)
    assert single.objects is not None
    np.testing.assert_array_equal(canonical(canvas.objects), canonical(single.objects))
    assert objects == single.objects.max()
    assert objects > 30


@given(
    y=st.integers(0, 400),
    x=st.integers(0, 350),
    size=st.tuples(*[st.integers(1, 300)] * 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_a_region_equals_a_single_pass_in_any_order(
    slide: Slide,
    tmp_path_factory: pytest.TempPathFactory,
    y: int,
    x: int,
    size: tuple[int, int],
    seed: int,
) -> None:
    """The margin of 256 px is more than what is left out here, so the objects are equal, too."""
    region0 = Region(y, x, *size)
    canvas = Canvas(slide.shape)
    plan = plan_slide(slide, MODEL.card, region0, block=128)
    shuffle = np.random.default_rng(seed).shuffle
    segment(slide, plan, tmp_path_factory.mktemp("run") / "r", canvas.write, order=shuffle)
    window = to_store_window(segment_region(slide, MODEL, region0, PROFILE), slide.shape, 1)
    assert window.objects is not None
    part = window.region.slices
    np.testing.assert_array_equal(canvas.classes[part], window.classes)
    np.testing.assert_array_equal(canonical(canvas.objects[part]), canonical(window.objects))


@pytest.mark.parametrize(("downsample", "side"), [(1, None), (2, None), (1, 128)])
def test_the_annotations_hold_what_a_single_pass_gives(
    slide: Slide, tmp_path: Path, downsample: int, side: int | None, monkeypatch: pytest.MonkeyPatch
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

        def write(window: Window) -> None:
            for part in [window] if side is None else pieces(window, side):
                store.write_prediction(task.name, part, model_hash="0" * 64)

        segment(slide, plan, tmp_path / "run", write, downsample)
        stored = store.read(task.name, single.region)
    assert stored.objects is not None
    assert single.objects is not None
    np.testing.assert_array_equal(stored.classes, single.classes)
    np.testing.assert_array_equal(canonical(stored.objects), canonical(single.objects))


def test_every_tile_is_read_once(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARGIN", 64)
    read: list[Region] = []
    original = Slide.read

    def counted(self: Slide, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        read.append(region)
        return original(self, region, downsample)

    monkeypatch.setattr(Slide, "read", counted)
    plan = plan_slide(slide, MODEL.card, Region(0, 0, *slide.shape), block=128)
    segment(slide, plan, tmp_path / "run", lambda _: None)
    assert len(read) == len(set(read)) == 8 * 7


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
        segment(slide, plan, tmp_path / "run", canvas.write)
    assert (canvas.classes[900:1200, 1000:1300] > 0).any()
    assert not canvas.classes[:800].any()
    assert len(canvas.windows) < 6 * 8


def test_a_threshold_of_ones_own_moves_the_glass(slide: Slide) -> None:
    plans = [plan_slide(slide, MODEL.card, threshold=t) for t in (None, 0.0, 2.0)]
    assert [plan.total for plan in plans] == [8 * 7, 8 * 7, 0]


def test_stopping_ends_at_the_next_tile_and_goes_on_there(slide: Slide, tmp_path: Path) -> None:
    answers = iter([False, False, True])
    run = empty_run(tmp_path / "run")
    plan = plan_slide(slide, MODEL.card)
    work = SlideWork(slide, MODEL, MODEL.load(), PROFILE, run, plan.region, 1)
    spent = work.predict(plan.fresh(0), lambda: next(answers))
    assert (spent.tiles, spent.stopped) == (2, True)
    assert sum(run.has_tile(place) for place in plan.fresh(0)) == 2
    rest = work.predict(plan.fresh(0))
    assert (rest.tiles, rest.stopped) == (8 * 7 - 2, False)


def test_a_damaged_or_missing_answer_is_computed_again(slide: Slide, tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run")
    plan = plan_slide(slide, MODEL.card)
    work = SlideWork(slide, MODEL, MODEL.load(), PROFILE, run, plan.region, 1)
    windows = []
    for _ in range(2):
        work.decide(0, plan.blocks[0], plan.around(0), plan.needs(0))
        found = run.read_block(0)
        assert found is not None
        windows.append(found[0])
        (run.path / "tiles" / "0_0").write_bytes(b"nothing of use")
        run.drop_tiles([(1, 1)])
    np.testing.assert_array_equal(windows[0].ids, windows[1].ids)


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_a_damaged_block_counts_as_not_there(slide: Slide, tmp_path: Path, cut: int) -> None:
    run = empty_run(tmp_path / "run")
    ones = np.ones((40, 30), np.uint8)
    window = Window(Region(0, 0, 40, 30), ones, ones.astype(np.uint32), ones, {1: 0.75})
    run.write_block(7, window, {})
    found = run.read_block(7)
    assert found is not None
    assert found[0].confidences == {1: 0.75}
    path = run.path / "blocks" / "7"
    path.write_bytes(path.read_bytes()[:cut])
    assert run.read_block(7) is None


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


def test_a_small_biopsy_on_a_large_slide_is_no_dust(tmp_path: Path) -> None:
    """0.2 mm of tissue in 20 mm of glass, found; 0.03 mm of dirt, not."""
    import tifffile

    pixels = np.full((2500, 2500, 3), 243, np.uint8)
    pixels[700:725, 900:925] = (150, 60, 130)
    pixels[2000:2004, 300:304] = (150, 60, 130)
    tifffile.imwrite(
        tmp_path / "large.tif",
        pixels,
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
        resolution=(1e4 / 8, 1e4 / 8),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    with open_slide(tmp_path / "large.tif") as slide:
        found = module.find_tissue(slide)
    assert found.downsample == 1
    assert found.mask[705:720, 905:920].all()
    assert not found.mask[1990:2010].any()


def assert_equal_inside(canvas: Canvas, window: Window) -> None:
    """Equal but for a rim: a single pass also looks at what lies around a region."""
    part = window.region.slices
    inside = np.zeros(window.classes.shape, bool)
    inside[32:-32, 32:-32] = True
    np.testing.assert_array_equal(canvas.classes[part][inside], window.classes[inside])
    assert window.objects is not None
    ours, theirs = (np.where(inside, ids, 0) for ids in (canvas.objects[part], window.objects))
    np.testing.assert_array_equal(canonical(ours), canonical(theirs))
    assert len(np.unique(theirs)) > 50


@pytest.mark.parametrize(
    ("region0", "block"),
    [
        (Region(1000, 900, 500, 500), 256),
        pytest.param(Region(900, 700, 900, 800), 512, marks=pytest.mark.slow),
    ],
)
def test_blocks_equal_a_single_pass_on_real_tissue(
    tmp_path: Path, region0: Region, block: int
) -> None:
    model = Registry().resolve("default")
    with open_slide(sample_path("cmu_small_region")) as slide:
        plan = plan_slide(slide, model.card, region0, block=block)
        assert len(plan.blocks) >= 4
        run = empty_run(tmp_path / "run")
        canvas = Canvas(slide.shape)
        work = SlideWork(slide, model, model.load(), PROFILE, run, plan.region, 1)
        for n in range(len(plan.blocks)):
            work.decide(n, plan.blocks[n], plan.around(n), plan.needs(n))
            found = run.read_block(n)
            assert found is not None
            canvas.write(found[0])
        single = segment_region(slide, model, region0, PROFILE, segmenter=model.load())
    assert_equal_inside(canvas, to_store_window(single, slide.shape, 1))
