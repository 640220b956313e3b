"""One contract for every kind of slide, and opening by content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.slides.geometry import Region, grid_shape
from napari_genselfdiff.slides.slide import Slide, open_slide, slide_info

RGB = NDArray[np.uint8]
Tissue = Callable[..., tuple[RGB, NDArray[np.uint16]]]
HEIGHT, WIDTH = 701, 917
DOWNSAMPLES = [0.5, 0.37, 1.0, 1.0005, 1.9976, 2.0, 3.3, 4.0, 17.25]


def halved(image: RGB) -> RGB:
    """Area-average by two, dropping an odd last row and column, as scanners do."""
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2].astype(np.uint16)
    quads = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return np.asarray((quads + 2) // 4, dtype=np.uint8)


@pytest.fixture(scope="module")
def tissue(make_tissue: Tissue) -> RGB:
    return make_tissue(HEIGHT, WIDTH, seed=3, nuclei=60)[0]


class SlideContract:
    """Every reader passes these; a subclass writes its kind of file in ``write``."""

    tolerance = 0  # grey levels between what was written and what is read
    reader = "tiff"

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        """Write ``rgb`` below the folder ``path``; return the file."""
        raise NotImplementedError

    def expected(self, rgb: RGB) -> RGB:
        """What should be read from the file."""
        return rgb

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, tissue: RGB) -> RGB:
        return tissue

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory, truth: RGB) -> Iterator[Slide]:
        with open_slide(cls.write(tmp_path_factory.mktemp("slide"), truth)) as slide:
            yield slide

    def test_pixels_are_those_written(self, slide: Slide, truth: RGB) -> None:
        read = slide.read(Region(0, 0, *slide.shape))
        expected = self.expected(truth)
        assert read.shape == expected.shape
        assert read.dtype == np.uint8
        assert np.abs(read.astype(int) - expected).max() <= self.tolerance
        assert slide.reader == self.reader

    def test_levels_shrink_and_downsamples_fit(self, slide: Slide) -> None:
        areas = [height * width for height, width in slide.level_shapes]
        assert areas == sorted(areas, reverse=True)
        assert slide.downsamples[0] == 1.0
        assert list(slide.downsamples) == sorted(set(slide.downsamples))
        for shape, downsample in zip(slide.level_shapes, slide.downsamples, strict=True):
            assert np.allclose(np.array(shape) * downsample, slide.shape, atol=2 * downsample)

    def test_levels_are_read_only_zarr_arrays(self, slide: Slide) -> None:
        for array, shape in zip(slide.levels, slide.level_shapes, strict=True):
            assert array.shape == (*shape, 3)
            assert array.dtype == np.uint8
            assert array.ndim == 3
        with pytest.raises((SlideError, ValueError)):
            slide.levels[0][0, 0] = 0

    def test_zarr_equals_read(self, slide: Slide) -> None:
        region = Region(13, 29, 411, 300)
        np.testing.assert_array_equal(
            slide.levels[0][(*region.slices, slice(None))], slide.read(region)
        )
        coarsest = slide.levels[-1]
        downsample = slide.downsamples[-1]
        whole = slide.read(Region(0, 0, *coarsest.shape[:2]), downsample)
        np.testing.assert_array_equal(coarsest[:], whole)

    def test_outside_is_white(self, slide: Slide) -> None:
        height, width = slide.shape
        for downsample in (0.5, 1.0, 1.9976, 4.0):
            rows, columns = grid_shape((height, width), downsample)
            read = slide.read(Region(-3, -5, rows + 9, columns + 11), downsample)
            assert (read[:3] == 255).all()
            assert (read[:, :5] == 255).all()
            assert (read[rows + 3 :] == 255).all()
            assert (read[:, columns + 5 :] == 255).all()
            assert (read[3:8, 5:10] < 255).any()
        assert (slide.read(Region(10**7, 10**7, 5, 5)) == 255).all()

    @settings(
        max_examples=15,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(data=st.data())
    def test_part_equals_crop(self, slide: Slide, data: st.DataObject) -> None:
        downsample = data.draw(st.sampled_from(DOWNSAMPLES) | st.floats(0.3, 9.0))
        rows, columns = grid_shape(slide.shape, downsample)
        outer = Region(
            data.draw(st.integers(-20, rows)), data.draw(st.integers(-20, columns)), 60, 70
        )
        y, x = data.draw(st.integers(0, 59)), data.draw(st.integers(0, 69))
        height, width = data.draw(st.integers(1, 60 - y)), data.draw(st.integers(1, 70 - x))
        inner = Region(outer.y + y, outer.x + x, height, width)
        crop = slide.read(outer, downsample)[y : y + height, x : x + width]
        np.testing.assert_array_equal(slide.read(inner, downsample), crop)

    def test_threads_read_the_same(self, slide: Slide) -> None:
        regions = [Region(y, x, 200, 200) for y in range(0, 600, 150) for x in range(0, 800, 200)]
        alone = [slide.read(region, 1.5) for region in regions]
        slide._source.cache.clear()
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda region: slide.read(region, 1.5), regions * 3))
        for one, other in zip(alone * 3, together, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_thumbnail_keeps_the_whole(self, slide: Slide) -> None:
        image, downsample = slide.thumbnail(200)
        assert max(image.shape[:2]) == 200
        assert image.shape[:2] == grid_shape(slide.shape, downsample)
        small, one = slide.thumbnail(5000)
        assert (one, small.shape[:2]) == (1.0, slide.shape)

    def test_info_is_json(self, slide: Slide) -> None:
        info = json.loads(json.dumps(slide_info(slide)))
        assert list(info) == [
            "schema", "path", "hash", "levels", "mpp", "mpp_assumed", "reader", "bounds", "warnings"
        ]  # fmt: skip
        assert info["levels"][0] == {
            "height": slide.shape[0],
            "width": slide.shape[1],
            "downsample": 1.0,
        }
        assert len(info["hash"]) == 64
        assert info["warnings"] == slide.warnings

    def test_identity_survives_a_move(self, slide: Slide, tmp_path: Path) -> None:
        if slide.path.is_dir() or slide.path.suffix == ".dcm":
            pytest.skip("several files belong together")
        moved = tmp_path / f"other{slide.path.suffix}"
        shutil.copy(slide.path, moved)
        with open_slide(moved) as again:
            assert again.hash == slide.hash

    def test_closed_slide_says_so(self, slide: Slide) -> None:
        with open_slide(slide.path) as again:
            pass
        if self.reader != "image":
            with pytest.raises(SlideError, match="closed"):
                again.read(Region(0, 0, 10, 10))


def write_pyramid(path: Path, rgb: RGB, **options: Any) -> Path:
    """Write three tiled levels as consecutive images."""
    with tifffile.TiffWriter(path) as tif:
        level = rgb
        for index in range(3):
            settings_ = {"tile": (128, 128), "photometric": "rgb", "metadata": None, **options}
            if index:
                settings_.pop("description", None)
            tif.write(level, **settings_)
            level = halved(level)
    return path


class TestAperio(SlideContract):
    tolerance = 60  # JPEG

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "aperio.svs"
        text = "Aperio Image Library v12\r\n917x701 (128x128) JPEG Q=95|AppMag = 40|MPP = 0.2501"

        def options() -> dict[str, Any]:
            """Give new ones: tifffile writes into them."""
            return {
                "tile": (128, 128),
                "photometric": "rgb",
                "compression": "jpeg",
                "compressionargs": {"level": 95},
                "metadata": None,
            }

        with tifffile.TiffWriter(file) as tif:
            tif.write(rgb, description=text, **options())
            tif.write(halved(halved(rgb))[:100, :200], photometric="rgb", metadata=None)
            tif.write(halved(rgb), **options())
            tif.write(halved(halved(rgb)), **options())
            tif.write(rgb[:80, :300], photometric="rgb", subfiletype=9, metadata=None)
        return file

    def test_metadata(self, slide: Slide) -> None:
        assert slide.downsamples == (1.0, 2.0, 4.0)
        assert slide.mpp == 0.2501
        assert not slide.mpp_assumed
        assert slide.properties["aperio.AppMag"] == "40"

    def test_user_may_know_better(self, slide: Slide) -> None:
        with open_slide(slide.path, mpp=0.5) as other:
            assert (other.mpp, other.mpp_assumed) == (0.5, True)
        with open_slide(slide.path, mpp=0.2501) as same:
            assert (same.mpp, same.mpp_assumed) == (0.2501, False)

    def test_other_process_reads_the_same(self, slide: Slide) -> None:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            read = pool.submit(_read_there, str(slide.path), 0.25).result(timeout=60)
        np.testing.assert_array_equal(read, slide.read(Region(5, 6, 70, 80), 1.9976))


def _read_there(path: str, mpp: float) -> RGB:
    with open_slide(path, mpp=mpp) as slide:
        return slide.read(Region(5, 6, 70, 80), 1.9976)


class TestGenericPyramid(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_pyramid(
            path / "generic.tif",
            rgb,
            compression="zlib",
            resolution=(20_000, 20_000),
            resolutionunit="CENTIMETER",
        )

    def test_metadata(self, slide: Slide) -> None:
        assert slide.downsamples == (1.0, 2.0, 4.0)
        assert slide.mpp == 0.5


class TestLZW(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_pyramid(path / "lzw.tif", rgb, compression="lzw", predictor=True)


class TestZstdBigEndianBigTIFF(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "big.tif"
        with tifffile.TiffWriter(file, bigtiff=True, byteorder=">") as tif:
            tif.write(rgb, tile=(64, 64), photometric="rgb", compression="zstd", metadata=None)
        return file


class TestJPEG2000(SlideContract):
    tolerance = 0

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        return write_pyramid(path / "j2k.tif", rgb, compression="jpeg2000")


class TestOMESubIFD(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "sub.ome.tif"
        metadata = {
            "axes": "YXS",
            "PhysicalSizeX": 250.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.25,
            "PhysicalSizeYUnit": "µm",
        }
        options: dict[str, Any] = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"}
        with tifffile.TiffWriter(file) as tif:
            tif.write(rgb, subifds=2, metadata=metadata, **options)
            tif.write(halved(rgb), subfiletype=1, **options)
            tif.write(halved(halved(rgb)), subfiletype=1, **options)
        return file

    def test_metadata(self, slide: Slide) -> None:
        assert slide.downsamples == (1.0, 2.0, 4.0)
        assert slide.mpp == pytest.approx(0.25)


class TestOMEChannels(SlideContract):
    """Three planes of 16 bits, of which 12 are used."""

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "channels.ome.tif"
        planes = (rgb.transpose(2, 0, 1).astype(np.uint32) * 4095 + 127) // 255
        tifffile.imwrite(
            file,
            planes.astype(np.uint16),
            tile=(128, 128),
            photometric="minisblack",
            metadata={"axes": "CYX"},
        )
        return file

    def test_user_is_told(self, slide: Slide) -> None:
        assert any("4095 is white" in warning for warning in slide.warnings)


class TestGreyTiled(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "grey.tif"
        tifffile.imwrite(file, rgb[..., 1], tile=(128, 128), compression="zlib", metadata=None)
        return file

    def expected(self, rgb: RGB) -> RGB:
        return np.repeat(rgb[..., 1:2], 3, axis=2)


class TestStripped(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "strips.tif"
        tifffile.imwrite(
            file, rgb, photometric="rgb", rowsperstrip=7, compression="zlib", metadata=None
        )
        return file


class TestRawOneStrip(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "raw.tif"
        tifffile.imwrite(file, rgb, photometric="rgb", metadata=None)
        return file


class TestRawPlanar16BigEndian(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "planar.tif"
        planes = rgb.transpose(2, 0, 1).astype(np.uint16) * 257
        tifffile.imwrite(
            file, planes, photometric="rgb", planarconfig="separate", byteorder=">", metadata=None
        )
        return file


class TestPlanarTiled(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "planar_tiled.tif"
        tifffile.imwrite(
            file,
            rgb.transpose(2, 0, 1),
            photometric="rgb",
            planarconfig="separate",
            tile=(128, 64),
            compression="zlib",
            metadata=None,
        )
        return file


class TestFloat(SlideContract):
    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "float.tif"
        tifffile.imwrite(
            file, rgb.astype(np.float32) / 255, photometric="rgb", tile=(128, 128), metadata=None
        )
        return file


class TestPNG(SlideContract):
    reader = "image"

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "flat.png"
        Image.fromarray(rgb).save(file, dpi=(50_800, 50_800))
        return file

    def test_metadata(self, slide: Slide) -> None:
        assert slide.mpp == pytest.approx(0.5, rel=1e-4)


class TestJPEGImage(SlideContract):
    reader = "image"
    tolerance = 40

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "flat.jpg"
        Image.fromarray(rgb).save(file, quality=95, subsampling=0, dpi=(72, 72))
        return file

    def test_screen_resolution_is_no_pixel_size(self, slide: Slide) -> None:
        assert slide.mpp is None


class TestBMP(SlideContract):
    reader = "image"

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "flat.bmp"
        Image.fromarray(rgb).save(file)
        return file


class TestHalvedLevels(SlideContract):
    """A slide without smaller copies gets lazy ones."""

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, make_tissue: Tissue) -> RGB:
        return np.tile(make_tissue(256, 300, seed=3)[0], (4, 15, 1))[:1001, :4219]

    @classmethod
    def write(cls, path: Path, rgb: RGB) -> Path:
        file = path / "long.tif"
        tifffile.imwrite(file, rgb, photometric="rgb", tile=(256, 256), metadata=None)
        return file

    def test_stored_levels_alone_are_told(self, slide: Slide) -> None:
        assert slide.downsamples == (1.0, 2.0)
        assert len(slide_info(slide)["levels"]) == 1

    def test_halved_level_is_the_area_mean(self, slide: Slide, truth: RGB) -> None:
        read = slide.levels[1][:500, :2109]
        np.testing.assert_array_equal(read, halved(truth)[:500])


def test_scaling_down_is_the_area_mean(tmp_path: Path, make_tissue: Tissue) -> None:
    """Against a slow version in double precision."""
    rgb = make_tissue(90, 110, seed=1)[0]
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb", metadata=None)
    for downsample in (1.9976, 3.0, 5.7):
        with open_slide(tmp_path / "a.tif") as slide:
            rows, columns = grid_shape((90, 110), downsample)
            read = slide.read(Region(0, 0, rows, columns), downsample)
        padded = np.pad(rgb, ((0, 20), (0, 20), (0, 0)), constant_values=255).astype(float)
        wy, wx = _overlaps(rows, downsample, 110), _overlaps(columns, downsample, 130)
        slow = np.einsum("iy,yxc,jx->ijc", wy, padded, wx) / downsample**2
        assert np.abs(read - slow).max() < 0.75


def _overlaps(count: int, downsample: float, limit: int) -> NDArray[np.float64]:
    k = np.arange(limit)
    i = np.arange(count)[:, None]
    right = np.minimum(k + 1, (i + 1) * downsample)
    overlap: NDArray[np.float64] = np.clip(right - np.maximum(k, i * downsample), 0, None)
    return overlap


def test_scaling_up_interpolates(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 20, axis=0)
    tifffile.imwrite(tmp_path / "r.tif", np.repeat(ramp, 3, axis=2), photometric="rgb")
    with open_slide(tmp_path / "r.tif") as slide:
        read = slide.read(Region(0, 0, 40, 40), 0.5)
    np.testing.assert_array_equal(read[7, 1:7, 0], [3, 8, 13, 18, 23, 28])  # 2.5, 7.5, ... half up
    assert read[0, 0, 0] == 0
    assert read[39, 39, 0] == 190


def test_read_limits(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    with open_slide(tmp_path / "a.tif") as slide:
        for bad in (0.0, -1.0, float("nan")):
            with pytest.raises(ConfigError, match="downsample"):
                slide.read(Region(0, 0, 4, 4), bad)
        with pytest.raises(ConfigError, match="parts"):
            slide.read(Region(0, 0, 2**15, 2**15))
        with pytest.raises(ConfigError, match="thumbnail"):
            slide.thumbnail(0)
        for mpp in (0.01, 50.0, float("nan")):
            with pytest.raises(ConfigError, match="µm per pixel"):
                slide.assume_mpp(mpp)
        assert slide_info(slide)["mpp"] is None
        slide.assume_mpp(0.25)
        assert (slide.mpp, slide.mpp_assumed) == (0.25, True)


def test_bad_mpp_argument_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    with pytest.raises(ConfigError, match="µm per pixel"):
        open_slide(tmp_path / "a.tif", mpp=1e6)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.svs", b"dear pathologist, this is not a slide\r\n", "is a text file"),
        ("empty.svs", b"", "is empty"),
        ("slides.tif", b"PK\x03\x04" + bytes(50), "is a ZIP archive"),
        ("report.svs", b"%PDF-1.7" + bytes(50), "is a PDF"),
        ("what.xyz", bytes([0, 1, 2, 3]) * 30, "starts with the bytes 00 01 02 03"),
    ],
)
def test_what_is_no_slide(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=said) as caught:
        open_slide(tmp_path / name)
    assert "readable are SVS" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_plain_folder(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="cannot be read: No such file"):
        open_slide(tmp_path / "gone.svs")
    with pytest.raises(SlideError, match="folder without DICOM"):
        open_slide(tmp_path)


def test_extension_does_not_matter(tmp_path: Path, make_tissue: Tissue) -> None:
    rgb = make_tissue(64, 64)[0]
    Image.fromarray(rgb).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.svs")
    with open_slide(tmp_path / "a.svs") as slide:
        np.testing.assert_array_equal(slide.read(Region(0, 0, 64, 64)), rgb)


REAL = [
    "CMU-1-Small-Region.svs",
    "TCGA-CR-7395-01A-01-TS1.svs",
    "CPTAC-C3L-00601-26-lowmag.ome.tif",
    "OS-2-ndpi-ki67.ome.tif",
    "test3-DAPI-2-fluorescence.ndpi",
    "CMU-1-Small-Region-dicom",
]


@pytest.mark.parametrize("name", REAL)
class TestRealSlides:
    @pytest.fixture
    def slide(self, data_dir: Path, name: str) -> Iterator[Slide]:
        path = data_dir / "slides" / name
        if not path.exists():
            pytest.skip(f"{name} is not in the data folder")
        with open_slide(path) as slide:
            yield slide

    def test_levels_and_reads_agree(self, slide: Slide) -> None:
        region = Region(301, 403, 500, 300)
        np.testing.assert_array_equal(slide.levels[0][301:801, 403:703], slide.read(region))
        part = slide.read(Region(50, 60, 40, 30), 3.7)
        np.testing.assert_array_equal(part, slide.read(Region(40, 40, 90, 90), 3.7)[10:50, 20:50])
        assert slide.warnings == []

    def test_pixels_equal_openslide(self, slide: Slide) -> None:
        openslide = pytest.importorskip("openslide")
        if slide.path.is_dir() or openslide.OpenSlide.detect_format(str(slide.path)) is None:
            pytest.skip("OpenSlide does not read this file by itself")
        with openslide.OpenSlide(str(slide.path)) as other:
            for level, shape in enumerate(slide.level_shapes[: other.level_count]):
                height, width = shape[0] // 2, shape[1] // 2
                theirs = np.asarray(other.read_region((0, 0), level, (width, height)))
                ours = slide.read(Region(0, 0, height, width), slide.downsamples[level])
                np.testing.assert_array_equal(ours, theirs[..., :3])

    def test_pixel_size(self, slide: Slide, name: str) -> None:
        known = {REAL[0]: 0.499, REAL[3]: 0.2271, REAL[4]: 0.2282, REAL[5]: 0.499}
        if name in known:
            assert slide.mpp == pytest.approx(known[name], rel=1e-3)
        else:
            assert slide.mpp is None
