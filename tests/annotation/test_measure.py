from __future__ import annotations

from pathlib import Path

import pytest

from napari_genselfdiff.annotation.measure import measure
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store


def test_counts_areas_and_shares(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert measure(store, "Cells").sentence == "Nothing is annotated yet."
    view = Region(0, 0, 100, 100)
    store.write_prediction("Cells", disks(view, (20, 20, 8), (60, 60, 9), value=7), model_hash="")
    store.accept("Cells", Region(0, 0, 25, 100))
    found = measure(store, "Cells")
    tumour, lymphocyte = found.classes
    assert (tumour.pixels, tumour.objects) == (0, 0)
    assert (lymphocyte.name, lymphocyte.objects) == ("Lymphocyte", 2)
    assert lymphocyte.area_um2 == pytest.approx(lymphocyte.pixels * 0.0625)
    assert found.annotated_um2 == pytest.approx(10_000 * 0.0625)
    assert found.checked_share == pytest.approx(0.25)
    assert found.sentence == "75 % model only, 25 % accepted, 0 % corrected by hand"
    before = store.read("Regions", Region(0, 0, 10, 10))
    after = before.copy()
    after.classes[...] = 2
    store.write_edit("Regions", before, after, what="Fill")
    stroma = measure(store, "Regions").classes[1]
    assert stroma.objects is None
    assert stroma.area_um2 == pytest.approx(100 * 1.0)  # the grid has 1 µm
