"""The one optimisation loop; pre-training, fine-tuning and refining differ in what they feed it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from napari_genselfdiff.errors import ConfigError, TrainingError
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.ema import Ema

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from napari_genselfdiff.learning.objectives import Objective

Precision = Literal["fp32", "bf16"]
Optimizer = Literal["adamw", "adam"]
LrSchedule = Literal["cosine", "constant"]
Reduction = Literal["mean", "sum"]
MakeBatch = Callable[[Sequence[int]], Batch]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Length, step size and precision of a run; progress is counted in images seen.

    Parameters
    ----------
    micro_batch
        Images at once; None is the whole batch. Their gradients add up to the batch's.
    lr_schedule
        After a linear warm-up: half a cosine down to ``final_lr_share``, or no change.
    clip
        Largest norm of the gradient; None or 0 does not limit it.
    ema_decay
        How slowly the weights for use follow the trained ones; 0 makes them the same.
    reduction
        Gradient of the batch's mean loss, or of its sum as in the released code of
        GenSelfDiff-HIS. The mean is reported either way.
    """

    total_images: int
    batch: int = 8
    micro_batch: int | None = None
    optimizer: Optimizer = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    lr: float = 3e-4
    lr_schedule: LrSchedule = "cosine"
    final_lr_share: float = 0.02
    warmup_images: int = 400
    weight_decay: float = 0.01
    clip: float | None = 1.0
    ema_decay: float = 0.999
    reduction: Reduction = "mean"
    precision: Precision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that no run can have."""
        for name in ("total_images", "batch", "micro_batch", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, got {value}")
        if not all(0 <= value < 1 for value in (*self.betas, self.ema_decay)):
            raise ConfigError(
                f"betas and ema_decay must be in [0, 1), got {self.betas} and {self.ema_decay}"
            )
        if self.warmup_images < 0 or self.weight_decay < 0 or (self.clip or 0) < 0:
            raise ConfigError("warmup_images, weight_decay and clip cannot be negative")

    def lr_share(self, images_seen: int, progress: float = 0.0) -> float:
        """Share of ``lr`` at this point of the run.

        ``progress`` in [0, 1] moves along the cosine faster than the images do, for a run that
        also has to end in time.
        """
        if images_seen < self.warmup_images:
            return (images_seen + 1) / self.warmup_images
        if self.lr_schedule == "constant":
            return 1.0
        after = max(self.total_images - self.warmup_images, 1)
        progress = min(max((images_seen - self.warmup_images) / after, progress), 1.0)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return self.final_lr_share + (1 - self.final_lr_share) * cosine


@dataclass(frozen=True, slots=True)
class Report:
    """What one optimiser step did; safe to hand to another process."""

    images_seen: int
    total_images: int
    loss: float
    metrics: dict[str, float]
    images_per_s: float
    eta_s: float


@dataclass
class TrainState:
    """Everything that changes while training."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    images_seen: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def create(
        cls, model: nn.Module, config: LoopConfig, device: str | torch.device = "cpu"
    ) -> TrainState:
        """Optimiser over the parameters that ask for a gradient; biases and norms do not decay."""
        target = torch.device(device)
        # type: channels-last is an overload of nn.Module.to that its stubs leave out
        model = model.to(target).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainable = [p for p in model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind([g for g in groups if g["params"]], lr=config.lr, betas=config.betas)
        return cls(model, optimizer, Ema(model, config.ema_decay), device=target)


def train(
    state: TrainState,
    make_batch: MakeBatch,
    objective: Objective,
    config: LoopConfig,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[], float] = lambda: 0.0,
) -> Iterator[Report]:
    """Run optimiser steps until ``total_images``, yielding one report per step.

    ``progress`` may hurry the learning rate's schedule (see :meth:`LoopConfig.lr_share`).
    Sample indices count on from ``state.images_seen``; every random number depends on (seed,
    sample index), so that a resumed run equals an uninterrupted one. TrainingError when the
    loss is no longer finite; ``state.ema`` then still holds the last good weights.
    """
    started, first = time.perf_counter(), state.images_seen
    while state.images_seen < config.total_images and not should_stop():
        share = config.lr_share(state.images_seen, progress())
        for group in state.optimizer.param_groups:
            group["lr"] = config.lr * share
        count = min(config.batch, config.total_images - state.images_seen)
        indices = range(state.images_seen, state.images_seen + count)
        loss, metrics = _step(state, make_batch(indices), objective, config)
        state.images_seen += count
        rate = (state.images_seen - first) / max(time.perf_counter() - started, 1e-9)
        eta = (config.total_images - state.images_seen) / rate
        yield Report(state.images_seen, config.total_images, loss, metrics, rate, eta)


def _step(
    state: TrainState, batch: Batch, objective: Objective, config: LoopConfig
) -> tuple[float, dict[str, float]]:
    """One optimiser step over a batch, in micro-batches where the config says so."""
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    count = len(batch.indices)
    micro = config.micro_batch or count
    total = torch.zeros((), dtype=torch.float64)
    sums: dict[str, Tensor] = {}
    for start in range(0, count, micro):
        part = batch.part(start, start + micro).to(state.device)
        with _autocast(state.device, config.precision):
            losses, parts = objective(state.model, part)
        loss = losses.sum() if config.reduction == "sum" else losses.sum() / count
        loss.backward()
        total += losses.detach().double().sum().cpu() / count
        for name, values in parts.items():
            sums[name] = sums.get(name, torch.zeros(())) + values.sum().cpu() / count
    value = float(total)
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss became {value} at image {state.images_seen}; the weights before this "
            "step are kept; use a smaller learning rate or fp32"
        )
    norm = nn.utils.clip_grad_norm_(
        [p for p in state.model.parameters() if p.requires_grad], config.clip or math.inf
    )
    if not math.isfinite(float(norm)):
        raise TrainingError(
            f"the gradient became {float(norm)} at image {state.images_seen}; the weights before "
            "this step are kept; use a smaller learning rate or fp32"
        )
    state.optimizer.step()
    state.ema.update(state.model)
    return value, {name: float(v) for name, v in sums.items()}


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
