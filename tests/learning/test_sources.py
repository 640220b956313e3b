"""Sources made from a recipe's data section."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.recipe import LabelledData, LabelledSet, UnlabelledData
from napari_genselfdiff.learning.sources import labelled_sources, unlabelled_sources
from napari_genselfdiff.slides.geometry import Region
from tests.slides.test_colors import profile

if TYPE_CHECKING:
    from pathlib import Path


def write_pairs(folder: Path, stems: list[str]) -> None:
    """Small images of one colour each, and their masks."""
    for kind, shape in (("images", (40, 40, 3)), ("masks", (40, 40))):
        (folder / kind).mkdir(parents=True)
        for number, stem in enumerate(stems):
            dtype = np.uint8 if kind == "images" else np.uint16
            Image.fromarray(np.full(shape, number, dtype)).save(folder / kind / f"{stem}.png")


def test_images_left_out_are_not_trained_on(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set", ["01_1", "01_2", "05_1", "06_1"])
    part = LabelledSet(folder="set", leave_out=("05_*", "06_1"))
    sources = labelled_sources(LabelledData(root=str(tmp_path), sets=(part,)))
    assert [int(source.image[0, 0, 0]) for source in sources] == [0, 1]


def test_leaving_everything_out_is_an_error(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set", ["01_1"])
    part = LabelledSet(folder="set", leave_out=("*",))
    with pytest.raises(ConfigError, match="leaves nothing"):
        labelled_sources(LabelledData(root=str(tmp_path), sets=(part,)))


def test_colours_are_turned_where_the_recipe_says_so(tmp_path: Path) -> None:
    """Half of the light is 188 in sRGB (worked out in tests/slides/test_colors.py)."""
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    picture = Image.new("RGB", (32, 32), (128, 128, 128))
    picture.save(tmp_path / "set" / "images" / "a.png", icc_profile=profile())
    Image.new("L", (32, 32)).save(tmp_path / "set" / "masks" / "a.png")
    part = LabelledSet(folder="set")
    for colors, value in (("stored", 128), ("srgb", 188)):
        data = LabelledData.model_validate(
            {"root": str(tmp_path), "sets": (part,), "colors": colors}
        )
        assert abs(int(labelled_sources(data)[0].image[9, 9, 0]) - value) <= 1
        lake = UnlabelledData.model_validate(
            {"root": str(tmp_path), "folders": ("set/images",), "colors": colors}
        )
        read = unlabelled_sources(lake)[0].window(Region(0, 0, 9, 9))
        assert abs(int(read[4, 4, 1]) - value) <= 1
