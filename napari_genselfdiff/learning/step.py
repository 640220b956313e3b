"""One optimiser step: gradients over micro-batches and processes, and the update."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_genselfdiff.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from napari_genselfdiff.learning.data import Batch
    from napari_genselfdiff.learning.loop import LoopConfig, MakeBatch, Precision, TrainState
    from napari_genselfdiff.learning.objectives import Objective

_LOGGER = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What a step gave, still on the device: reading it would make a GPU wait.

    ``sums`` are means over the whole batch, ``loss`` among them; ``start`` is the first sample.
    """

    start: int
    images_seen: int
    lr: float
    sums: dict[str, Tensor]
    gradient_norm: Tensor


def take_step(
    state: TrainState,
    make_batch: MakeBatch,
    objective: Objective,
    config: LoopConfig,
    indices: Sequence[int],
) -> Outcome:
    """Learn from the samples ``indices``, of which this process calculates its share.

    A loss or gradient that is not finite changes no weight; reading the outcome tells.
    """
    mine = state.shares.part(indices)
    # Without a sample of its own a process still has to name the same sums as the others.
    batch = make_batch(mine or indices[:1])
    scale = 1 / len(indices) if mine else 0.0
    state.model.train()
    sums = _gradients(state, batch, objective, config, scale)
    if config.reduction == "sum":
        torch._foreach_mul_([p.grad for p in state.trainable if p.grad is not None], len(indices))
    state.shares.add_up([*_all_gradients(state), *sums.values()])
    norm = nn.utils.clip_grad_norm_(state.trainable, config.clip or math.inf, foreach=True)
    finite = torch.isfinite(norm) & torch.isfinite(sums["loss"])
    # The fused optimisers leave everything as it is where this is 1, without asking the host.
    state.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    state.optimizer.step()
    state.ema.update(state.model)
    lr = max(float(group["lr"]) for group in state.optimizer.param_groups)
    return Outcome(indices[0], indices[-1] + 1, lr, sums, norm)


def _gradients(
    state: TrainState, batch: Batch, objective: Objective, config: LoopConfig, scale: float
) -> dict[str, Tensor]:
    """Gradients of a batch, in micro-batches that fit the memory; mean loss and its parts."""
    begun = micro = state.micro_batch or len(batch.indices)
    while True:
        failed: str | None = None
        try:
            sums = _accumulate(state, batch, objective, config, scale, micro)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            failed = str(err).splitlines()[0]
        # Outside of the handler, where the error no longer holds the tensors of the failed try.
        if failed is None:
            break
        if micro == 1:
            raise TrainingError(
                f"there is too little memory for one image at a time ({failed}); use a smaller "
                "patch.size or another device"
            )
        micro = state.micro_batch = math.ceil(micro / 2)
        if state.device.type == "cuda":
            torch.cuda.empty_cache()
    if micro < begun:
        _LOGGER.warning(
            "too little memory for %d images at once; going on with %d at a time, the batch stays "
            "the same",
            begun,
            micro,
        )
    return sums


def _accumulate(
    state: TrainState,
    batch: Batch,
    objective: Objective,
    config: LoopConfig,
    scale: float,
    micro: int,
) -> dict[str, Tensor]:
    state.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for start in range(0, len(batch.indices), micro):
        part = batch.part(start, start + micro).to(state.device)
        with _autocast(state.device, config.precision):
            losses, parts = objective(state.network, part)
        (losses.sum() * scale).backward()
        for name, values in {"loss": losses.detach(), **parts}.items():
            value = values.double().sum() * scale
            sums[name] = sums[name] + value if name in sums else value
    return sums


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left."""
    if isinstance(err, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    words = str(err).lower()
    return "can't allocate memory" in words or "not enough memory" in words


def _all_gradients(state: TrainState) -> Iterable[Tensor]:
    """Gradients that every process has, and zeros for parameters that it did not use."""
    if state.shares.world > 1:
        for parameter in state.trainable:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in state.trainable if p.grad is not None]


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
