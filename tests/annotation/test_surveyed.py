"""What a store tells of the whole slide, after any change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.annotation.store import ACCEPTED, AnnotationStore
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import new_store

WHOLE = Region(0, 0, 1300, 1100)


def known(store: AnnotationStore, tile: int) -> list[Region]:
    """Look at every pixel."""
    mask = store.read("Nuclei", WHOLE).provenance >= ACCEPTED
    tiles = [
        Region(y, x, tile, tile).clipped(mask.shape)
        for y in range(0, 1300, tile)
        for x in range(0, 1100, tile)
    ]
    return [box for box in tiles if box is not None and mask[box.slices].any()]


@pytest.mark.parametrize("tile", [100, 256, 700])
def test_known_tiles_are_those_with_a_known_pixel_after_every_step(
    tmp_path: Path, tile: int
) -> None:
    store, rng = new_store(tmp_path), np.random.default_rng(tile)
    for step in range(12):
        y, x, height, width = (int(n) for n in rng.integers(1, 900, 4))
        region = Region(y, x, min(height, 1300 - y) // 3 + 1, min(width, 1100 - x) // 3 + 1)
        if step % 4 == 3:
            store.undo()
        elif step % 4 == 2:
            store.clear_to_unknown("Nuclei", region.padded(200).clipped((1300, 1100)) or region)
        else:
            store.accept("Nuclei", region)
        assert store.known_regions("Nuclei", tile) == known(store, tile), step
