"""Where a headless run calculates: device, precision and process group, by lightning-fabric."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.shares import ALONE, Shares
from napari_genselfdiff.prediction.profile import has_cpu_bf16

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_genselfdiff.learning.loop import Precision

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A device, and this process's share of a run that several may work on."""

    device: torch.device
    shares: Shares = ALONE


ON_CPU = Place(torch.device("cpu"))


@contextmanager
def open_place(name: str = "auto") -> Iterator[Place]:
    """Find the device; under torchrun also join the other processes.

    ``name`` is cpu, cuda, cuda:N or auto (a GPU where there is one). Started by torchrun, every
    process takes the GPU of its local rank and talks by nccl, on a CPU by gloo. All but the
    first are silent from then on. ConfigError where there is no such device.
    """
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    kind, _, number = name.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"the device must be cpu, cuda, cuda:N or auto, got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here; use --device cpu")
    world, local = (int(os.environ.get(key, 1)) for key in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if world == 1:
        index = int(number or 0)
        if kind == "cuda" and index >= torch.cuda.device_count():
            raise ConfigError(f"{name}: there are {torch.cuda.device_count()} CUDA devices here")
        devices = [index] if kind == "cuda" else 1
        yield Place(Fabric(accelerator=kind, devices=devices).device)
        return
    # type: the stubs want literals
    fabric = Fabric(accelerator=kind, devices=local, num_nodes=world // local, strategy="ddp")
    fabric.launch()
    if fabric.global_rank:
        logging.getLogger("napari_genselfdiff").setLevel(logging.ERROR)
    try:
        yield Place(fabric.device, Shares(fabric.global_rank, fabric.world_size))
    finally:
        torch.distributed.destroy_process_group()


def usable_precision(wanted: Precision, device: torch.device) -> Precision:
    """``wanted`` where the device calculates in it itself, otherwise fp32, with one notice."""
    if wanted == "fp32":
        return wanted
    can = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_cpu_bf16()
    if can:
        return wanted
    _LOGGER.warning("this %s does not calculate in bf16; going on in fp32", device.type)
    return "fp32"
