"""DICOM slides that OpenSlide does not read, tile by tile through wsidicom.

Such are JPEG-LS, RLE and lossless JPEG, grey and 16-bit pixels, and machines without OpenSlide.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.associated import MAX_PIXELS
from napari_genselfdiff.slides.colors import MAX_PROFILE_BYTES
from napari_genselfdiff.slides.levels import WHITE, Level, Tile, TileCache, TileDamagedError
from napari_genselfdiff.slides.metadata import mean_mpp
from napari_genselfdiff.slides.pixels import ToRGB, white_level
from napari_genselfdiff.slides.source import Source, level_downsample
from napari_genselfdiff.slides.tiff_level import JPEG, JPEG2000, TIFF_ERRORS, check_embedded_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

INSTALL = "pip install wsidicom imagecodecs"
_MAGIC_AT, _MAGIC = 128, b"DICM"
_MAX_FILES = 1000  # of a folder; a slide has some ten
_MAX_TILES = 2**24  # of one level; 10^6 x 10^6 pixels in tiles of 256
_MAX_TILE_BYTES = 256 * 2**20
_GROUP_SIDE = 256  # smaller tiles are decoded several at once
_LOOKS = 16
_MIB = 2**20
_JPEG_SYNTAXES = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
_JPEG2000_SYNTAXES = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})
_PICTURES = {"label": "label", "overview": "macro", "thumbnail": "thumbnail"}


def is_dicom(head: bytes) -> bool:
    """Whether a file's first bytes are those of a DICOM file."""
    return head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC


def dicom_files(folder: Path) -> list[Path]:
    """DICOM files of a folder by name; those called ``.dcm``, or where there are none, any."""
    files = sorted(path for path in folder.iterdir() if path.is_file())[:_MAX_FILES]
    named = [path for path in files if path.suffix.lower() == ".dcm"]
    return named or [path for path in files if _has_magic(path)]


def open_with_wsidicom(path: Path) -> Source:
    """Open the slide a DICOM file belongs to, with the other files of its folder.

    Raises
    ------
    SlideError
        If wsidicom is missing or cannot open it, or the files contradict each other.
    """
    source = _library_source(path)
    try:
        return _opened(path, source)
    except _errors() as error:
        source.close()
        if isinstance(error, SlideError):
            raise
        raise SlideError(f"{path.name} is not a usable DICOM slide: {_words(error)}") from error


def wsidicom_missing() -> bool:
    """Tell whether wsidicom is not installed."""
    try:
        import wsidicom  # noqa: F401
    except ImportError:
        return True
    return False


@dataclass(frozen=True, slots=True)
class _Image:
    """One image of a slide: what wsidicom knows of it, checked before anything is allocated."""

    data: Any
    dataset: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.data.image_size.height), int(self.data.image_size.width)

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a stored tile."""
        return int(self.data.tile_size.height), int(self.data.tile_size.width)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of stored tiles."""
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])

    def samples(self, row: int, column: int) -> NDArray[Any]:
        """Samples ``(h, w, S)`` of one stored tile.

        Raises
        ------
        TileDamagedError
            If it cannot be decoded, or is larger than the file says.
        """
        from wsidicom.geometry import Point

        data, at = self.data, Point(column, row)
        z, path = data.default_z, data.default_path
        try:
            if data.is_sparse(at, z, path):
                white = 2 ** int(data.bits) - 1
                return np.full((*self.tile, int(data.samples_per_pixel)), white, data.dtype)
            frame = data.get_encoded_tile(at, z, path)
            self._check(frame)
            with self.lock:  # some of its decoders keep the tile in hand in themselves
                samples = np.asarray(data.decoder.decode(frame))
        except SlideError:
            raise
        except _errors() as error:
            raise TileDamagedError(f"tile {row}, {column}: {_words(error)}") from error
        if samples.ndim == 2:
            samples = samples[..., None]
        if samples.ndim != 3 or samples.shape != (*self.tile, int(data.samples_per_pixel)):
            raise TileDamagedError(f"tile {row}, {column} has the shape {samples.shape}")
        return samples

    def _check(self, frame: bytes) -> None:
        syntax = str(self.data.transfer_syntax)
        if syntax in _JPEG_SYNTAXES:
            check_embedded_size(frame, min(JPEG), self.tile)
        elif syntax in _JPEG2000_SYNTAXES:
            check_embedded_size(frame, min(JPEG2000), self.tile)


class DicomLevel(Level):
    """Decodes tiles of one image; small ones are grouped."""

    def __init__(self, image: _Image, to_rgb: ToRGB, cache: TileCache, files: _Files) -> None:
        high, wide = image.tile
        self._group = max(1, _GROUP_SIDE // high), max(1, _GROUP_SIDE // wide)
        super().__init__(image.shape, (high * self._group[0], wide * self._group[1]), cache)
        self._image, self._to_rgb, self._files = image, to_rgb, files

    def decode(self, row: int, column: int) -> Tile:
        """Decode the stored tiles of one tile; damaged ones stay white and are counted."""
        self._files.check()
        out = np.full((*self.tile_shape, 3), WHITE, np.uint8)
        rows, columns = self._image.grid
        high, wide = self._image.tile
        top, left = row * self._group[0], column * self._group[1]
        for i in range(top, min(top + self._group[0], rows)):
            for j in range(left, min(left + self._group[1], columns)):
                try:
                    samples = self._image.samples(i, j)
                except TileDamagedError:
                    self._files.check()  # the reason may be that the slide was closed meanwhile
                    self.cache.report_damage((self, i, j))
                    continue
                height = min(high, self.shape[0] - i * high)
                width = min(wide, self.shape[1] - j * wide)
                y, x = (i - top) * high, (j - left) * wide
                out[y : y + height, x : x + width] = self._to_rgb(samples[:height, :width])
        return out


class _Files:
    """The open files; refuses reads once they are closed."""

    def __init__(self, name: str, source: Any) -> None:
        self._name, self._source, self._is_open = name, source, True

    def check(self) -> None:
        if not self._is_open:
            raise SlideError(f"{self._name} is closed; open it again")

    def close(self) -> None:
        self._is_open = False
        self._source.close()


def _library_source(path: Path) -> Any:
    """The slide's files, opened; of several slides in a folder those of this file's."""
    try:
        from wsidicom.file import WsiDicomFileSource
    except ImportError as error:
        raise SlideError(
            f"{path.name} is a DICOM slide, which needs wsidicom: {INSTALL}"
        ) from error
    for name in ("wsidicom", "pydicom"):  # which tell of every file that is none of the slide's
        logging.getLogger(name).setLevel(logging.CRITICAL)
    files = dicom_files(path.parent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = WsiDicomFileSource.open(files if path in files else [path, *files])
            same = _of_the_same_slide(path, source.readers)
            if len(same) < len(source.readers):
                source.close()
                source = WsiDicomFileSource.open(same)
    except _errors() as error:
        if isinstance(error, SlideError):
            raise
        raise SlideError(
            f"{path.name} is a DICOM file, but no slide that can be read: {_words(error)}"
        ) from error
    source.resize_cache(0)  # tiles are kept by our own cache
    return source


def _of_the_same_slide(path: Path, readers: list[Any]) -> list[str]:
    """Those of the series the file belongs to, each image once: folders may hold copies."""
    found = {str(reader.filepath): reader for reader in readers}
    if str(path) not in found:
        raise SlideError(f"{path.name} is a DICOM file, but no image of a slide")
    series = found[str(path)].uids.slide.series_instance
    names: dict[str, str] = {}
    for name in (str(path), *found):
        if found[name].uids.slide.series_instance == series:
            names.setdefault(str(found[name].uids.instance), name)
    return list(names.values())


def _opened(path: Path, source: Any) -> Source:
    images, notes = _levels(source.level_instances, path.name)
    cache, files = TileCache(), _Files(path.name, source)
    to_rgb, said = _conversion(images[-1])
    downsamples = [level_downsample(images[0].shape, image.shape) for image in images]
    usable = [i for i, downsample in enumerate(downsamples) if downsample is not None]
    if len(usable) < len(images):
        missing = len(images) - len(usable)
        notes.append(f"smaller copies of other proportions that are left out: {missing}")
    spacing = images[0].data.pixel_spacing
    return Source(
        reader="wsidicom",
        levels=tuple(DicomLevel(images[i], to_rgb, cache, files) for i in usable),
        downsamples=tuple(size for size in downsamples if size is not None),
        cache=cache,
        properties=_properties(images[0].dataset),
        mpp=None if spacing is None else mean_mpp(spacing.height * 1000, spacing.width * 1000),
        icc_profile=_icc(images[0].dataset),
        warnings=(*notes, *said),
        close=files.close,
        identity=_identity([image.dataset for image in images]),
        pictures=_pictures(source, path.name),
    )


def _levels(instances: Iterable[Any], name: str) -> tuple[list[_Image], list[str]]:
    """Images of the pyramid, sharpest first, one of each size."""
    by_size: dict[tuple[int, int], _Image] = {}
    notes, others = [], 0
    for instance in instances:
        _check_size(instance.dataset, name)
        image = _Image(instance.image_data, instance.dataset)
        if image.shape in by_size:
            others += 1
            continue
        by_size[image.shape] = image
    if not by_size:
        raise SlideError(f"{name}: no image of the slide is in these DICOM files")
    images = sorted(by_size.values(), key=lambda one: -one.shape[0] * one.shape[1])
    planes = len(images[0].data.focal_planes) * len(images[0].data.optical_paths) - 1
    if others or planes:
        notes.append(f"{max(others, planes)} further planes (channels or focus) are not shown")
    return images, notes


def _check_size(dataset: Any, name: str) -> None:
    """Refuse sizes that no file holds, before wsidicom makes a table of all tiles."""
    high, wide = int(dataset.tile_size.height), int(dataset.tile_size.width)
    height, width = int(dataset.image_size.height), int(dataset.image_size.width)
    if min(high, wide, height, width) < 1:
        raise SlideError(f"{name}: {height} x {width} pixels in tiles of {high} x {wide}")
    if high * wide * int(dataset.samples_per_pixel) * 2 > _MAX_TILE_BYTES:
        raise SlideError(f"{name}: tiles of {high} x {wide} pixels are too large to show a part")
    tiles = -(-height // high) * -(-width // wide)
    if max(tiles, int(dataset.frame_count) // 64) > _MAX_TILES:
        raise SlideError(
            f"{name}: says {height} x {width} pixels in tiles of {high} x {wide}, more than any "
            "slide has; the file is damaged"
        )


def _conversion(image: _Image) -> tuple[ToRGB, list[str]]:
    """How samples become colours, from a look at the smallest copy."""
    if image.data.dtype == np.uint8:
        return ToRGB(), []
    rows, columns = image.grid
    looks = []
    for number in sorted({i * rows * columns // _LOOKS for i in range(_LOOKS)}):
        try:
            looks.append(white_level(image.samples(number // columns, number % columns)))
        except TileDamagedError:
            continue
    white = max(looks, default=65535.0)
    return ToRGB(white=white), [f"uint16 samples are shown as 8-bit; {white:g} is white"]


def _properties(dataset: Any) -> dict[str, str]:
    """What the file says of the scanner; nothing of the patient."""
    names = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SeriesInstanceUID")
    stored = dataset.as_dataset()
    return {f"dicom.{name}": str(stored[name].value) for name in names if name in stored}


def _icc(dataset: Any) -> bytes | None:
    try:
        profile = dataset.as_dataset().OpticalPathSequence[0].ICCProfile
    except (AttributeError, LookupError, TypeError):
        return None
    return bytes(profile) if profile and len(profile) <= MAX_PROFILE_BYTES else None


def _identity(datasets: list[Any]) -> Callable[[], str]:
    """SHA-256 of the unique names DICOM gives to the images, and of their sizes."""
    parts = sorted(
        (str(dataset.instance_uid), int(dataset.image_size.height), int(dataset.image_size.width))
        for dataset in datasets
    )
    return lambda: hashlib.sha256(repr(parts).encode()).hexdigest()


def _pictures(source: Any, name: str) -> dict[str, Callable[[], NDArray[np.uint8]]]:
    found: dict[str, Callable[[], NDArray[np.uint8]]] = {}
    for kind, called in _PICTURES.items():
        try:
            for instance in getattr(source, f"{kind}_instances"):
                _check_size(instance.dataset, name)
                image = _Image(instance.image_data, instance.dataset)
                if image.shape[0] * image.shape[1] <= MAX_PIXELS:
                    found.setdefault(called, _Picture(image, name))
        except _errors():
            continue  # the slide itself may still be sound
    return found


class _Picture:
    """A picture decoded when it is asked for."""

    def __init__(self, image: _Image, name: str) -> None:
        self._image, self._name = image, name

    def __call__(self) -> NDArray[np.uint8]:
        image = self._image
        (rows, columns), (high, wide) = image.grid, image.tile
        out = np.full((rows * high, columns * wide, 3), WHITE, np.uint8)
        for i in range(rows):
            for j in range(columns):
                try:
                    rgb = ToRGB()(image.samples(i, j))
                except TileDamagedError as error:
                    raise SlideError(f"{self._name}: this picture is damaged: {error}") from error
                out[i * high : (i + 1) * high, j * wide : (j + 1) * wide] = rgb
        return np.ascontiguousarray(out[: image.shape[0], : image.shape[1]])


@functools.cache
def _errors() -> tuple[type[Exception], ...]:
    """What damaged files raise: builtin exceptions, and those of wsidicom and pydicom."""
    try:
        import pydicom.errors
        import wsidicom.errors
    except ImportError:
        return TIFF_ERRORS
    found = [*vars(pydicom.errors).values(), *vars(wsidicom.errors).values()]
    theirs = [one for one in found if isinstance(one, type) and issubclass(one, Exception)]
    return (*TIFF_ERRORS, *theirs)


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(_MAGIC_AT + 4))
    except OSError:
        return False


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
