"""One headless run: its folder, log, checkpoint and snapshots; resumed by asking again."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.checkpoint import Stateful, load_checkpoint, save_checkpoint
from napari_genselfdiff.learning.loop import (
    LoopConfig,
    MakeBatch,
    Report,
    TrainState,
    train,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from napari_genselfdiff.learning.objectives import Objective


class RunFolder:
    """``recipe.json``, ``log.csv`` and ``checkpoint.pt`` of one run."""

    def __init__(self, path: Path, recipe: BaseModel, *, resume: bool) -> None:
        self.path = path
        self.checkpoint, self.log = path / "checkpoint.pt", path / "log.csv"
        text = recipe.model_dump_json(indent=1)
        stored = path / "recipe.json"
        if self.checkpoint.exists() and not resume:
            raise ConfigError(f"{path} already holds a run; pass --resume or another --out")
        if resume and stored.exists() and json.loads(stored.read_text()) != json.loads(text):
            raise ConfigError(
                f"{path} was started with other settings; resume with the same recipe and "
                "overrides, or choose another --out"
            )
        path.mkdir(parents=True, exist_ok=True)
        write_text(stored, text)

    def start(self, state: TrainState) -> None:
        """Bring ``state`` to where the run stopped, if it did."""
        if self.checkpoint.exists():
            values = load_checkpoint(self.checkpoint, _parts(state))
            state.images_seen = int(values["images_seen"])

    def save(self, state: TrainState) -> None:
        """Write the full state, whole or not at all."""
        save_checkpoint(self.checkpoint, _parts(state), images_seen=state.images_seen)

    def write_log(self, report: Report) -> None:
        """Append one line to the log."""
        row = {"images_seen": report.images_seen, "loss": report.loss, **report.metrics}
        row["images_per_s"] = report.images_per_s
        new = not self.log.exists()
        with self.log.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" for k, v in row.items()})


def run(
    folder: RunFolder,
    state: TrainState,
    make_batch: MakeBatch,
    objective: Objective,
    config: LoopConfig,
    *,
    every_images: int,
    snapshot: Callable[[], None],
    should_stop: Callable[[], bool],
) -> Iterator[Report]:
    """Train with a log, and save state and snapshot every ``every_images`` and at the end."""
    folder.start(state)
    saved = state.images_seen
    for report in train(state, make_batch, objective, config, should_stop=should_stop):
        folder.write_log(report)
        if state.images_seen - saved >= every_images:
            folder.save(state)
            snapshot()
            saved = state.images_seen
        yield report
    folder.save(state)
    snapshot()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _parts(state: TrainState) -> dict[str, Stateful]:
    return {"model": state.model, "optimizer": state.optimizer, "ema": state.ema}
