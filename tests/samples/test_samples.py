"""The shipped samples are whole, belong together and leave the package folder alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.samples import FIELD, copy_sample, sample_path


def test_labels_fit_the_labelled_slide() -> None:
    with tifffile.TiffFile(sample_path("tnbc_pyramid")) as tif:
        shapes = [level.shape for level in tif.series[0].levels]
        rgb = tif.series[0].asarray()
    instances = np.asarray(Image.open(sample_path("tnbc_pyramid_masks")))
    assert shapes == [(1536, 2048, 3), (768, 1024, 3), (384, 512, 3)]
    assert instances.shape == rgb.shape[:2]
    assert len(np.unique(instances)) == 1 + 1206
    # Nuclei are darker than what surrounds them: the masks lie where the nuclei are.
    assert rgb[instances > 0].mean() < rgb[instances == 0].mean() - 30


def test_fields_that_do_not_exist_are_white_and_unlabelled() -> None:
    instances = np.asarray(Image.open(sample_path("tnbc_pyramid_masks")))
    rgb = tifffile.imread(sample_path("tnbc_pyramid"))
    for row in (0, 1):
        box = np.s_[row * FIELD : (row + 1) * FIELD, 3 * FIELD :]
        assert not instances[box].any()
        assert rgb[box].min() == 255


def test_every_sample_is_named_with_its_licence() -> None:
    sources = (sample_path("tnbc_pyramid").parent / "SOURCES.md").read_text(encoding="utf-8")
    for name in ("cmu_small_region", "tnbc_pyramid", "tnbc_pyramid_masks"):
        row = next(r for r in sources.splitlines() if f"`{sample_path(name).name}`" in r)
        assert "CC" in row


def test_copy_is_made_once_and_mended_when_cut(tmp_path: Path) -> None:
    copy = copy_sample("cmu_small_region", tmp_path / "samples")
    assert copy.read_bytes() == sample_path("cmu_small_region").read_bytes()
    before = copy.stat().st_mtime_ns
    assert copy_sample("cmu_small_region", tmp_path / "samples").stat().st_mtime_ns == before
    copy.write_bytes(b"cut")
    copy_sample("cmu_small_region", tmp_path / "samples")
    assert copy.stat().st_size == sample_path("cmu_small_region").stat().st_size
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]


def test_unknown_sample_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="tnbc_pyramid"):
        sample_path("nothing")
