"""What the network said of tiles, kept on disk, so that panning back costs nothing.

One file a tile, in a folder for everything the answer depends on: the slide, its resolution, the
model and the profile. The least recently used tiles go when the budget is full. A file that is cut
off, damaged or unreadable counts as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.prediction.packing import TileCodec

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.prediction.network import Probabilities
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.prediction.tiles import Tile
    from napari_genselfdiff.registry.card import ModelCard

BUDGET = 2 * 2**30
"""Bytes on disk; about 9000 tiles of 288², or 500 million pixels of tissue."""
_FREE = 2**30  # bytes of the disk that are left alone
_SUFFIX = ".tile"


class TileCache:
    """Answers of the network for all slides and models of this user.

    Parameters
    ----------
    folder
        Made when first needed; others may delete what is in it at any time.
    budget
        Bytes it may take up.
    """

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self.folder, self.budget = folder, budget
        self._sizes: dict[Path, int] | None = None  # the least recently used first

    def shelf(
        self, slide_hash: str, mpp: float | None, model_hash: str, card: ModelCard, profile: Profile
    ) -> Shelf:
        """Give the place of one slide, at its µm/px, with one model and profile."""
        depends = [slide_hash, mpp, model_hash, profile.to_dict(), version("torch")]
        name = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
        return Shelf(
            self,
            self.folder / name[:32],
            card.task.n_classes,
            card.tile,
            averaged=profile.flips > 1,
        )

    @property
    def used(self) -> int:
        """Bytes taken up."""
        return sum(self._known().values())

    def read(self, path: Path) -> bytes | None:
        """Bytes of a file, which counts as used just now; None if it is not there."""
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            self._known().pop(path, None)
            return None
        known = self._known()
        known.pop(path, None)
        known[path] = len(data)
        return data

    def write(self, path: Path, data: bytes) -> None:
        """Keep a file; a disk that refuses is no reason to fail."""
        known = self._known()
        partial = path.with_name(f".{uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            status = os.statvfs(self.folder) if hasattr(os, "statvfs") else None
            if status is not None and status.f_bavail * status.f_frsize < _FREE:
                return
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            return
        known.pop(path, None)
        known[path] = len(data)
        self._shrink(known)

    def forget(self, path: Path) -> None:
        """Delete a file."""
        self._known().pop(path, None)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _shrink(self, known: dict[Path, int]) -> None:
        total = sum(known.values())
        while total > self.budget and known:
            oldest = next(iter(known))
            total -= known[oldest]
            self.forget(oldest)

    def _known(self) -> dict[Path, int]:
        """Sizes of the files there are, looked up once."""
        if self._sizes is None:
            found = []
            for path in self.folder.glob(f"*/*{_SUFFIX}"):
                try:
                    status = path.stat()
                except OSError:
                    continue
                found.append((status.st_mtime_ns, path, status.st_size))
            self._sizes = {path: size for _, path, size in sorted(found)}
            self._shrink(self._sizes)
        return self._sizes


class Shelf:
    """Tiles of one slide, resolution, model and profile; see :meth:`TileCache.shelf`.

    Parameters
    ----------
    classes
        Number of classes without background.
    side
        Of a tile in pixels.
    averaged
        Whether a mean over flips is kept, too.
    """

    def __init__(
        self, cache: TileCache, folder: Path, classes: int, side: int, *, averaged: bool
    ) -> None:
        self._cache, self._folder = cache, folder
        self._codec = TileCodec(classes, side, averaged=averaged)

    def get(self, tile: Tile) -> Probabilities | None:
        """What the network said of a tile, as a batch of one; None if it is not known."""
        path = self._path(tile)
        data = self._cache.read(path)
        if data is None:
            return None
        found = self._codec.decode(data)
        if found is None:
            self._cache.forget(path)
        return found

    def put(self, tile: Tile, found: Probabilities, number: int) -> None:
        """Keep what the network said of one tile of a batch."""
        self._cache.write(self._path(tile), self._codec.encode(found, number))

    def _path(self, tile: Tile) -> Path:
        return self._folder / f"{tile.row}_{tile.column}{_SUFFIX}"
