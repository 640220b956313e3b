"""Label, macro and thumbnail: the same as OpenSlide gives, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.openslide_reader import open_with_openslide
from napari_genselfdiff.slides.slide import Slide, open_slide

SAMPLE = sample_path("cmu_small_region")


def test_pictures_are_those_of_openslide() -> None:
    pytest.importorskip("openslide")
    with (
        open_slide(SAMPLE) as ours,
        Slide(SAMPLE, open_with_openslide(SAMPLE, "Aperio")) as theirs,
    ):
        assert ours.associated_names == theirs.associated_names == ("label", "macro", "thumbnail")
        for name in ours.associated_names:
            np.testing.assert_array_equal(ours.associated(name), theirs.associated(name))


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40, 3), np.uint8))
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.associated_names == ()
        with pytest.raises(ConfigError, match=r"a\.tif has no picture 'label', only none"):
            slide.associated("label")


@pytest.mark.parametrize("how", ["cut short", "damaged"])
def test_a_damaged_picture_is_an_error_and_the_slide_stays(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.svs"
    data = bytearray(SAMPLE.read_bytes())
    with tifffile.TiffFile(SAMPLE) as tif:
        number = next(i for i, p in enumerate(tif.pages) if "macro" in str(p.aspage().description))
        page = tif.pages[number].aspage()
        start, count = page.dataoffsets[0], page.databytecounts[0]
        tag = page.tags["StripByteCounts"]
    if how == "damaged":
        data[start : start + count] = bytes(count)
    else:
        assert tag.count > 1
        data[tag.valueoffset : tag.valueoffset + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match=how) as caught:
            slide.associated("macro")
        assert "\n" not in str(caught.value)
        assert slide.associated("label").ndim == 3
        assert slide.thumbnail(100)[0].std() > 0
