"""Weights in safetensors files: written whole, checked before use, never running code."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from napari_genselfdiff.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 2 * 1024**3


def write_weights(path: Path, module: nn.Module, *, half: bool = False) -> None:
    """Write a module's weights; ``path`` is afterwards either the old file or the whole new one."""
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in module.state_dict().items()
    }
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_bytes(save(state))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name, in fp32 where they are floating point."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelFileError(f"{path} has {size} bytes, more than a model of ours can have")
        data = path.read_bytes()
        _check_header(path, data)
        state = load(data)
    except FileNotFoundError as err:
        raise ModelFileError(f"{path} is missing; copy the whole model folder again") from err
    except SafetensorError as err:
        raise ModelFileError(f"{path} is not a readable safetensors file: {err}") from err
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def read_weights(path: Path, module: nn.Module) -> None:
    """Load weights into a module; ModelFileError unless every name and shape fits."""
    state, wanted = read_state(path), module.state_dict()
    missing, foreign = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if missing or foreign:
        raise ModelFileError(
            f"{path} belongs to another network: {len(missing)} tensors are missing"
            f"{_first(missing)}, {len(foreign)} are unknown{_first(foreign)}"
        )
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise ModelFileError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, "
                f"the network needs {tuple(tensor.shape)}"
            )
        if not bool(torch.isfinite(state[name]).all()):
            raise ModelFileError(f"{path}: {name} holds values that are not finite")
    module.load_state_dict(state)


def _check_header(path: Path, data: bytes) -> None:
    if len(data) < 8:
        raise ModelFileError(f"{path} is cut off after {len(data)} bytes")
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ModelFileError(f"{path} is cut off or not a safetensors file")
    try:
        json.loads(data[8 : 8 + length])
    except ValueError as err:
        raise ModelFileError(f"{path} is not a safetensors file") from err


def _first(names: set[str]) -> str:
    return f" (e.g. {min(names)})" if names else ""
