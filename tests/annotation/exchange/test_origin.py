"""What exports say of themselves, also where the history of steps is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_genselfdiff.annotation.exchange.origin import origin
from napari_genselfdiff.annotation.journal import operation_path
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store

VIEW = Region(100, 90, 600, 700)


def test_models_and_what_was_checked_are_named(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for model in ("m1", "m2", "m1"):
        place = {"m1": 300, "m2": 500}[model] + len(store.history)
        store.write_prediction("Cells", disks(VIEW, (place, 300, 20)), model_hash=model)
    store.write_prediction("Nuclei", disks(VIEW, (300, 300, 20)), model_hash="other")
    store.accept("Cells", Region(100, 90, 300, 700))
    about = origin(store, "Cells")
    assert about["models"] == ["m1", "m2"]
    assert about["checked_share"] == 0.5
    assert about["shares"] == {"model": 0.5, "accepted": 0.5, "human": 0.0}
    assert about["checked_by"] == "50 % model only, 50 % accepted, 0 % corrected by hand"
    assert (about["mpp"], about["mpp_assumed"]) == (0.25, False)
    with pytest.raises(ConfigError, match="no task"):
        origin(store, "Moon")


def test_a_damaged_step_does_not_stop_an_export(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.write_prediction("Cells", disks(VIEW, (300, 300, 20)), model_hash="m1")
    store.write_prediction("Cells", disks(VIEW, (500, 300, 20)), model_hash="m2")
    store.close()
    operation_path(store.path, 1).write_bytes(b"no archive")
    again = AnnotationStore.open_read_only(store.path)
    assert origin(again, "Cells")["models"] == ["m2"]
