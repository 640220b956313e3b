"""Labels layers come back from OME-TIFF exactly as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff._writer import write_labels_tiff
from napari_genselfdiff.errors import ExchangeError

MICRONS = {"scale": (0.5, 0.5), "units": ("micrometer", "micrometer"), "name": "Nuclei"}


@given(
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    highest=st.sampled_from([1, 255, 256, 65535, 65536]),
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "int32", "int64", "bool"]),
)
def test_every_value_comes_back(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, highest: int, dtype: str
) -> None:
    rng = np.random.default_rng(height * 601 + width)
    limit = min(highest, 1 if dtype == "bool" else int(np.iinfo(dtype).max))
    labels = rng.integers(0, limit, (height, width), endpoint=True).astype(dtype)
    path = tmp_path_factory.mktemp("out") / "labels.tif"
    assert write_labels_tiff(str(path), labels, {}) == [str(path)]
    found = tifffile.imread(path)
    assert found.dtype.kind == "u"
    np.testing.assert_array_equal(found, labels)


def test_pyramid_is_written_at_its_sharpest_with_its_size(tmp_path: Path) -> None:
    level = zarr.array(np.arange(700 * 900, dtype=np.uint32).reshape(700, 900), chunks=(256, 256))
    path = tmp_path / "labels.ome.tif"
    write_labels_tiff(str(path), [level, level[::2, ::2]], {**MICRONS, "multiscale": True})
    with tifffile.TiffFile(path) as tif:
        np.testing.assert_array_equal(tif.asarray(), level[:])
        assert tif.is_ome
        assert 'PhysicalSizeX="0.5"' in str(tif.ome_metadata)
        assert tif.pages.first.tags["XResolution"].value == (20000, 1)


@pytest.mark.parametrize(
    ("labels", "says"),
    [(np.zeros((2, 3, 4), np.uint8), "3 axes"), (np.full((3, 3), -1), "-1")],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, labels: Any, says: str) -> None:
    with pytest.raises(ExchangeError, match=says):
        write_labels_tiff(str(tmp_path / "labels.tif"), labels, {})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.tif"
    path.write_bytes(b"old")

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(ExchangeError, match=r"labels\.tif cannot be written: No space left"):
        write_labels_tiff(str(path), np.zeros((3, 3), np.uint8), {})
    assert path.read_bytes() == b"old"
