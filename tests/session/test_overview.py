"""The map shows everything a person checked, however little, and stays small."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_genselfdiff.annotation.store import ACCEPTED, HUMAN, AnnotationStore
from napari_genselfdiff.annotation.tasks import NUCLEI, REGIONS
from napari_genselfdiff.session.overview import known_overview, seen_places
from napari_genselfdiff.slides.geometry import Region


def new_store(folder: Path, side: int, task: str = "Regions") -> AnnotationStore:
    store = AnnotationStore.open(
        folder / "s.gsd.zarr",
        slide_path=folder / "s.svs",
        slide_hash="a" * 64,
        shape=(side, side * 3 // 4),
        mpp=0.25,
        mpp_assumed=False,
        author="anna",
    )
    store.add_task(REGIONS if task == "Regions" else NUCLEI)
    return store


def paint(store: AnnotationStore, y: int, x: int, side: int) -> None:
    before = store.read("Regions", Region(y, x, side, side))
    after = before.copy()
    after.classes[...] = 1
    store.write_edit("Regions", before, after, what="Brush")


@pytest.mark.parametrize("side", [700, 9_000, 100_000, 1_600_000])
def test_little_is_seen_on_every_slide(tmp_path: Path, side: int) -> None:
    store = new_store(tmp_path, side)
    height, width = store.shape("Regions")
    assert not known_overview(store, "Regions").any()
    paint(store, height // 3, width // 2, 12)
    paint(store, height - 12, width - 12, 12)
    store.accept("Regions", Region(height // 2, 5, 9, 9))
    known = known_overview(store, "Regions")
    assert max(known.shape) <= 512
    for y, x, value in (
        (height // 3, width // 2, HUMAN),
        (height - 3, width - 3, HUMAN),
        (height // 2, 5, ACCEPTED),
    ):
        row, column = y * known.shape[0] // height, x * known.shape[1] // width
        reach = 256 * known.shape[0] // height + 2
        near = known[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach]
        assert (near >= value).any()
    assert (known == HUMAN).sum() <= 2 * 12 * 12


@settings(max_examples=15, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 2900), st.integers(0, 2100)), max_size=6))
def test_every_chunk_with_something_has_a_pixel(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]]
) -> None:
    store = new_store(tmp_path_factory.mktemp("s"), 12_000)
    for y, x in places:
        paint(store, y, x, 20)
    known, step = (
        known_overview(store, "Regions"),
        2 ** (len(store.levels("Regions", "classes")) - 1),
    )
    coverage = store.coverage("Regions")
    side = 512 // step
    for row, column in np.argwhere(coverage[..., 2] > 0):
        block = known[row * side : row * side + side, column * side : column * side + side]
        assert (block == HUMAN).any()
    assert ((known == HUMAN).sum() > 0) == bool(places)


def test_a_map_of_a_large_slide_is_quick(tmp_path: Path) -> None:
    store = new_store(tmp_path, 100_000, "Nuclei")
    for number in range(20):
        store.accept("Nuclei", Region(number * 4000, number * 3000, 1200, 1600))
    known_overview(store, "Nuclei")
    best = min(_seconds(store) for _ in range(5))
    assert best < 0.04  # four times the budget of 10 ms


def _seconds(store: AnnotationStore) -> float:
    start = time.process_time()
    known_overview(store, "Nuclei")
    return time.process_time() - start


def test_places_are_told_newest_first_in_level_0(tmp_path: Path) -> None:
    store = new_store(tmp_path, 8000)
    store.accept("Regions", Region(10, 20, 30, 40))
    paint(store, 100, 100, 8)
    newest, oldest = seen_places(store, "Regions")
    assert store.downsample("Regions") == 4
    assert oldest.region0 == Region(40, 80, 120, 160)
    assert (oldest.look.who, oldest.look.what) == ("anna", "Accept view")
    assert newest.look.what == "Brush"
    store.undo()
    assert [place.look.what for place in seen_places(store, "Regions")] == ["Accept view"]
