"""One level of a TIFF file: its tiles or strips, checked against the file, decoded one by one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.levels import WHITE, Level, Tile, TileCache, TileDamagedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.slides.pixels import ToRGB
    from napari_genselfdiff.slides.source import SourceFile

# What tifffile and the codecs raise on damaged files; the codecs' own errors are RuntimeErrors.
TIFF_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)

NONE = 1
JPEG = frozenset({7})
JPEG2000 = frozenset({33003, 33004, 33005, 34712})
APERIO_YCBCR = 33003
LOSSLESS = frozenset({NONE, 5, 8, 32773, 32946, 50000, 34926})
COMPRESSIONS = JPEG | JPEG2000 | LOSSLESS

_MAX_SEGMENT_BYTES = 256 * 2**20
_GROUP_SIDE = 256
_GROUP_BYTES = 8 * 2**20
_ROWS_OF_RAW = 64


@dataclass(frozen=True, slots=True)
class Plane:
    """The segments (tiles or strips) of one page, or of one of its sample planes.

    Attributes
    ----------
    page
        Decodes; its own offsets are not used.
    offsets, counts
        Where the encoded segments are, row by row.
    first
        The page's number of the first of them.
    raw
        Samples as they are in the file: shape and type of a segment's row, else None.
    """

    page: Any
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    first: int
    samples: int
    raw: np.dtype[Any] | None
    tables: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """Size of an image and of its segments, as a page's tags say and the file can hold."""

    shape: tuple[int, int]
    segment: tuple[int, int]
    planes: tuple[Plane, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of segments."""
        return (
            -(-self.shape[0] // self.segment[0]),
            -(-self.shape[1] // self.segment[1]),
        )

    def beyond(self, file_size: int) -> tuple[int, int]:
        """How many segments lie (partly) outside the file, and how many there are."""
        size = np.uint64(file_size)
        lost = sum(
            int(
                np.count_nonzero(
                    (p.counts > size) | (p.offsets > size - np.minimum(p.counts, size))
                )
            )
            for p in self.planes
        )
        return lost, sum(len(p.offsets) for p in self.planes)


def layout(pages: list[Any], name: str) -> Layout:
    """Check the pages that make up one level, one a channel, and describe their segments.

    Raises
    ------
    SlideError
        If the tags contradict each other or the file, or the compression is not supported.
    """
    page = pages[0].keyframe
    shape = int(page.imagelength), int(page.imagewidth)
    _check_kind(page, name)
    if page.is_tiled:
        segment = int(page.tilelength), int(page.tilewidth)
    else:
        segment = min(int(page.rowsperstrip), shape[0]), shape[1]
    if min(*shape, *segment) < 1:
        raise SlideError(f"{name}: an image of {shape} pixels in pieces of {segment} is impossible")
    if not page.is_tiled and all(_is_raw(one) for one in pages):
        return _raw_layout(pages, shape, name)
    nbytes = segment[0] * segment[1] * page.dtype.itemsize * page.samplesperpixel
    if nbytes > _MAX_SEGMENT_BYTES:
        raise SlideError(
            f"{name}: stored in pieces of {nbytes / 2**30:.1f} GiB; save it as a tiled TIFF"
        )
    result = Layout(shape, segment, tuple(p for one in pages for p in _planes(one, shape, segment)))
    rows, columns = result.grid
    needed = rows * columns * len(result.planes)
    held = {sum(len(getattr(one, k)) for one in pages) for k in ("dataoffsets", "databytecounts")}
    if held != {needed} or any(len(p.counts) != rows * columns for p in result.planes):
        raise SlideError(
            f"{name}: says {shape[0]} x {shape[1]} pixels, which takes {needed} pieces "
            f"of {segment[0]} x {segment[1]}, but holds {min(held)}"
        )
    return result


def _check_kind(page: Any, name: str) -> None:
    if page.compression not in COMPRESSIONS:
        kind = getattr(page.compression, "name", page.compression)
        raise SlideError(
            f"{name}: {kind} compression is not supported; save it as a JPEG-tiled TIFF"
        )
    if page.dtype is None or page.dtype.kind not in "buif" or page.imagedepth != 1:
        raise SlideError(f"{name}: {page.bitspersample}-bit samples of this kind are not supported")


def _is_raw(page: Any) -> bool:
    keyframe = page.keyframe
    return bool(
        keyframe.compression == NONE
        and keyframe.predictor == 1
        and keyframe.fillorder == 1
        and not keyframe.is_subsampled
        and keyframe.bitspersample in (8, 16, 32, 64)
        and page.is_contiguous
    )


def _planes(page: Any, shape: tuple[int, int], segment: tuple[int, int]) -> list[Plane]:
    keyframe = page.keyframe
    offsets = np.asarray(page.dataoffsets, dtype=np.uint64)
    counts = np.asarray(page.databytecounts, dtype=np.uint64)
    separate = keyframe.planarconfig == 2
    number = int(keyframe.samplesperpixel) if separate else 1
    each = -(-shape[0] // segment[0]) * -(-shape[1] // segment[1])
    tables = {"jpegtables": keyframe.jpegtables, "jpegheader": keyframe.jpegheader}
    keyframe.init_decode()
    return [
        Plane(
            page=keyframe,
            offsets=offsets[i * each : (i + 1) * each],
            counts=counts[i * each : (i + 1) * each],
            first=i * each,
            samples=1 if separate else int(keyframe.samplesperpixel),
            raw=None,
            tables=tables,
        )
        for i in range(number)
    ]


def _raw_layout(pages: list[Any], shape: tuple[int, int], name: str) -> Layout:
    """Cut uncompressed images into strips of our own, however long the file's are."""
    planes = []
    rows = min(_ROWS_OF_RAW, shape[0])
    for page in pages:
        keyframe = page.keyframe
        separate = keyframe.planarconfig == 2
        channels = int(keyframe.samplesperpixel)
        number, samples = (channels, 1) if separate else (1, channels)
        row_bytes = shape[1] * samples * keyframe.dtype.itemsize
        start, size = int(page.dataoffsets[0]), keyframe.parent.filehandle.size
        if start + number * shape[0] * row_bytes > size:
            raise SlideError(
                f"{name}: says {shape[0]} x {shape[1]} uncompressed pixels "
                f"({number * shape[0] * row_bytes} bytes), but the file has {size} bytes"
            )
        firsts = np.arange(0, shape[0], rows, dtype=np.uint64)
        heights = np.minimum(np.uint64(rows), np.uint64(shape[0]) - firsts)
        dtype = keyframe.dtype.newbyteorder(keyframe.parent.byteorder)
        for i in range(number):
            offsets = np.uint64(start + i * shape[0] * row_bytes) + firsts * np.uint64(row_bytes)
            counts = heights * np.uint64(row_bytes)
            planes.append(Plane(keyframe, offsets, counts, 0, samples, dtype, {}))
    return Layout(shape, (rows, shape[1]), tuple(planes))


class TiffLevel(Level):
    """Decodes tiles from a checked `Layout`; small segments are grouped into one tile."""

    def __init__(self, layout: Layout, file: SourceFile, to_rgb: ToRGB, cache: TileCache) -> None:
        high, wide = layout.segment
        rows_by_memory = max(1, _GROUP_BYTES // (high * wide * 3))
        self._group = (
            min(max(1, _GROUP_SIDE // high), rows_by_memory, layout.grid[0]),
            min(max(1, _GROUP_SIDE // wide), layout.grid[1]),
        )
        super().__init__(layout.shape, (high * self._group[0], wide * self._group[1]), cache)
        self._layout = layout
        self._file = file
        self._to_rgb = to_rgb

    def decode(self, row: int, column: int) -> Tile:
        """Decode the segments of one tile to 8-bit RGB; damaged ones stay white and are counted."""
        if self._group == (1, 1) and self._is_whole(row, column):
            rgb = self._to_rgb(self.samples(row, column))
            if rgb.shape[:2] == self.tile_shape:
                return np.ascontiguousarray(rgb)
        return self._assembled(row, column)

    def _is_whole(self, row: int, column: int) -> bool:
        """Tell whether a tile lies inside the level with all its pixels."""
        high, wide = self.tile_shape
        return (row + 1) * high <= self.shape[0] and (column + 1) * wide <= self.shape[1]

    def _assembled(self, row: int, column: int) -> Tile:
        out = np.full((*self.tile_shape, 3), WHITE, np.uint8)
        rows, columns = self._layout.grid
        high, wide = self._layout.segment
        for i in range(row * self._group[0], min((row + 1) * self._group[0], rows)):
            for j in range(column * self._group[1], min((column + 1) * self._group[1], columns)):
                try:
                    samples = self.samples(i, j)
                except TileDamagedError:
                    self.cache.report_damage((self, i, j))
                    continue
                y, x = i * high - row * self.tile_shape[0], j * wide - column * self.tile_shape[1]
                height = min(samples.shape[0], self.shape[0] - i * high)
                width = min(samples.shape[1], self.shape[1] - j * wide)
                out[y : y + height, x : x + width] = self._to_rgb(samples[:height, :width])
        return out

    def samples(self, i: int, j: int) -> NDArray[Any]:
        """Samples of one segment as stored, ``(height, width, S)``.

        Raises
        ------
        TileDamagedError
            If they cannot be decoded.
        """
        number = i * self._layout.grid[1] + j
        planes = [self._segment(plane, number) for plane in self._layout.planes]
        if len(planes) == 1:
            return planes[0]
        try:
            return np.concatenate(planes, axis=2)
        except ValueError as error:
            raise TileDamagedError(f"channels differ in size: {error}") from error

    def _segment(self, plane: Plane, number: int) -> NDArray[Any]:
        offset, count = int(plane.offsets[number]), int(plane.counts[number])
        high, wide = self._layout.segment
        decoded_bytes = high * wide * plane.samples * plane.page.dtype.itemsize
        if count == 0 or count > max(2 * decoded_bytes, 2**20):
            raise TileDamagedError(f"a piece of {count} bytes is impossible")
        data = self._file.read_at(offset, count)
        if plane.raw is not None:
            return np.frombuffer(data, plane.raw).reshape(-1, wide, plane.samples)
        check_embedded_size(data, plane.page.compression, (high, wide))
        try:
            pixels, _, _ = plane.page.decode(data, plane.first + number, **plane.tables)
        except TIFF_ERRORS as error:
            raise TileDamagedError(f"piece {number}: {error}") from error
        if pixels is None or pixels.ndim != 4 or pixels.shape[3] != plane.samples:
            raise TileDamagedError(f"piece {number} has another number of channels")
        return np.asarray(pixels[0])


def check_embedded_size(data: bytes, compression: int, segment: tuple[int, int]) -> None:
    """Refuse an embedded image larger than its tile before the codec allocates it.

    Raises
    ------
    TileDamagedError
        If the sizes do not fit.
    """
    if compression in JPEG:
        size = _jpeg_size(data)
    elif compression in JPEG2000:
        size = _jpeg2000_size(data)
    else:
        return  # the lossless decoders are told how much to give at most
    if size is None or size[0] > segment[0] or size[1] > segment[1]:
        raise TileDamagedError(f"a tile of {segment} pixels holds an image of {size}")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    return None


def _jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)  # in a JP2 box or bare
    if start < 0 or len(data) < start + 24:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    return bottom - top, right - left
