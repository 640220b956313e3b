"""Patches straight from slides: on tissue, from the right level, in bounded memory."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.weights import read_state
from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from napari_genselfdiff.learning.file_source import FileSource, Tissue, TissueCache, find_tissue
from napari_genselfdiff.learning.pretrain import pretrain
from napari_genselfdiff.learning.recipe import (
    ImageSet,
    PretrainRecipe,
    UnlabelledData,
    read_recipe,
)
from napari_genselfdiff.learning.run import RunOptions
from napari_genselfdiff.learning.slide_cache import SlideCache
from napari_genselfdiff.learning.sources import unlabelled_sources
from napari_genselfdiff.slides.slide import open_slide
from tests.learning import pictures, tiny

PLAIN = PatchConfig(size=64, mpp_range=(0.25, 0.25), rotate=False, flips=False, stain=None)


def source(path: Path, **changes: float | bool) -> FileSource:
    return FileSource(path, SlideCache(), TissueCache(), **changes)  # type: ignore[arg-type]


def grey_values(patch: torch.Tensor) -> tuple[int, int]:
    values = ((patch + 1) * 127.5).round()
    return int(values.min()), int(values.max())


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 2560² pixels whose only tissue is 512²: a 25th."""
    path = tmp_path_factory.mktemp("slides") / "lonely.tif"
    return pictures.write_slide(path, [pictures.slide_pixels()])


def test_every_patch_of_a_slide_lies_on_its_tissue(lonely: Path) -> None:
    images = PatchSampler([source(lonely)], PLAIN, 0).batch(range(40)).images
    values = (images + 1) * 127.5
    for patch in values:
        assert float((patch.amin(dim=0) < 235).float().mean()) > 0.2
    assert len({round(float(patch.mean()), 3) for patch in values}) > 30


def test_tissue_is_found_once_for_each_slide(lonely: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def counted(slide: object) -> Tissue:
        calls.append(lonely)
        return find_tissue(slide)  # type: ignore[arg-type]

    monkeypatch.setattr("napari_genselfdiff.learning.file_source.find_tissue", counted)
    PatchSampler([source(lonely)], PLAIN, 0).batch(range(20))
    assert len(calls) == 1


def test_tissue_places_are_in_level_0_pixels(lonely: Path) -> None:
    with open_slide(lonely) as slide:
        tissue = find_tissue(slide)
    rng = np.random.default_rng(0)
    spots = np.array([tissue.spot(rng) for _ in range(300)])
    assert spots.min(axis=0) == pytest.approx([1500, 500], abs=40)
    assert spots.max(axis=0) == pytest.approx([2012, 1012], abs=40)
    assert tissue.places.nbytes < 2**17


def test_the_tissue_cache_stays_within_its_bytes() -> None:
    cache = TissueCache(max_bytes=1000)
    for number in range(50):
        cache.put(Path(str(number)), Tissue(np.zeros(100, np.uint16), 10, 1.0))
    assert cache.nbytes <= 1000
    assert cache.get(Path("49")) is not None
    assert cache.get(Path("0")) is None


@pytest.mark.parametrize(("target", "level"), [(0.25, 0), (0.45, 0), (0.5, 1), (1.0, 2)])
def test_patches_come_from_the_nearest_finer_level(
    tmp_path: Path, target: float, level: int
) -> None:
    """Each level is one grey of its own, so a patch tells where it was read."""
    greys = [60, 120, 180]
    levels = [np.full((1024 >> n, 1024 >> n, 3), g, np.uint8) for n, g in enumerate(greys)]
    path = pictures.write_slide(tmp_path / "levels.tif", levels)
    config = PatchConfig(size=64, mpp_range=(target, target), rotate=False, stain=None)
    patch = PatchSampler([source(path)], config, 0).batch([0]).images[0]
    assert grey_values(patch) == (greys[level], greys[level])


def test_a_level_read_shows_the_same_place_as_level_0(tmp_path: Path) -> None:
    """The same indices from a pyramid and from its level 0 alone: the same pictures."""
    base = tiny.tissue(5, 1024)[0]
    smooth = np.repeat(np.repeat(pictures.halved(base, 3), 8, axis=0), 8, axis=1)
    pyramid = pictures.write_slide(
        tmp_path / "pyramid.tif", [smooth, pictures.halved(smooth, 1), pictures.halved(smooth, 2)]
    )
    flat = pictures.write_slide(tmp_path / "flat.tif", [smooth])
    config = PatchConfig(size=64, mpp_range=(1.0, 1.0), stain=None)
    one, other = (
        PatchSampler([source(path)], config, 0).batch(range(6)).images for path in (pyramid, flat)
    )
    assert float((one - other).abs().mean()) < 0.01
    assert float(one.std()) > 0.1


def test_a_slide_without_pyramid_is_averaged_for_a_coarse_patch(tmp_path: Path) -> None:
    """Zoom 16 reads the slide averaged, not 1024 pixels a side for 64; black and white → grey."""
    board = (np.indices((1024, 1024)).sum(axis=0) % 2 * 200 + 20).astype(np.uint8)
    path = pictures.write_slide(tmp_path / "flat.tif", [np.repeat(board[..., None], 3, axis=2)])
    config = PatchConfig(size=32, mpp_range=(4.0, 4.0), stain=None, rotate=False)
    low, high = grey_values(PatchSampler([source(path)], config, 0).batch([0]).images[0])
    assert 115 <= low <= high <= 125


def test_fluorescence_is_reported_and_passed_over(tmp_path: Path, lonely: Path) -> None:
    dark = np.zeros((2200, 2200, 3), np.uint8)
    dark[::9, ::9, 2] = 200
    path = pictures.write_slide(tmp_path / "dapi.tif", [dark])
    cuts = PatchSampler([source(path), source(lonely)], PLAIN, 0)
    cuts.batch(range(12))
    assert "fluorescence" in cuts.skipped[str(path)]


def test_a_slide_of_glass_alone_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = pictures.write_slide(tmp_path / "empty.tif", [pictures.glass(2100, 2100)])
    with pytest.raises(ConfigError, match=r"empty\.tif holds no tissue"):
        PatchSampler([source(path)], PLAIN, 0).batch([0])


def test_a_slide_without_pixel_size_where_it_is_needed(tmp_path: Path) -> None:
    path = pictures.write_slide(tmp_path / "nosize.tif", [tiny.tissue(1, 256)[0]], mpp=None)
    with pytest.raises(ConfigError, match=r"nosize\.tif does not say its pixel size.*data\.mpp="):
        PatchSampler([source(path, need_mpp=True)], PLAIN, 0).batch([0])
    PatchSampler([source(path, need_mpp=True, default_mpp=0.25)], PLAIN, 0).batch([0])
    PatchSampler([source(path)], PLAIN, 0).batch([0])


def test_a_file_that_is_cut_off_or_vanishes_is_told_once_and_passed_over(
    tmp_path: Path, lonely: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = tmp_path / "cut.tif"
    cut.write_bytes(lonely.read_bytes()[:3000])
    gone = tmp_path / "gone.svs"
    cuts = PatchSampler([source(cut), source(gone), source(lonely)], PLAIN, 0)
    assert cuts.batch(range(20)).images.shape[0] == 20
    assert set(cuts.skipped) == {str(cut), str(gone)}
    assert len([r for r in caplog.records if r.message.startswith("skipped")]) == 2


def test_slides_are_mixed_by_weight(tmp_path: Path) -> None:
    values = {"a": (80, 1.0), "b": (160, 3.0)}
    for name, (grey, _) in values.items():
        pictures.write_image(tmp_path / name / "x.png", np.full((100, 100, 3), grey, np.uint8))
    data = UnlabelledData(
        root=str(tmp_path),
        folders=(".",),
        mpp=0.25,
        sets=tuple(ImageSet(folder=n, weight=w) for n, (_, w) in values.items()),
    )
    images = PatchSampler(unlabelled_sources(data), PLAIN, 0).batch(range(400)).images
    share = float((images[:, 0, 0, 0] > 0).float().mean())
    assert 0.68 < share < 0.82


def many(folder: Path, count: int) -> list[Path]:
    """Slides of 1.5 MiB each when decoded."""
    pixels = tiny.tissue(1, 512)[0]
    return [
        pictures.write_slide(folder / f"{n:03}.tif", [np.roll(pixels, 7 * n, axis=1)])
        for n in range(count)
    ]


def test_many_slides_cost_no_more_than_few(tmp_path: Path) -> None:
    """40 slides through a cache for 4 open files and 3 MiB; none is opened at the start."""
    many(tmp_path, 40)
    sources = unlabelled_sources(UnlabelledData(folders=(str(tmp_path),)))
    cache = sources[0].cache
    assert all(s.cache is cache for s in sources)
    assert cache.n_open == 0
    cache.max_open, cache.max_bytes = 4, 3 * 2**20
    cuts = PatchSampler(sources, PLAIN, 0)
    for start in range(0, 160, 8):
        cuts.batch(range(start, start + 8))
        assert cache.n_open <= 4
        assert cache.nbytes <= 3 * 2**20


def test_a_small_cache_gives_the_same_patches_from_many_threads(tmp_path: Path) -> None:
    """A slide in use by one thread is never closed by another."""
    many(tmp_path, 12)
    data = UnlabelledData(folders=(str(tmp_path),))
    roomy, tight = unlabelled_sources(data), unlabelled_sources(data)
    tight[0].cache.max_open, tight[0].cache.max_bytes = 1, 1
    wanted = PatchSampler(roomy, PLAIN, 0).batch(range(96)).images
    cuts = PatchSampler(tight, PLAIN, 0)
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda n: cuts.batch(range(n, n + 8)).images, range(0, 96, 8))
        assert torch.equal(torch.cat(list(parts)), wanted)
    assert cuts.skipped == {}
    assert tight[0].cache.n_open <= 1


def test_images_in_memory_count_by_bytes_not_files(tmp_path: Path) -> None:
    for n in range(6):
        pictures.write_image(tmp_path / f"{n}.png", tiny.tissue(n, 256)[0])
    cache = SlideCache(max_bytes=3 * 256 * 256 * 3, max_open=1)
    for n in range(6):
        with cache.lend(tmp_path / f"{n}.png") as slide:
            assert slide.shape == (256, 256)
    assert cache.n_open == 0
    assert cache.nbytes == 3 * 256 * 256 * 3
    cache.close()
    assert cache.nbytes == 0


def test_a_lent_slide_survives_the_cache(tmp_path: Path) -> None:
    paths = many(tmp_path, 3)
    cache = SlideCache(max_bytes=1, max_open=0)
    with cache.lend(paths[0]) as first:
        with cache.lend(paths[1]):
            pass
        assert first.thumbnail(64)[0].shape == (64, 64, 3)
    with pytest.raises(SlideError, match="closed"):
        first.thumbnail(32)
    assert cache.n_open == 0


@pytest.mark.slow
def test_memory_of_a_thousand_slides_is_that_of_one(tmp_path: Path) -> None:
    """Resident memory, with 1,000 files of 2 MiB of pixels and a tissue mask each."""
    import gc

    import psutil

    pixels = np.concatenate([tiny.tissue(n, 320)[0] for n in range(8)])[:2304]
    for n in range(50):
        first = pictures.write_slide(tmp_path / f"{n:04}.tif", [np.roll(pixels, 31 * n, axis=1)])
        for copy in range(50 + n, 1000, 50):
            (tmp_path / f"{copy:04}.tif").hardlink_to(first)
    sources = unlabelled_sources(UnlabelledData(folders=(str(tmp_path),)))
    assert len(sources) == 1000
    sources[0].cache.max_bytes = 32 * 2**20
    process = psutil.Process()

    def grown(chosen: list[FileSource]) -> float:
        cuts = PatchSampler(chosen, PLAIN, 0)
        cuts.batch(range(16))
        gc.collect()
        before = process.memory_info().rss
        for start in range(16, 816, 16):
            cuts.batch(range(start, start + 16))
        gc.collect()
        return float(process.memory_info().rss - before) / 2**20

    grown(sources[:1])
    assert grown(sources) < 80  # the 550 that are read would be 1.2 GiB


def test_damaged_tiles_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = pictures.write_slide(tmp_path / "s.tif", [tiny.tissue(1, 512)[0]], compression="jpeg")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20000] = bytes(20000)
    path.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING):
        cuts = PatchSampler([source(path)], PLAIN, 0)
        for _ in range(2):
            cuts.batch(range(12))
    assert [r.message for r in caplog.records if "cannot be decoded" in r.message] == [
        f"{path}: some tiles cannot be decoded and are left white"
    ]


def test_threads_agree_on_one_open_slide(lonely: Path) -> None:
    cache, seen = SlideCache(), set()
    barrier = threading.Barrier(4)

    def use() -> None:
        barrier.wait()
        with cache.lend(lonely) as slide:
            seen.add(id(slide))
            slide.thumbnail(64)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert cache.n_open == 1


@pytest.mark.slow
def test_a_run_over_slides_resumes_to_the_same_weights(lonely: Path, tmp_path: Path) -> None:
    """Batches are made ahead when it stops, and one of the slides is broken."""
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "a.tif").write_bytes(lonely.read_bytes())
    (folder / "b.tif").write_bytes(lonely.read_bytes()[:4000])
    pictures.write_image(folder / "c.png", tiny.tissue(1, 200)[0])
    recipe = read_recipe(
        PretrainRecipe,
        "open_cpu",
        [
            "data.list=", f'data.folders=["{folder}"]', "patch.size=32", "loop.total_images=8",
            "loop.batch=2", "loop.precision=fp32", "snapshots.every_images=2", "snapshots.tiles=0",
        ],
    )  # fmt: skip
    for _ in pretrain(recipe, tmp_path / "whole"):
        pass
    for report in pretrain(recipe, tmp_path / "parts"):
        if report.images_seen == 4:
            break
    for _ in pretrain(recipe, tmp_path / "parts", RunOptions(resume=True)):
        pass
    one, other = (read_state(tmp_path / n / "weights.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "b.tif" in (tmp_path / "parts" / "skipped.txt").read_text()
