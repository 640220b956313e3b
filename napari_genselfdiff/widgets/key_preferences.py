"""Which key does what: the usual keys, and those a person chose instead, kept for the user."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from psygnal import Signal

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.home import data_home
from napari_genselfdiff.widgets import commands

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_genselfdiff.widgets.commands import Command

EDITABLE: Final[dict[str, Command]] = {
    "predict": commands.PREDICT,
    "accept_view": commands.ACCEPT,
    "hide": commands.HIDE,
    "undo": commands.UNDO,
    "redo": commands.REDO,
    **{str(tool): command for tool, command in commands.TOOLS.items()},
}
"""Commands whose key can be chosen, by the name that is kept on disk."""
CLASS_KEYS: Final = tuple("123456789")
_FIXED: Final = {
    "Escape": "puts the tool away",
    "Enter": "closes an outline",
    "Backspace": "takes back a corner",
    "Space": "moves the slide",
    **dict.fromkeys(CLASS_KEYS, "chooses a class"),
}
_MAX_BYTES: Final = 2**16
_SCHEMA: Final = 1


class KeyBook:
    """The key of every command.

    Parameters
    ----------
    path
        JSON file with what was chosen; None keeps it among the user's data. A file that cannot be
        used is left alone, :attr:`problem` says why, and the usual keys hold.
    """

    changed = Signal()

    def __init__(self, path: Path | None = None) -> None:
        self._path = data_home() / "keys.json" if path is None else path
        self.problem = ""
        self._keys = {name: normal_key(command.key) for name, command in EDITABLE.items()}
        try:
            self._keys = self.checked(self._read())
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            self.problem = f"Your own keys in {self._path.name} cannot be used: {error}"

    def key(self, name: str) -> str:
        """Key of a command, as napari spells it; empty for none."""
        return self._keys[name]

    @property
    def keys(self) -> dict[str, str]:
        """Keys by the name of their command."""
        return dict(self._keys)

    def checked(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Keys of all commands with some chosen anew, as napari spells them; "" for no key.

        Raises
        ------
        ConfigError
            If a key is none, is needed for something else, or is chosen twice.
        """
        keys = {name: normal_key(command.key) for name, command in EDITABLE.items()}
        keys.update({name: normal_key(key) for name, key in chosen.items() if name in EDITABLE})
        taken: dict[str, str] = {}
        for name, key in keys.items():
            word = EDITABLE[name].text
            if key in _FIXED:
                raise ConfigError(f"{key} {_FIXED[key]}; choose another key for {word}")
            if key and key in taken:
                raise ConfigError(f"{key} is chosen for {taken[key]} and for {word}")
            taken[key] = word
        return keys

    def choose(self, chosen: Mapping[str, str]) -> None:
        """Use other keys from now on, and keep them; errors as :meth:`checked`, or ConfigError."""
        keys = self.checked(chosen)
        different = {
            name: key for name, key in keys.items() if key != normal_key(EDITABLE[name].key)
        }
        try:
            self._write(different)
        except OSError as error:
            raise ConfigError(f"your keys cannot be kept in {self._path}: {error}") from error
        self._keys, self.problem = keys, ""
        self.changed.emit()

    def reset(self) -> None:
        """Use the usual keys again."""
        self.choose({})

    def _read(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        if self._path.stat().st_size > _MAX_BYTES:
            raise ConfigError("it is too large")
        found: Any = json.loads(self._path.read_text(encoding="utf-8"))
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, dict) or found.get("schema") != _SCHEMA:
            raise ConfigError("it is not a list of keys this program wrote")
        if not all(isinstance(key, str) for key in keys.values()):
            raise ConfigError("a key is not a text")
        return keys

    def _write(self, keys: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f".{self._path.name}.{uuid4().hex}.partial")
        try:
            text = json.dumps({"schema": _SCHEMA, "keys": keys}, indent=1)
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)


def normal_key(key: str) -> str:
    """Spell a key as napari does: "Ctrl+Shift+Z"; "" for none.

    Raises
    ------
    ConfigError
        If napari knows no such key, or it is several keys one after the other.
    """
    from napari.utils.key_bindings import coerce_keybinding

    if not key.strip():
        return ""
    try:
        binding = coerce_keybinding(key.strip())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key!r} is not a key napari knows") from error
    # A name napari does not know becomes an unknown key, which it takes for a modifier.
    if len(binding.parts) != 1 or binding.parts[0].is_modifier_key():
        raise ConfigError(
            f"{key!r} is not a key napari knows; write one such as B, Shift+B or Ctrl+Alt+B"
        )
    return str(binding)
