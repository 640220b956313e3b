"""Checked pixels by class equal a count of the whole, whatever was changed in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_genselfdiff.annotation.store import ACCEPTED, AnnotationStore
from napari_genselfdiff.annotation.tasks import REGIONS
from napari_genselfdiff.session.checked import CheckedClasses
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import new_store


def whole_count(store: AnnotationStore) -> np.ndarray:
    window = store.read("Regions", Region(0, 0, *store.shape("Regions")))
    return np.bincount(window.classes[window.provenance >= ACCEPTED], minlength=256)


def paint(store: AnnotationStore, region: Region, value: int) -> None:
    before = store.read("Regions", region)
    after = before.copy()
    after.classes[...] = value
    store.write_edit("Regions", before, after, what="Brush")


def test_count_follows_every_change(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.add_task(REGIONS)
    side = min(store.shape("Regions"))
    regions: list[Region] = []
    store.events.changed.connect(lambda _task, region: regions.append(region))
    checked = CheckedClasses(store, "Regions")
    assert not checked.pixels.any()
    rng = np.random.default_rng(3)
    for number in range(12):
        y, x = (int(value) for value in rng.integers(0, side - 40, 2))
        if number % 4 == 3:
            store.undo()
        elif number % 4 == 2:
            store.accept("Regions", Region(y, x, 40, 40))
        else:
            paint(store, Region(y, x, 30, 36), 1 + number % 2)
        checked.refresh(regions[-1])
        turns = 0
        while not checked.work(0):
            turns += 1
            assert turns < 100
        assert checked.complete
        np.testing.assert_array_equal(checked.pixels, whole_count(store))
    assert checked.pixels[1:3].all()
