"""File > Open Sample gives slides that can be annotated at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff import _sample_data
from napari_genselfdiff._sample_data import cmu_small_region, synthetic_slide, tnbc_pyramid
from napari_genselfdiff.samples.synthetic import write_synthetic_slide


def test_samples_are_copies_in_the_users_folder(home: Path) -> None:
    ((levels, shown, kind),) = cmu_small_region()
    assert kind == "image"
    level = levels[0] if isinstance(levels, list) else levels
    assert level.shape == (2967, 2220, 3)
    path = Path(shown["metadata"]["genselfdiff"]["path"])
    assert path.parent == home / "samples"
    assert shown["scale"][0] == 0.499


def test_labelled_sample_brings_its_true_nuclei_hidden_and_in_place() -> None:
    (nuclei, hidden, kind), (levels, shown, slide_kind) = tnbc_pyramid()
    assert (kind, slide_kind) == ("labels", "image")
    assert hidden["visible"] is False
    assert nuclei.shape == levels[0].shape[:2]
    assert hidden["scale"] == shown["scale"] == (0.25, 0.25)
    assert len(np.unique(nuclei)) == 1207


def test_a_large_slide_is_made_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def small(path: Path) -> None:
        made.append(path)
        write_synthetic_slide(path, (1, 2))

    monkeypatch.setattr("napari_genselfdiff.samples.synthetic.write_synthetic_slide", small)
    for _ in range(2):
        ((levels, shown, kind),) = synthetic_slide()
        assert kind == "image"
        assert levels[0].shape == (6144, 6144, 3)
        assert shown["scale"][0] == pytest.approx(0.499, abs=1e-3)
    assert made == [home / "samples" / "synthetic-slide.tif"]


def test_nothing_heavy_is_imported_before_a_sample_is_opened() -> None:
    assert not {"np", "zarr", "torch", "tifffile"} & set(vars(_sample_data))
