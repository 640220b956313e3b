"""One headless run: its folder, logs, checkpoints and snapshots; resumed by asking again."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_genselfdiff.annotation.disk import disk_errors, replace_file
from napari_genselfdiff.errors import ConfigError, TrainingError
from napari_genselfdiff.learning.checkpoint import (
    Stateful,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_genselfdiff.learning.logs import Log, open_logs
from napari_genselfdiff.learning.loop import LoopConfig, MakeBatch, Report, TrainState, train
from napari_genselfdiff.learning.place import ON_CPU, Place
from napari_genselfdiff.registry.folder import CARD_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pydantic import BaseModel

    from napari_genselfdiff.learning.objectives import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is run; what it learns is in its recipe.

    Parameters
    ----------
    resume
        Go on where the run in the folder stopped.
    place
        Device and share of the work.
    should_stop
        Asked before every step (on a GPU every 20); the run then saves itself and ends.
    budget_s
        Seconds of learning, over all sessions of the run.
    tensorboard
        Write TensorBoard's files as well, where the extra is installed.
    """

    resume: bool = False
    place: Place = ON_CPU
    should_stop: Callable[[], bool] = lambda: False
    budget_s: float | None = None
    tensorboard: bool = False


class RunFolder:
    """``recipe.json``, ``log.csv`` and ``checkpoint.pt`` of one run.

    ``seconds`` is how long the run had been learning when it was last saved. ``writes`` is False
    in all but one of several processes.
    """

    def __init__(self, path: Path, recipe: BaseModel, *, resume: bool, writes: bool = True) -> None:
        self.path, self.writes, self.seconds = path, writes, 0.0
        self.checkpoint = path / "checkpoint.pt"
        stored = path / "recipe.json"
        if has_checkpoint(self.checkpoint) and not resume:
            raise ConfigError(f"{path} already holds a run; pass --resume or another --out")
        if resume and stored.exists() and (changed := _changed(recipe, stored)):
            raise ConfigError(
                f"{path} was started with other settings ({', '.join(changed[:5])}); resume with "
                "the same recipe and overrides, or choose another --out"
            )
        if writes:
            path.mkdir(parents=True, exist_ok=True)
            write_text(stored, recipe.model_dump_json(indent=1))

    def start(self, state: TrainState) -> None:
        """Bring ``state`` to where the run stopped, if it did."""
        if not has_checkpoint(self.checkpoint):
            return
        values = load_checkpoint(self.checkpoint, _parts(state))
        state.images_seen = int(values["images_seen"])
        self.seconds = float(values.get("seconds", 0.0))
        state.micro_batch = values.get("micro_batch", state.micro_batch)
        state.guard.values.update(values.get("guard", {}))

    def save(self, state: TrainState, seconds: float) -> None:
        """Write the full state, whole or not at all; the file before it is kept."""
        save_checkpoint(
            self.checkpoint,
            _parts(state),
            images_seen=state.images_seen,
            seconds=seconds,
            micro_batch=state.micro_batch,
            guard=dict(state.guard.values),
        )


class Clock:
    """Time spent learning, over all sessions of a run, against its budget.

    What the last snapshot takes is kept back: as long as the longest so far, at first a
    twentieth of the budget, at most 15 s.
    """

    def __init__(self, before_s: float, budget_s: float | None) -> None:
        self.before_s, self.budget_s, self._started = before_s, budget_s, time.monotonic()
        self._reserve_s = min(15.0, (budget_s or 0.0) / 20)

    @property
    def seconds(self) -> float:
        """Seconds up to now."""
        return self.before_s + time.monotonic() - self._started

    def share(self) -> float:
        """How much of the budget is gone, 0..1; 0 without one."""
        if self.budget_s is None:
            return 0.0
        return min(self.seconds / max(self.budget_s - self._reserve_s, 1e-9), 1.0)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Learn how long it takes to save."""
        started = time.monotonic()
        yield
        self._reserve_s = max(self._reserve_s, time.monotonic() - started)


def run(
    folder: RunFolder,
    state: TrainState,
    make_batch: MakeBatch,
    objective: Objective,
    config: LoopConfig,
    *,
    every_images: int,
    snapshot: Callable[[], None],
    options: RunOptions,
) -> Iterator[Report]:
    """Train with a log, and save state and snapshot every ``every_images`` and at the end.

    With a budget the learning rate's schedule goes by the clock, so that the run ends in time
    and at the schedule's end; time between sessions does not count. While the loss is suspiciously
    high nothing is saved. Where the run fails, the checkpoint is that of its last save, and the
    weights for use are those before the step that failed.
    """
    folder.start(state)
    clock = Clock(folder.seconds, options.budget_s)
    book = _Book(folder, state, clock, snapshot, tensorboard=options.tensorboard)
    reports = train(
        state,
        make_batch,
        objective,
        config,
        should_stop=lambda: options.should_stop() or clock.share() >= 1,
        progress=clock.share,
    )
    saved = state.images_seen
    try:
        for report in reports:
            book.write(report)
            due = state.images_seen - saved >= every_images
            if due and report.images_seen == state.images_seen and not state.guard.is_suspicious:
                book.save()
                saved = state.images_seen
            yield report
        if saved != state.images_seen or not (folder.path / WEIGHTS_FILE).exists():
            book.save()
    except TrainingError:
        if not state.guard.is_suspicious:
            book.keep_weights()
        raise
    finally:
        book.close()


class _Book:
    """Everything a run writes; nothing in the processes that do not."""

    def __init__(
        self,
        folder: RunFolder,
        state: TrainState,
        clock: Clock,
        snapshot: Callable[[], None],
        *,
        tensorboard: bool,
    ) -> None:
        self._folder, self._state, self._clock, self._snapshot = folder, state, clock, snapshot
        self._begun = False
        self._logs: list[Log] = []
        if folder.writes:
            with self._disk():
                self._logs = open_logs(folder.path, state.images_seen, tensorboard=tensorboard)

    def write(self, report: Report) -> None:
        """Log a step; from the first one on, the folder is no finished model any more."""
        with self._disk():
            if self._folder.writes and not self._begun:
                (self._folder.path / CARD_FILE).unlink(missing_ok=True)
                self._begun = True
            for log in self._logs:
                log.write(report)

    def save(self) -> None:
        """Write the full state and the weights for use."""
        if self._folder.writes:
            with self._disk(), self._clock.saving():
                for log in self._logs:
                    log.flush()
                self._folder.save(self._state, self._clock.seconds)
                self._snapshot()

    def keep_weights(self) -> None:
        """Write only the weights for use; the run has failed and its state is of no use."""
        if self._folder.writes:
            with self._disk():
                self._snapshot()

    def close(self) -> None:
        """Close the logs."""
        for log in self._logs:
            log.close()

    def _disk(self) -> AbstractContextManager[None]:
        place = f"{self._folder.path} (its last checkpoint is kept; --resume goes on from there)"
        return disk_errors(f"save the run in {place}")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    replace_file(path, text.encode())


def _parts(state: TrainState) -> dict[str, Stateful]:
    return {"model": state.model, "optimizer": state.optimizer, "ema": state.ema}


def _changed(recipe: BaseModel, stored: Path) -> list[str]:
    """Dotted names of the settings in which a recipe differs from the stored one."""
    try:
        before = type(recipe).model_validate_json(stored.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError):
        return [f"{stored.name} is altered or of another version"]
    old, new = _flat(before.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat
