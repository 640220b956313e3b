"""Full training state on disk, so that an interrupted run goes on where it was."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import torch

from napari_genselfdiff.errors import ConfigError, ModelFileError

if TYPE_CHECKING:
    from pathlib import Path


class Stateful(Protocol):
    """Anything with torch's pair of ``state_dict`` methods."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def save_checkpoint(path: Path, parts: dict[str, Stateful], **values: int | str) -> None:
    """Write every part's state; ``path`` is afterwards either the old file or the whole new one."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    states: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    try:
        torch.save({"parts": states, "values": values}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, parts: dict[str, Stateful]) -> dict[str, Any]:
    """Restore every part in place and return the plain values; never runs code from the file."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as err:
        raise ModelFileError(f"the checkpoint {path} cannot be read: {err}") from err
    states = saved.get("parts", {})
    if states.keys() != parts.keys():
        raise ConfigError(f"{path} holds {sorted(states)}, this run needs {sorted(parts)}")
    for name, part in parts.items():
        try:
            part.load_state_dict(states[name])
        except (RuntimeError, ValueError, KeyError) as err:
            raise ConfigError(f"{path} belongs to another network or recipe: {err}") from err
    return dict(saved["values"])
