"""Runs of a long benchmark, kept in a file, so that it can be run in parts and goes on later."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_genselfdiff.registry.files import write_whole

Values = dict[str, Any]


class Kept:
    """Values of numbered runs by part; ``path`` None keeps them in memory alone.

    A file of other settings is refused: their runs would be mixed.
    """

    def __init__(self, path: Path | None, settings: Values) -> None:
        self._path = path
        self._found: dict[str, Any] = {"settings": settings, "parts": {}}
        if path is not None and path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["settings"] != settings:
                raise SystemExit(
                    f"{path} holds runs with {found['settings']}, not {settings}; name another file"
                )
            self._found = found

    def runs(self, part: str) -> dict[int, Values]:
        """What was measured of a part, by run."""
        return {int(number): values for number, values in self._part(part).items()}

    def run(self, part: str, number: int, measure: Callable[[], Values]) -> Values:
        """A run's values: kept ones, or measured now and kept."""
        values: Values | None = self._part(part).get(str(number))
        if values is None:
            values = measure()
            self._part(part)[str(number)] = values
            self._write()
        return values

    def _part(self, part: str) -> dict[str, Values]:
        found: dict[str, Values] = self._found["parts"].setdefault(part, {})
        return found

    def _write(self) -> None:
        if self._path is not None:
            text = json.dumps(self._found, indent=1, allow_nan=False) + "\n"
            write_whole(self._path, text.encode())
