"""What napari is given when a slide is opened by File, drag and drop or in code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from napari_genselfdiff._reader import get_reader
from napari_genselfdiff.errors import SlideError


def test_slide_is_a_lazy_pyramid_in_micrometres(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_slide(tmp_path / "a.tif", 700, 900, mpp=0.5)
    reader = get_reader(str(path))
    assert reader is not None
    ((levels, shown, kind),) = reader(str(path))
    assert kind == "image"
    assert [level.shape for level in levels] == [(700, 900, 3), (350, 450, 3), (175, 225, 3)]
    assert all(isinstance(level, zarr.Array) for level in levels)
    assert shown["scale"] == pytest.approx((0.5, 0.5))
    assert shown["units"] == ("micrometer", "micrometer")
    assert shown["metadata"] == {"genselfdiff": {"path": str(path)}}


def test_several_slides_become_several_layers(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [str(make_slide(tmp_path / name, 300, 300)) for name in ("a.tif", "b.tif")]
    reader = get_reader(paths)
    assert reader is not None
    assert [layer[1]["name"] for layer in reader(paths)] == ["a.tif", "b.tif"]


def test_plain_picture_without_a_size_stays_in_pixels(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(tmp_path / "a.png")
    reader = get_reader(str(tmp_path / "a.png"))
    assert reader is not None
    ((data, shown, _kind),) = reader(str(tmp_path / "a.png"))
    assert data.shape == (40, 60, 3)
    assert shown["multiscale"] is False
    assert shown["units"] == ("pixel", "pixel")


@pytest.mark.parametrize("name", ["notes.txt", "table.csv", "labels.gsd.zarr", "noname"])
def test_other_files_are_left_to_others(name: str) -> None:
    assert get_reader(name) is None
    assert get_reader(["a.svs", name]) is None


def test_text_file_named_svs_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "report.svs"
    path.write_text("Dear colleague\n")
    reader = get_reader(str(path))
    assert reader is not None
    with pytest.raises(SlideError, match=r"report\.svs is a text file") as caught:
        reader(str(path))
    assert "\n" not in str(caught.value)
