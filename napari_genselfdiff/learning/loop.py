"""The one optimisation loop; pre-training, fine-tuning and refining differ in what they feed it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from napari_genselfdiff.errors import ConfigError, TrainingError
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.ema import Ema
from napari_genselfdiff.learning.guard import Guard
from napari_genselfdiff.learning.rates import parameter_groups
from napari_genselfdiff.learning.shares import ALONE, Shares
from napari_genselfdiff.learning.step import Outcome, take_step

if TYPE_CHECKING:
    from napari_genselfdiff.learning.objectives import Objective

# A GPU works ahead of the host; its results are read together after so many steps.
STEPS_BEFORE_READING = 20

Precision = Literal["fp32", "bf16"]
Optimizer = Literal["adamw", "adam"]
LrSchedule = Literal["cosine", "constant"]
Reduction = Literal["mean", "sum"]
Compile = Literal["off", "default", "graphs"]
MakeBatch = Callable[[Sequence[int]], Batch]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Length, step size and precision of a run; progress is counted in images seen.

    Parameters
    ----------
    micro_batch
        Images at once; None is the whole batch. Their gradients add up to the batch's.
    layer_decay
        Factor by which the learning rate falls from each level of the network to the one before
        it, counted back from the answer; 1 is the same rate for all.
    lr_schedule
        After a linear warm-up: half a cosine down to ``final_lr_share``, or no change.
    clip
        Largest norm of the gradient; None or 0 does not limit it.
    ema_decay
        How slowly the weights for use follow the trained ones; 0 makes them the same.
    reduction
        Gradient of the batch's mean loss, or of its sum as in the released code of
        GenSelfDiff-HIS. The mean is reported either way.
    precision
        bf16 means autocast: weights and sums stay fp32.
    compile
        Let torch.compile fuse the network's small operations; ``graphs`` also replays whole steps
        as CUDA graphs. Minutes before the first step, so only for long runs.
    divergence
        The run stops when its running loss stays this many times above its best; 0 never.
    """

    total_images: int
    batch: int = 8
    micro_batch: int | None = None
    optimizer: Optimizer = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    lr: float = 3e-4
    layer_decay: float = 1.0
    lr_schedule: LrSchedule = "cosine"
    final_lr_share: float = 0.02
    warmup_images: int = 400
    weight_decay: float = 0.01
    clip: float | None = 1.0
    ema_decay: float = 0.999
    reduction: Reduction = "mean"
    precision: Precision = "fp32"
    compile: Compile = "off"
    divergence: float = 4.0
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
        if self.divergence and not self.divergence > 1:
            raise ConfigError(f"divergence must be above 1, or 0 for never, got {self.divergence}")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"layer_decay must be above 0 and at most 1, got {self.layer_decay}")
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
    """What one optimiser step did; safe to hand to another process.

    ``loss`` and ``metrics`` are means over the whole batch; ``done`` is 0..1, by images or by
    time, whichever is further.
    """

    images_seen: int
    total_images: int
    loss: float
    metrics: dict[str, float]
    images_per_s: float
    eta_s: float
    done: float = 0.0
    lr: float = 0.0
    gradient_norm: float = 0.0


@dataclass
class TrainState:
    """Everything that changes while training.

    ``micro_batch`` shrinks by itself where the memory is too small; ``network`` is the model, or
    its compiled form, which shares its weights.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    guard: Guard
    network: nn.Module
    images_seen: int = 0
    micro_batch: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shares: Shares = ALONE

    @classmethod
    def create(
        cls,
        model: nn.Module,
        config: LoopConfig,
        device: str | torch.device = "cpu",
        shares: Shares = ALONE,
    ) -> TrainState:
        """Optimiser over the parameters that ask for a gradient; biases and norms do not decay."""
        target = torch.device(device)
        # type: channels-last is an overload of nn.Module.to that its stubs leave out
        model = model.to(target).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = parameter_groups(model, config.layer_decay, config.weight_decay)
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        return cls(
            model,
            kind(groups, lr=config.lr, betas=config.betas, fused=True),
            Ema(model, config.ema_decay),
            Guard(config.divergence),
            _compiled(model, config.compile),
            micro_batch=config.micro_batch,
            device=target,
            shares=shares,
        )

    @property
    def trainable(self) -> list[nn.Parameter]:
        """Parameters that learn."""
        return [p for p in self.model.parameters() if p.requires_grad]


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
    sample index), so that a resumed run equals an uninterrupted one. On a GPU several reports
    come together, the last of them for the present state. TrainingError when the loss is no
    longer finite, or diverges; no weight was changed by a step that was not finite.
    """
    pace = _Pace(state.images_seen, config.total_images)
    reading = 1 if state.device.type == "cpu" else STEPS_BEFORE_READING
    outcomes: list[Outcome] = []
    stop, hurry = state.shares.agree(should_stop(), progress(), state.device)
    while state.images_seen < config.total_images and not stop:
        share = config.lr_share(state.images_seen, hurry)
        for group in state.optimizer.param_groups:
            group["lr"] = config.lr * share * group.get("rate", 1.0)  # older checkpoints: none
        end = min(state.images_seen + config.batch, config.total_images)
        indices = range(state.images_seen, end)
        outcomes.append(take_step(state, make_batch, objective, config, indices))
        state.images_seen = end
        if len(outcomes) < reading and end < config.total_images:
            continue
        for outcome in outcomes:
            report = _read(outcome, state, pace, hurry)
            with pace.paused():
                yield report
        outcomes.clear()
        stop, hurry = state.shares.agree(should_stop(), progress(), state.device)


def _read(outcome: Outcome, state: TrainState, pace: _Pace, hurry: float) -> Report:
    """Wait for a step's numbers and judge them."""
    sums = {name: float(value) for name, value in outcome.sums.items()}
    loss, norm = sums.pop("loss"), float(outcome.gradient_norm)
    for name, value in (("loss", loss), ("gradient", norm)):
        if not math.isfinite(value):
            state.images_seen = outcome.start
            raise TrainingError(
                f"the {name} became {value} at image {outcome.start}; the weights before this "
                "step are kept; use a smaller learning rate or fp32"
            )
    state.guard.see(loss)
    if state.guard.has_diverged:
        raise TrainingError(
            f"the loss has been more than {state.guard.factor:g} times its best for long, at image "
            f"{outcome.images_seen}; the weights of the last snapshot are kept; use a smaller "
            "learning rate"
        )
    rate, eta, done = pace.at(outcome.images_seen, hurry)
    seen = outcome.images_seen
    return Report(seen, pace.total, loss, sums, rate, eta, done, outcome.lr, norm)


class _Pace:
    """Images a second while learning, and the time left with everything that goes on between."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total
        self._started, self._elsewhere_s = time.perf_counter(), 0.0
        self._hurry: float | None = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what the caller does, such as writing a snapshot, as learning."""
        before = time.perf_counter()
        yield
        self._elsewhere_s += time.perf_counter() - before

    def at(self, images_seen: int, hurry: float) -> tuple[float, float, float]:
        """Images a second, seconds left and share done at this point."""
        spent = max(time.perf_counter() - self._started, 1e-9)
        done = images_seen - self.first
        left = (self.total - images_seen) * spent / done
        if self._hurry is None:
            self._hurry = hurry
        elif hurry > self._hurry:
            left = min(left, max(1 - hurry, 0) * spent / (hurry - self._hurry))
        rate = done / max(spent - self._elsewhere_s, 1e-9)
        return rate, left, min(max(images_seen / self.total, hurry), 1.0)


def _compiled(model: nn.Module, how: Compile) -> nn.Module:
    """The model as the loop calls it; what was compiled is kept for the next run."""
    if how == "off":
        return model
    from napari_genselfdiff.registry.home import data_home

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(data_home() / "compiled"))
    mode = "reduce-overhead" if how == "graphs" else "default"
    return torch.compile(model, mode=mode)  # type: ignore[return-value]
