"""Which model of each task is in use, what was used before it, and every change of mind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field, ValidationError

from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.registry.card import ModelName, Record, Sha256, TaskName, one_line
from napari_genselfdiff.registry.files import checked_size, plain_errors, write_whole

if TYPE_CHECKING:
    from pathlib import Path

RecordT = TypeVar("RecordT", bound=Record)
_MAX_BYTES = 16 * 2**20


class Chosen(Record):
    """A model somebody put to use."""

    name: ModelName
    hash: Sha256


class Change(Record):
    """One entry of the log: what was done, with which model, when and why."""

    what: Literal["use", "rollback", "delete"]
    task: TaskName
    name: ModelName
    hash: Sha256
    at: str
    why: str = ""


class ActiveModels(Record):
    """Contents of ``active.json``; the last of a task's list is in use, those before came before.

    A task without a list uses its shipped model.
    """

    schema_version: Literal[1] = 1
    used: dict[TaskName, tuple[Chosen, ...]] = Field(default_factory=dict)
    log: tuple[Change, ...] = ()

    def history(self, task: str) -> tuple[Chosen, ...]:
        """Models of a task in the order they were put to use, the current one last."""
        return self.used.get(task, ())

    def without(self, name: str) -> ActiveModels:
        """The same with nothing to go back to a deleted model; it must not be in use."""
        kept = self
        for task, history in self.used.items():
            gone = [chosen for chosen in history if chosen.name == name]
            if gone:
                left = tuple(chosen for chosen in history if chosen.name != name)
                kept = kept.with_history(task, left, change("delete", task, gone[-1]))
        return kept

    def with_history(
        self, task: str, history: tuple[Chosen, ...], change: Change | None = None
    ) -> ActiveModels:
        """The same with another history of one task."""
        used = {**self.used, task: history}
        log = self.log if change is None else (*self.log, change)
        return self.model_copy(update={"used": used, "log": log})


def change(
    what: Literal["use", "rollback", "delete"], task: str, chosen: Chosen, why: str = ""
) -> Change:
    """A log entry of now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Change(what=what, task=task, name=chosen.name, hash=chosen.hash, at=now, why=why)


def read_active(path: Path) -> ActiveModels:
    """Read the file; without one nothing was ever chosen."""
    remedy = "the shipped models; your own models stay and can be put to use again."
    return read_choice(path, ActiveModels, remedy) or ActiveModels()


def read_choice(path: Path, record: type[RecordT], remedy: str) -> RecordT | None:
    """Read what somebody chose; None without the file.

    ModelFileError if it is damaged: says that removing it goes back to the ``remedy``.
    """
    if not path.exists():
        return None
    checked_size(path, _MAX_BYTES)
    with plain_errors(f"Reading {path}"):
        data = path.read_bytes()
    try:
        return record.model_validate_json(data)
    except ValidationError as err:
        raise ModelFileError(
            f"{path} is damaged ({one_line(err)}). Remove it to go back to {remedy}"
        ) from err


def write_choice(path: Path, choice: Record) -> None:
    """Write what somebody chose, whole or not at all."""
    with plain_errors(f"Writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (choice.model_dump_json(indent=1) + "\n").encode())
