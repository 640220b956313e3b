"""Reading and writing the chunk files of a zarr array directly, one by one, in this thread.

Zarr itself goes through an event loop and worker threads for every chunk; on a busy machine the
hand-overs take longer than the work, and a brush stroke touches dozens of chunks. The files are
ordinary zarr v3 chunks (little-endian bytes, zstd, CRC-32C), which zarr writes and reads equally.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.checksum32 import CRC32C
from numcodecs.zstd import Zstd

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.files import Files

Slices = tuple[slice, ...]
ZSTD_LEVEL = 1
_ZSTD = Zstd(level=ZSTD_LEVEL)
_CRC = CRC32C(location="end")


class ChunkArray:
    """An array of unsigned integers in chunk files; chunks that are all 0 have none.

    Parameters
    ----------
    files
        Files of the store.
    key
        Path of the array in it.
    shape, chunks
        Of the array, and of one chunk.
    dtype
        Type of its elements, such as ``uint8``.
    """

    def __init__(
        self, files: Files, key: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str
    ) -> None:
        self.key, self.shape, self.chunks = key, shape, chunks
        self._files = files
        self._dtype = np.dtype(dtype).newbyteorder("<")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements, as :meth:`read` gives them."""
        return self._dtype.newbyteorder("=")

    def read(self, index: Slices) -> NDArray[Any]:
        """Values of a rectangle, clipped to the array.

        Raises
        ------
        StoreCorruptError
            If a chunk file does not hold a whole chunk; it stays as it is.
        """
        index = self._clipped(index)
        result = np.zeros([s.stop - s.start for s in index], self.dtype)
        for block, into, part in self._parts(index):
            values = self._load(block)
            if values is not None:
                result[into] = values[part]
        return result

    def __getitem__(self, index: Slices) -> NDArray[Any]:
        """Give a rectangle; :meth:`read` says the rest."""
        return self.read(index)

    def write(self, index: Slices, values: NDArray[Any]) -> None:
        """Replace a rectangle inside the array at once; each chunk file is replaced whole."""
        for block, source, part in self._parts(index):
            shape = self._block_shape(block)
            if values[source].shape == shape:
                chunk: NDArray[Any] = values[source]
            else:
                old = self._load(block)
                chunk = np.zeros(shape, self._dtype) if old is None else old[self._whole(shape)]
                if np.array_equal(chunk[part], values[source]):
                    continue
                chunk[part] = values[source]
            self._files.write(self._name(block), self._encode(chunk) if chunk.any() else None)

    def encode(
        self, start: tuple[int, ...], old: NDArray[Any], new: NDArray[Any]
    ) -> Iterator[tuple[str, bytes | None]]:
        """File names within the store and new bytes of the chunks that differ (None: no file).

        ``old`` and ``new`` have one shape, begin on a chunk and end on one or at the array's end.
        """
        index = tuple(slice(s, s + n) for s, n in zip(start, new.shape, strict=True))
        for block, source, _ in self._parts(index):
            values = new[source]
            if not np.array_equal(old[source], values):
                yield self._name(block), self._encode(values) if values.any() else None

    def paste(
        self, key: str, data: bytes | None, into: NDArray[Any], corner: tuple[int, ...]
    ) -> None:
        """Put what a chunk file holds (None: zeros) into the values of a rectangle.

        Parameters
        ----------
        key
            Name of the chunk within the store.
        data
            Its bytes.
        into
            Values of the rectangle, changed where the chunk covers it.
        corner
            Where the rectangle begins in the array.

        Raises
        ------
        StoreCorruptError
            If the bytes are not a whole chunk of this array.
        """
        block = tuple(int(part) for part in key.removeprefix(f"{self.key}/c/").split("/"))
        chunk = np.zeros(self.chunks, self._dtype) if data is None else self._decode(block, data)
        index = tuple(slice(c, c + n) for c, n in zip(corner, into.shape, strict=True))
        for found, place, part in self._parts(index):
            if found == block:
                into[place] = chunk[part]

    def _parts(self, index: Slices) -> Iterator[tuple[tuple[int, ...], Slices, Slices]]:
        """Chunks of a rectangle: number, its place in the rectangle, its part of the chunk."""
        ranges = [
            range(s.start // c, -(-s.stop // c)) for s, c in zip(index, self.chunks, strict=True)
        ]
        for block in itertools.product(*ranges):
            into, part = [], []
            for b, c, s in zip(block, self.chunks, index, strict=True):
                low, high = max(b * c, s.start), min((b + 1) * c, s.stop)
                into.append(slice(low - s.start, high - s.start))
                part.append(slice(low - b * c, high - b * c))
            yield block, tuple(into), tuple(part)

    def _clipped(self, index: Slices) -> Slices:
        return tuple(slice(*s.indices(size)[:2]) for s, size in zip(index, self.shape, strict=True))

    def _block_shape(self, block: tuple[int, ...]) -> tuple[int, ...]:
        """Part of a chunk that lies in the array."""
        return tuple(
            min((b + 1) * c, size) - b * c
            for b, c, size in zip(block, self.chunks, self.shape, strict=True)
        )

    @staticmethod
    def _whole(shape: tuple[int, ...]) -> Slices:
        return tuple(slice(n) for n in shape)

    def _name(self, block: tuple[int, ...]) -> str:
        """Key of a chunk's file."""
        return f"{self.key}/c/" + "/".join(map(str, block))

    def _encode(self, values: NDArray[Any]) -> bytes:
        chunk = np.zeros(self.chunks, self._dtype)
        chunk[self._whole(values.shape)] = values
        return bytes(_CRC.encode(_ZSTD.encode(chunk)))

    def _load(self, block: tuple[int, ...]) -> NDArray[Any] | None:
        """One whole chunk, writable; None if it has no file."""
        with disk_errors("read the annotations"):
            data = self._files.read(self._name(block))
        return None if data is None else self._decode(block, data)

    def _decode(self, block: tuple[int, ...], data: bytes) -> NDArray[Any]:
        chunk = np.empty(self.chunks, self._dtype)
        try:
            # With a place to put it, no more than a chunk is ever unpacked.
            _ZSTD.decode(_CRC.decode(data), out=chunk)
        except (ValueError, RuntimeError) as err:
            raise StoreCorruptError(damage(f"{self.key}, chunk {block}", str(err))) from err
        return chunk


def damage(what: str, why: str) -> str:
    """One line for bytes of a store that are not what they should be."""
    return (
        f"the annotations are damaged ({what}: {' '.join(why.split())[:120]}). Nothing was "
        "changed; restore the folder from a backup, or rename it to start anew"
    )
