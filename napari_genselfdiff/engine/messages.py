"""What crosses the pipe between the window's process and a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Run:
    """To the worker: call ``task(context, *arguments)``.

    The task is a function of a module, which pickle names instead of copying.
    """

    job: int
    task: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the worker: stop this job at its next step."""

    job: int


@dataclass(frozen=True, slots=True)
class Conclude:
    """To the worker: bring this job to its end early, with what it has."""

    job: int


@dataclass(frozen=True, slots=True)
class Quit:
    """To the worker: stop whatever runs and end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From the worker: it listens."""


@dataclass(frozen=True, slots=True)
class Partial:
    """From the worker: something a job yielded."""

    job: int
    value: Any


@dataclass(frozen=True, slots=True)
class Finished:
    """From the worker: what a job returned."""

    job: int
    value: Any


@dataclass(frozen=True, slots=True)
class Stopped:
    """From the worker: a job ended because it was cancelled."""

    job: int


@dataclass(frozen=True, slots=True)
class Failed:
    """From the worker: a job ended early; ``sentence`` for the user, ``log`` for a bug report.

    After an error nobody expected the process is not ``usable`` any more.
    """

    job: int
    sentence: str
    log: str = ""
    usable: bool = True
