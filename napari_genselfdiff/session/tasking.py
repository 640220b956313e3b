"""Tasks and their classes: making a task, and changing the classes of the one worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import TaskName
from napari_genselfdiff.session.own_tasks import forget_task, read_own_tasks, remember_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_genselfdiff.registry.card import ClassSpec, TaskSpec
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

    def add_class(self, name: str, color: str) -> ClassSpec:
        """Add a class to the task worked on, with the first free key.

        Raises
        ------
        ConfigError
            If it cannot have that name, or the task has 255 classes.
        """
        _, store = self._session.open_store()
        task = self._session.task
        name = check_class_name(name, (spec.name for spec in task.classes))
        taken = {spec.key for spec in task.classes}
        key = next((str(n) for n in range(1, 10) if str(n) not in taken), "")
        spec = store.add_class(task.name, name, color, key)
        self._remember()
        self._session.say(f"New class {spec.name}." + (f" Key {key}." if key else ""), "good")
        return spec

    def rename_class(self, value: int, name: str) -> None:
        """Give a class another name; errors as for :meth:`add_class`."""
        _, store = self._session.open_store()
        task = self._session.task
        others = [spec.name for spec in task.classes if spec.value != value]
        store.rename_class(task.name, value, check_class_name(name, others))
        self._remember()

    def recolor_class(self, value: int, color: str) -> None:
        """Draw a class in another colour."""
        _, store = self._session.open_store()
        store.recolor_class(self._session.task.name, value, color)
        self._remember()

    def rekey_class(self, value: int, key: str) -> None:
        """Give a class another key, 1 to 9, or none; ConfigError if another class has it."""
        _, store = self._session.open_store()
        task, key = self._session.task, key.strip()
        if key not in {"", *"123456789"}:
            raise ConfigError(f"{key!r} cannot be the key of a class; 1 to 9 can")
        for spec in task.classes:
            if key and spec.key == key and spec.value != value:
                raise ConfigError(f"{spec.name} has the key {key}; choose another one")
        store.rekey_class(task.name, value, key)
        self._remember()

    def merge_classes(self, value: int, into: int) -> None:
        """Make everything of one class another class; the first one is gone then."""
        _, store = self._session.open_store()
        names = {spec.value: spec.name for spec in self._session.task.classes}
        store.merge_classes(self._session.task.name, value, into)
        self._remember()
        self._session.say(
            f"{names[value]} is {names[into]} now. Undo brings it back as it was.", "good"
        )

    def _remember(self) -> None:
        """The next slide begins a task of one's own with the classes it has now."""
        if self.is_own(self._session.task.name):
            remember_task(self._session.task)

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
