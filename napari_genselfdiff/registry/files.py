"""Folders and files that appear whole or not at all, and are not trusted when read."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.errors import GenSelfDiffError, ModelFileError
from napari_genselfdiff.registry.unfinished import owned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_WEIGHTS_BYTES = 2 * 2**30
MAX_EXTRA_BYTES = 64 * 2**20
_MAX_HEADER_BYTES = 16 * 2**20
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Turn what the file system says (full, read-only, gone) into one line of ours."""
    try:
        yield
    except GenSelfDiffError:
        raise
    except OSError as err:
        reason = err.strerror or str(err)
        raise ModelFileError(
            f"{what} failed: {reason} ({err.filename}). Free space or choose another folder."
        ) from err


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a new folder that becomes ``path`` when the block ends well, and vanishes otherwise.

    ``path`` must not exist, or be an empty folder. It is locked meanwhile, so that others can tell
    it from what a killed process left.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with owned(partial):
        try:
            partial.mkdir()
            yield partial
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; ``path`` is afterwards either the old file or the whole new one."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_whole(folder: Path) -> None:
    """Remove a folder; ModelFileError if the disk refuses.

    It goes out of sight first, so that a half-removed one never looks like a damaged one.
    """
    with plain_errors(f"Deleting {folder.name}"):
        trash = folder.with_name(f".{folder.name}.{uuid4().hex}.partial")
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def checked_size(path: Path, limit: int) -> int:
    """Size of a regular file; ModelFileError if it is missing, a link, or above ``limit``."""
    try:
        status = path.lstat()
    except FileNotFoundError as err:
        raise ModelFileError(
            f"{path.name} is missing in {path.parent}; copy or import the whole model again"
        ) from err
    except OSError as err:
        raise ModelFileError(f"{path} cannot be read: {err.strerror}") from err
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path} is not a plain file but a link or folder; copy the file")
    if status.st_size > limit:
        raise ModelFileError(
            f"{path} has {status.st_size} bytes, at most {limit} can be right; import it again"
        )
    return status.st_size


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with plain_errors(f"Reading {path}"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, wanted: str) -> None:
    """ModelFileError unless the file holds exactly the bytes its card names."""
    if sha256_of(path) != wanted:
        raise ModelFileError(
            f"{path} was altered or damaged: its SHA-256 is not the one in model.json; "
            "copy or import the model again"
        )


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the header of a safetensors file, checked against the file's size.

    Nothing but the header is read, and nothing is allocated on its word.
    """
    size = checked_size(path, MAX_WEIGHTS_BYTES)
    with plain_errors(f"Reading {path}"), path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, _MAX_HEADER_BYTES):
            raise ModelFileError(f"{path} is cut off or no safetensors file; import it again")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        entries = [(n, *_entry(values)) for n, values in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ModelFileError(f"{path} is no safetensors file: its header is not valid") from err
    end = 0
    for _, _, begin, stop in sorted(entries, key=lambda e: e[2:]):
        if begin != end:
            raise ModelFileError(f"{path} is no valid safetensors file: tensors overlap or gape")
        end = stop
    if end != size - 8 - length:
        raise ModelFileError(
            f"{path} holds {size - 8 - length} bytes of tensors where its header says {end}; "
            "it is cut off or was altered"
        )
    return {name: shape for name, shape, _, _ in entries}


def _entry(values: dict[str, object]) -> tuple[tuple[int, ...], int, int]:
    """Shape, begin and end of one tensor; ValueError when they contradict each other."""
    shape, offsets = values["shape"], values["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError("shape or offsets")
    if not all(type(n) is int and n >= 0 for n in (*shape, *offsets)) or len(shape) > 8:
        raise ValueError("negative or not whole")
    count = _ITEM_BYTES[str(values["dtype"])]
    for n in shape:
        count *= n
    if count != offsets[1] - offsets[0]:
        raise ValueError("size")
    return tuple(shape), offsets[0], offsets[1]
