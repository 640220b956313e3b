"""Notices a run that goes wrong before its weights are lost."""

from __future__ import annotations

from dataclasses import dataclass, field

MEMORY = 50  # steps that the running loss averages over
PATIENCE = 100  # steps that it may stay too high
NAMES = ("steps", "running", "first", "best", "high")
FLOOR = 0.02  # of the first running loss; below that, ratios mean nothing


@dataclass
class Guard:
    """Follows the running loss of a run, an average over about the last 50 steps.

    The run diverges when the running loss stays above ``factor`` times its best for 100 steps
    in a row; 0 never says so. Its best counts as at least 2 % of where it began.
    """

    factor: float
    values: dict[str, float] = field(
        default_factory=lambda: {
            "steps": 0.0,
            "running": 0.0,
            "first": 0.0,
            "best": 0.0,
            "high": 0.0,
        }
    )

    @property
    def is_suspicious(self) -> bool:
        """Whether the loss is too high now; such weights are not worth keeping."""
        return self.values["high"] > 0

    @property
    def has_diverged(self) -> bool:
        """Whether it has been too high for too long."""
        return self.values["high"] >= PATIENCE

    def see(self, loss: float) -> None:
        """Take the loss of one step into account."""
        now = self.values
        now["steps"] += 1
        rate = max(1 / now["steps"], 1 / MEMORY)
        now["running"] += rate * (loss - now["running"])
        if self.factor <= 0 or now["steps"] < MEMORY:
            return
        if now["steps"] == MEMORY:
            now["first"] = now["best"] = now["running"]
        limit = self.factor * max(now["best"], FLOOR * now["first"])
        now["high"] = now["high"] + 1 if now["running"] > limit else 0.0
        now["best"] = min(now["best"], now["running"])
