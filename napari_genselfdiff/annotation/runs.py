"""Runs over a whole slide: ``runs/<id>/`` inside the annotations, written by jobs without locks.

A run's folder holds a manifest (what is computed, with what), answers of the network for tiles that
neighbouring blocks still need, finished blocks, and a mark for every block that the owner of the
annotations has taken over. Every file is written by one job and appears whole or not at all, so
that a run can be cut off at any moment, by whatever, and goes on with what is there. A file that is
damaged counts as not there.
"""

from __future__ import annotations

import json
import time
import zlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numcodecs.zstd import Zstd
from pydantic import Field, ValidationError

from napari_genselfdiff.annotation.disk import disk_errors, remove_tree, replace_file
from napari_genselfdiff.annotation.window import MODEL, Window
from napari_genselfdiff.errors import ConfigError, StoreCorruptError
from napari_genselfdiff.registry.card import Mpp, Record, Sha256, TaskName, one_line
from napari_genselfdiff.slides.color_names import Colors  # noqa: TC001  (pydantic reads it)
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

RUNS, MANIFEST, STOP = "runs", "manifest.json", "stop"
MAX_MANIFEST_BYTES = 64 * 2**20
_MAGIC = b"gsd-block-1\n"
_MAX_HEADER = 4096
_MAX_SIDE = 16384  # no block is larger, so a header that says so is damaged
_ZSTD = Zstd(level=1)

Number = Annotated[int, Field(ge=-(2**31), le=2**31)]
Box = tuple[Number, Number, Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class SlideInRun(Record):
    """The slide a run is about; ``mpp`` is None where the file states it itself.

    ``colors`` are those it is read with.
    """

    path: str
    hash: Sha256
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    mpp: Mpp | None
    colors: Colors = "stored"


class ModelInRun(Record):
    """The model a run uses."""

    path: str
    name: str
    hash: Sha256


class Manifest(Record):
    """What a run computes. Whoever goes on with it must agree in all of this.

    ``region`` is in level-0 pixels, None for the whole slide; ``threshold`` tells tissue from
    glass, None by itself; ``tiles`` are the packed bits of the tiles of the model's grid that see
    tissue, ``tile_rows`` x ``tile_columns`` of them, deflated and in hexadecimal.
    """

    schema_version: Literal[1] = 1
    app_version: str
    created: str
    slide: SlideInRun
    model: ModelInRun
    task: TaskName
    profile: dict[str, Any]
    region: Box | None
    threshold: float | None
    block: int = Field(ge=1, le=_MAX_SIDE)
    tile_rows: int = Field(ge=1, le=2**20)
    tile_columns: int = Field(ge=1, le=2**20)
    tiles: str


class RunFolder:
    """One run on disk; made by :meth:`create`, found again by :func:`unfinished_runs`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, store: Path, manifest: Manifest) -> RunFolder:
        """Begin a run in the annotations; StoreError if the disk refuses."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{time.time_ns() % 10**9:09d}"
        run = cls(store / RUNS / stamp)
        with disk_errors(f"begin a run in {store.name}"):
            for name in ("tiles", "blocks", "taken"):
                (run.path / name).mkdir(parents=True)
            text = json.dumps(manifest.model_dump(mode="json"), allow_nan=False)
            replace_file(run.path / MANIFEST, text.encode(), durable=True)
        return run

    def manifest(self) -> Manifest:
        """Read what the run computes.

        Raises
        ------
        StoreCorruptError
            If it is unreadable or not a manifest of this version.
        """
        path = self.path / MANIFEST
        try:
            with disk_errors(f"read {path}"), path.open("rb") as file:
                text = file.read(MAX_MANIFEST_BYTES + 1)
            if len(text) > MAX_MANIFEST_BYTES:
                raise StoreCorruptError(self._damaged("it is far too large"))
            return Manifest.model_validate(json.loads(text))
        except ValidationError as err:
            raise StoreCorruptError(self._damaged(one_line(err))) from err
        except (ValueError, RecursionError) as err:
            raise StoreCorruptError(self._damaged(f"it is not JSON: {err}")) from err

    def _damaged(self, why: str) -> str:
        return (
            f"the unfinished run {self.path.name} is damaged ({MANIFEST}: {why}); "
            "discard it (--fresh) and start anew"
        )

    # -- answers of the network -----------------------------------------------------------------

    def has_tile(self, place: tuple[int, int]) -> bool:
        """Whether the answer for a tile is there."""
        return self._tile(place).exists()

    def read_tile(self, place: tuple[int, int]) -> bytes | None:
        """Give the answer for a tile as it was written, unchecked; None if it is not there."""
        try:
            return self._tile(place).read_bytes()
        except OSError:
            return None

    def write_tile(self, place: tuple[int, int], data: bytes) -> None:
        """Keep the answer for a tile; StoreError if the disk refuses."""
        with disk_errors("keep a tile of the run"):
            replace_file(self._tile(place), data)

    def drop_tiles(self, places: Iterable[tuple[int, int]]) -> None:
        """Delete answers nobody needs any more."""
        for place in places:
            self._tile(place).unlink(missing_ok=True)

    def _tile(self, place: tuple[int, int]) -> Path:
        return self.path / "tiles" / f"{place[0]}_{place[1]}"

    # -- finished blocks ------------------------------------------------------------------------

    def has_block(self, number: int) -> bool:
        """Whether a block is computed (and not taken over yet)."""
        return self._block(number).exists()

    def write_block(self, number: int, window: Window, facts: dict[str, Any]) -> None:
        """Keep the labels of a block; ``facts`` is a small dictionary for the owner."""
        region = window.region
        header = json.dumps(
            {"region": [region.y, region.x, region.height, region.width], "facts": facts}
        )
        arrays = [window.classes.astype("u1")]
        if window.objects is not None:
            arrays.append(window.objects.astype("<u4"))
            arrays.append(_by_number(window.confidences, int(window.objects.max(initial=0))))
        packed = [bytes(_ZSTD.encode(np.ascontiguousarray(array))) for array in arrays]
        sizes = ",".join(str(len(part)) for part in packed)
        head = header.encode() + b"\n" + sizes.encode() + b"\n"
        with disk_errors("keep a block of the run"):
            data = _with_checksum(_MAGIC + head + b"".join(packed))
            replace_file(self._block(number), data, durable=True)

    def read_block(self, number: int) -> tuple[Window, dict[str, Any]] | None:
        """Give a block and its facts; None if it is not there or damaged (compute it again)."""
        data = _read_checked(self._block(number))
        if data is None or not data.startswith(_MAGIC):
            return None
        try:
            header, sizes, packed = data[len(_MAGIC) :].split(b"\n", 2)
            found = json.loads(header[:_MAX_HEADER])
            region = Region(*found["region"])
            if max(region.shape) > 2 * _MAX_SIDE or region.y < 0 or region.x < 0:
                return None
            lengths = [int(size) for size in sizes.split(b",")]
            classes = _unpacked(packed[: lengths[0]], region.shape, "u1")
            objects, sure = None, {}
            if len(lengths) > 1:
                end = lengths[0] + lengths[1]
                objects = _unpacked(packed[lengths[0] : end], region.shape, "<u4")
                sure = _confidences(packed[end:], int(objects.max(initial=0)))
            provenance = np.full(region.shape, MODEL, np.uint8)
            return Window(region, classes, objects, provenance, sure), dict(found["facts"])
        except (ValueError, KeyError, TypeError, RuntimeError, ConfigError):
            return None

    def _block(self, number: int) -> Path:
        return self.path / "blocks" / str(number)

    # -- what the owner has taken over ----------------------------------------------------------

    def taken(self) -> dict[int, dict[str, Any]]:
        """Blocks that are in the annotations, with their facts."""
        found: dict[int, dict[str, Any]] = {}
        for path in (self.path / "taken").glob("*"):
            if path.name.isdigit():
                try:
                    facts = json.loads(path.read_bytes()[:_MAX_HEADER])
                except (OSError, ValueError):
                    facts = {}
                found[int(path.name)] = facts if isinstance(facts, dict) else {}
        return found

    def take(self, number: int, facts: dict[str, Any], *, keep: bool = False) -> None:
        """Note that a block is in the annotations now; its file goes, unless it is to be kept."""
        with disk_errors("note a finished block"):
            replace_file(self.path / "taken" / str(number), json.dumps(facts).encode())
            if not keep:
                self._block(number).unlink(missing_ok=True)

    def give_back(self, number: int) -> bool:
        """Note that a block is not in the annotations any more; whether its file was kept."""
        with disk_errors("note an undone block"):
            (self.path / "taken" / str(number)).unlink(missing_ok=True)
        return self.has_block(number)

    # -- pause, end -----------------------------------------------------------------------------

    @property
    def should_stop(self) -> bool:
        """Whether the jobs are asked to stop at the next tile."""
        return (self.path / STOP).exists()

    def ask_stop(self, stop: bool) -> None:
        """Ask the jobs of the run to stop, wherever they are, or allow them to work."""
        with disk_errors("pause the run" if stop else "go on with the run"):
            if stop:
                replace_file(self.path / STOP, b"")
            else:
                (self.path / STOP).unlink(missing_ok=True)

    def finish(self, record: dict[str, Any]) -> None:
        """Write ``run.json``, as every run has, and delete what only served the way there."""
        with disk_errors("finish the run"):
            text = json.dumps(record, indent=1, allow_nan=False) + "\n"
            replace_file(self.path / "run.json", text.encode())
            (self.path / MANIFEST).unlink(missing_ok=True)
        for name in ("tiles", "blocks", "taken"):
            remove_tree(self.path / name)
        (self.path / STOP).unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget an unfinished run; what was taken over stays in the annotations."""
        with disk_errors("discard the run"):
            (self.path / MANIFEST).unlink(missing_ok=True)
        remove_tree(self.path)


def unfinished_runs(store: Path) -> list[RunFolder]:
    """Give the runs of a slide's annotations that were begun and not finished, the oldest first."""
    found = sorted((store / RUNS).glob(f"*/{MANIFEST}"))
    return [RunFolder(path.parent) for path in found]


def pack_tiles(wanted: NDArray[np.bool_]) -> str:
    """Give the bits of a table of tiles for a manifest."""
    return zlib.compress(np.packbits(wanted).tobytes(), 6).hex()


def unpack_tiles(manifest: Manifest) -> NDArray[np.bool_]:
    """Give the table of tiles of a manifest, ``(tile_rows, tile_columns)``.

    Raises
    ------
    StoreCorruptError
        If it does not hold that many.
    """
    shape = manifest.tile_rows, manifest.tile_columns
    number = shape[0] * shape[1]
    needed = -(-number // 8)
    try:
        packed = zlib.decompressobj().decompress(bytes.fromhex(manifest.tiles), needed + 1)
    except (ValueError, zlib.error) as err:
        raise StoreCorruptError(f"the list of tiles of a run is damaged: {err}") from err
    if len(packed) != needed:
        raise StoreCorruptError("the list of tiles of a run is damaged: its size is wrong")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=number)
    return np.asarray(bits.reshape(shape).astype(bool))


def _by_number(confidences: Mapping[int, float], most: int) -> NDArray[np.float32]:
    """Confidences of objects numbered from 1 to ``most``; 0 for those without one."""
    values = np.zeros(most + 1, "<f4")
    for number, value in confidences.items():
        if number <= most:  # the window may be a part of what was predicted
            values[number] = value
    return values


def _confidences(packed: bytes, most: int) -> dict[int, float]:
    """Confidences by object; no object of the block has a number above ``most``."""
    if not packed:
        return {}
    found = _unpacked(packed, (most + 1,), "<f4")
    known = np.flatnonzero((found > 0) & (found <= 1))
    return dict(zip(known.tolist(), found[known].tolist(), strict=True))


def _with_checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little") + data


def _read_checked(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        return None
    return data[4:]


def _unpacked(packed: bytes, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Decode an array; with a place to put it, no more than that is ever unpacked."""
    array = np.empty(shape, dtype)
    _ZSTD.decode(packed, out=array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
