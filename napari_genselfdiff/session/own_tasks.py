"""Tasks a user made, remembered for the next slide: one small file in the user's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.annotation.disk import disk_errors, replace_file
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import TaskSpec
from napari_genselfdiff.registry.home import data_home

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MAX_BYTES: Final = 2**20
_MOST: Final = 64


def own_tasks_file() -> Path:
    """Where the user's own tasks are kept."""
    return data_home() / "tasks.json"


def read_own_tasks() -> list[TaskSpec]:
    """Tasks the user made, in the order they were made.

    What cannot be read is passed over: a slide's annotations know their own tasks anyway.
    """
    path = own_tasks_file()
    try:
        if path.stat().st_size > _MAX_BYTES:
            return []
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    found: dict[str, TaskSpec] = {}
    for item in values[:_MOST] if isinstance(values, list) else []:
        try:
            task = TaskSpec.parse(item)
        except ConfigError:
            continue
        found[task.name] = task
    return list(found.values())


def remember_task(task: TaskSpec) -> None:
    """Keep a task for the next slides; StoreError if the disk refuses."""
    _write([*(known for known in read_own_tasks() if known.name != task.name), task])


def forget_task(name: str) -> None:
    """Offer a task no more; what is annotated stays. StoreError if the disk refuses."""
    _write(known for known in read_own_tasks() if known.name != name)


def _write(tasks: Iterable[TaskSpec]) -> None:
    path = own_tasks_file()
    text = json.dumps([task.model_dump(mode="json") for task in tasks], indent=1)
    with disk_errors("remember your tasks"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{text}\n".encode())
