"""Scanner formats through OpenSlide: the contract of every reader, on files written by hand.

The real NDPI and DICOM files of the data folder are read in `test_slide.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide
from tests.slides.dicom import write_dicom
from tests.slides.scn import write_scn
from tests.slides.test_slide import RGB, SlideContract, halved, tissue
from tests.slides.vendors import write_bif, write_mrxs, write_ndpi, write_vms

__all__ = ["tissue"]  # the fixture the contract asks for

pytest.importorskip("openslide")


class OpenSlideContract(SlideContract):
    """What OpenSlide reads, and how it goes on after an error, which kills its handle."""

    reader = "openslide"
    tolerance = 6  # JPEG of the best quality

    def test_handle_is_replaced_after_an_error(
        self, slide: Slide, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import openslide

        with open_slide(slide.path) as other:
            handle: Any = other._source.levels[0]._handle  # type: ignore[attr-defined]
            dead, real = handle.slide, openslide.OpenSlide.read_region

            def read_region(self: Any, *args: Any) -> Any:
                if self is dead:
                    raise openslide.OpenSlideError("latched")
                return real(self, *args)

            monkeypatch.setattr(openslide.OpenSlide, "read_region", read_region)
            here = Region(0, 0, 400, 700)
            assert (other.read(here)[:, :512] == 255).all()
            assert handle.slide is not dead
            assert other.damaged_tiles == 1
            other.forget()
            np.testing.assert_array_equal(other.read(here), slide.read(here))

    def test_pixel_size(self, slide: Slide) -> None:
        assert slide.mpp == pytest.approx(0.3)
        assert not slide.mpp_assumed


class TiledContract(OpenSlideContract):
    """Formats in which every tile is a JPEG picture of its own."""

    def test_reads_on_after_damaged_tiles(self, slide: Slide, tmp_path: Path) -> None:
        """A file is spoilt while it is open, and mended again."""
        folder = Path(shutil.copytree(slide.path.parent, tmp_path / "copy"))
        file = max(folder.rglob("*"), key=lambda one: one.stat().st_size if one.is_file() else 0)
        sound, whole = file.read_bytes(), Region(0, 0, *slide.shape)
        middle = sound.find(b"\xff\xd8\xff", len(sound) // 2)
        with open_slide(folder / slide.path.name) as other:
            overwrite(file, middle, bytes(3))
            read, expected = other.read(whole), slide.read(whole)
            assert other.damaged_tiles > 0
            assert (read != expected).any()
            assert (read[(read != expected).any(axis=2)] == 255).all()
            assert any("could not be decoded" in text for text in other.warnings)
            overwrite(file, middle, sound[middle : middle + 3])
            other.forget()
            np.testing.assert_array_equal(other.read(whole), expected)


def overwrite(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)


def whole_tiles(rgb: RGB, tile: int) -> RGB:
    """The part that is a whole number of tiles."""
    height, width = (n // tile * tile for n in rgb.shape[:2])
    return np.ascontiguousarray(rgb[:height, :width])


class SeveralFiles:
    """Formats that are a folder of files."""

    def test_identity_survives_a_move(self, slide: Slide, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(slide.path.parent, tmp_path / "copy")) / slide.path.name
        with open_slide(copy) as other:
            assert other.hash == slide.hash


class TestNDPI(OpenSlideContract):
    """Hamamatsu's: one long JPEG picture a level."""

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_ndpi(path / "a.ndpi", [rgb, halved(rgb)], mpp=0.3)

    def test_smaller_copy_is_used(self, slide: Slide) -> None:
        assert slide.downsamples[:2] == (1.0, 2.0)  # OpenSlide adds smaller ones


class TestVMS(SeveralFiles, OpenSlideContract):
    """Hamamatsu's older one: JPEG pictures with restart markers."""

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, tissue: RGB) -> RGB:
        return whole_tiles(tissue, 32)

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_vms(path, rgb, halved(halved(rgb)))


class TestMRXS(SeveralFiles, TiledContract):
    """3DHISTECH's: empty tiles are not stored, and are white."""

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, tissue: RGB) -> RGB:
        part = whole_tiles(tissue, 128)
        part[128:256, 256:512] = 255
        return part

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        levels = [rgb, halved(rgb)]
        return write_mrxs(path, levels, tile=128, mpp=0.3)


class TestBIF(TiledContract):
    """Ventana's: tiles that its XML puts together."""

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, tissue: RGB) -> RGB:
        return whole_tiles(tissue, 128)

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_bif(path / "a.bif", [rgb, halved(rgb)], tile=128, mpp=0.3)

    def test_the_photograph_of_the_glass(self, slide: Slide) -> None:
        assert slide.associated_names == ("macro",)
        assert slide.associated("macro").shape[2] == 3


class TestSCN(TiledContract):
    """Leica's: a scan somewhere on a larger glass, which is white around it."""

    tolerance = 60  # colours are thinned out

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, tissue: RGB) -> RGB:
        return np.ascontiguousarray(tissue[:699, :915])

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "a.scn"
        return write_scn(file, rgb, corner=(0, 0), glass=(801, 960), nm=300)

    def expected(self, rgb: RGB) -> RGB:
        glass = np.full((801, 960, 3), 255, np.uint8)
        glass[:699, :915] = rgb
        return glass

    def test_bounds_are_the_scan(self, slide: Slide) -> None:
        assert slide.bounds == Region(0, 0, 699, 915)


class TestDICOM(OpenSlideContract):
    """Uncompressed DICOM; what OpenSlide does not read is in `test_dicom_reader.py`."""

    tolerance = 0

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        pytest.importorskip("pydicom")
        return write_dicom(path, [rgb, halved(rgb)], syntax="raw", label=rgb[:50, :70])

    def test_identity_survives_a_move(self, slide: Slide, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(slide.path, tmp_path / "another"))
        with open_slide(copy) as other:
            assert other.hash == slide.hash


@pytest.mark.skip(reason="neither a CZI file nor a library that writes one; OpenSlide reads them")
def test_czi_has_no_file_to_test_with() -> None:
    raise NotImplementedError
