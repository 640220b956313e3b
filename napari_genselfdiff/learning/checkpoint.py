"""Full training state on disk, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from uuid import uuid4

import torch

from napari_genselfdiff.annotation.disk import flush_file, write_file
from napari_genselfdiff.errors import ConfigError, ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)

# torch does not notice a flipped bit, so the file begins with the hash of the rest.
_MAGIC = b"genselfdiff checkpoint 1\n"
_DIGEST = hashlib.sha256().digest_size


class Stateful(Protocol):
    """Anything with torch's pair of ``state_dict`` methods."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at ``path`` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def has_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint, or at least the one before it."""
    return path.exists() or previous(path).exists()


def save_checkpoint(path: Path, parts: dict[str, Stateful], **values: Any) -> None:
    """Write every part's state; ``path`` is afterwards either the old file or the whole new one.

    The file before it stays as :func:`previous`. ``values`` are numbers, text, or mappings of
    them. OSError where the disk refuses; both old files are then as they were.
    """
    states: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    buffer = io.BytesIO()
    torch.save({"parts": states, "values": values}, buffer)
    data = buffer.getvalue()
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        write_file(partial, _MAGIC + hashlib.sha256(data).digest() + data)
        flush_file(partial)
        with suppress(FileNotFoundError):
            path.replace(previous(path))
        partial.replace(path)
        _flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, parts: dict[str, Stateful]) -> dict[str, Any]:
    """Restore every part in place and return the plain values; never runs code from the file.

    A damaged or missing file gives way to the one before it, with a notice. ModelFileError where
    that cannot be read either, ConfigError where it belongs to another network.
    """
    try:
        saved = _read(path)
    except ModelFileError as err:
        if not previous(path).exists():
            raise
        saved = _read(previous(path))
        _LOGGER.warning("%s; going on from the checkpoint before it", err)
    states = saved.get("parts", {})
    if states.keys() != parts.keys():
        raise ConfigError(f"{path} holds {sorted(states)}, this run needs {sorted(parts)}")
    for name, part in parts.items():
        try:
            part.load_state_dict(states[name])
        except (RuntimeError, ValueError, KeyError) as err:
            raise ConfigError(f"{path} belongs to another network or recipe: {err}") from err
    return dict(saved["values"])


def load_tensors(file: Path | BinaryIO) -> Any:
    """What torch saved: tensors and plain values on the CPU; never runs code from the file.

    The one place where such files are read. Errors are torch's own; say what the file was for.
    """
    return torch.load(file, map_location="cpu", weights_only=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        if data.startswith(_MAGIC):
            start = len(_MAGIC) + _DIGEST
            digest, data = data[len(_MAGIC) : start], data[start:]
            if hashlib.sha256(data).digest() != digest:
                raise ModelFileError(f"the checkpoint {path} is damaged")
        saved: dict[str, Any] = load_tensors(io.BytesIO(data))
    except FileNotFoundError as err:
        raise ModelFileError(f"the checkpoint {path} is missing") from err
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as err:
        raise ModelFileError(f"the checkpoint {path} cannot be read: {err}") from err
    return saved


def _flush_folder(folder: Path) -> None:
    """Make the new names last as well; not every system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
