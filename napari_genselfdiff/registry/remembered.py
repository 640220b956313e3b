"""Small JSON files of what people said about single slides, by the identity of the slide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from napari_genselfdiff.registry.files import plain_errors, write_whole
from napari_genselfdiff.registry.home import data_home

if TYPE_CHECKING:
    from pathlib import Path

KEPT: Final = 20_000
"""The newest so many slides are remembered."""
_MAX_BYTES: Final = 4 * 2**20


def write_remembered(name: str, values: Any, what: str) -> None:
    """Keep plain values in the user's folder; ``what`` is done, for the message.

    Raises
    ------
    ModelFileError
        If the disk refuses.
    """
    with plain_errors(what):
        path = _file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(values, indent=0).encode())


def read_remembered(name: str) -> Any:
    """What was kept; None where nothing can be read: that is as if nothing had been said."""
    try:
        with _file(name).open("rb") as file:
            return json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None


def _file(name: str) -> Path:
    return data_home() / name
