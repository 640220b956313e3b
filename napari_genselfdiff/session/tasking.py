"""Tasks and their classes: making a task, and changing the classes of the one worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import TaskName
from napari_genselfdiff.session.own_tasks import forget_task, read_own_tasks, remember_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.session.session import Session

_TASK_NAME: TypeAdapter[str] = TypeAdapter(TaskName)
_LONGEST_CLASS = 64


class Tasking:
    """Makes tasks, and changes the classes of the task worked on.

    Parameters
    ----------
    session
        Whose tasks are meant.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def new_task(self, task: TaskSpec) -> None:
        """Make a task of the user's own, remember it for other slides, and work on it.

        Raises
        ------
        ConfigError
            If another task has that name.
        """
        session = self._session
        check_new_task(task.name, (known.name for known in session.tasks()))
        remember_task(task)
        session.choose_task(task.name)
        session.say(f"{task.name}: draw a few {task.classes[0].name.lower()} to begin.", "good")

    def is_own(self, name: str) -> bool:
        """Whether the user made a task of that name."""
        return any(task.name == name for task in read_own_tasks())

    def forget(self, name: str) -> None:
        """Offer a task on other slides no more; annotations of it stay where they are."""
        forget_task(name)
        self._session.say(f"{name} is no longer offered; slides that have it keep it.")


def check_new_task(name: str, taken: Iterable[str]) -> str:
    """Name of a new task without spaces around it.

    Raises
    ------
    ConfigError
        If it cannot be a task's name, or another task has it; says what to do.
    """
    name = " ".join(name.split())
    if not name:
        raise ConfigError("give the task a name, such as Mitoses")
    for other in taken:
        if other.casefold() == name.casefold():
            raise ConfigError(f"there is a task {other} already; choose another name")
    try:
        return _TASK_NAME.validate_python(name)
    except ValidationError as err:
        raise ConfigError(
            f"{name!r} cannot name a task: 2 to 64 letters (A-Z without accents), digits, spaces, "
            "- and _ can, since a folder gets that name; it begins and ends with a letter or digit"
        ) from err


def check_class_name(name: str, taken: Iterable[str]) -> str:
    """Name of a class without spaces around it; ConfigError if it is none or taken."""
    name = " ".join(name.split())
    if not name:
        raise ConfigError("give the class a name")
    if len(name) > _LONGEST_CLASS:
        raise ConfigError(
            f"the name of the class has {len(name)} letters; {_LONGEST_CLASS} at most"
        )
    for other in taken:
        if other.casefold() == name.casefold():
            raise ConfigError(f"there is a class {other} already; choose another name")
    return name
