"""The network's answer for one tile as bytes: exact, small, and checked when it is read."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from numcodecs.blosc import Blosc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.prediction.network import Probabilities


class TileCodec:
    """Packs answers of one model.

    Parameters
    ----------
    classes
        Number of classes without background.
    side
        Of a tile in pixels.
    averaged
        Whether a mean over flips is kept, too.
    """

    def __init__(self, classes: int, side: int, *, averaged: bool) -> None:
        self._classes, self._averaged = classes, averaged
        planes = classes + 1 + (classes if averaged else 0)
        self._shape = planes, side, side
        self._codec = Blosc(cname="lz4", clevel=1, shuffle=Blosc.SHUFFLE)

    def encode(self, found: Probabilities, number: int) -> bytes:
        """Pack the answer for one tile of a batch."""
        # The background is what is left, and is left out.
        parts = [found.classes[number, 1:], found.distance[number][None]]
        if self._averaged:
            parts.append(found.mean[number, 1:])
        # Exact: the network's answers are rounded to float16 already.
        values = np.concatenate(parts).astype(np.float16)
        packed = bytes(self._codec.encode(values))
        return zlib.crc32(packed).to_bytes(4, "little") + packed

    def decode(self, data: bytes) -> Probabilities | None:
        """Give a batch of one; None if the bytes are not exactly what :meth:`encode` gave."""
        from napari_genselfdiff.prediction.network import Probabilities  # it imports torch

        values = self._unpacked(data)
        if values is None:
            return None
        numbers = values.astype(np.float32)[None]
        n = self._classes
        classes = _with_background(numbers[:, :n])
        mean = _with_background(numbers[:, n + 1 :]) if self._averaged else classes
        return Probabilities(classes, numbers[:, n], mean)

    def _unpacked(self, data: bytes) -> NDArray[np.float16] | None:
        packed = data[4:]
        if zlib.crc32(packed) != int.from_bytes(data[:4], "little") or len(packed) < 16:
            return None
        size = int(np.prod(self._shape)) * 2
        if int.from_bytes(packed[4:8], "little") != size:  # what Blosc would allocate
            return None
        try:
            raw = self._codec.decode(packed)
        except (RuntimeError, ValueError):
            return None
        return np.frombuffer(raw, np.float16).reshape(self._shape).copy()


def _with_background(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities ``(1, C, H, W)`` with background first."""
    rest = 1 - probabilities.sum(axis=1, keepdims=True)
    return np.concatenate([rest, probabilities], axis=1)
