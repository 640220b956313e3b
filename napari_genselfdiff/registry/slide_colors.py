"""Slides that people want to see in sRGB, by the identity of the slide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.registry.files import plain_errors, write_whole
from napari_genselfdiff.registry.home import data_home

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.registry.card import Colors

_MAX_BYTES: Final = 4 * 2**20
_KEPT: Final = 20_000


def remember_colors(slide_hash: str, colors: Colors) -> None:
    """Keep the colours for the next time this slide, or a copy of it, is opened.

    Raises
    ------
    ModelFileError
        If the disk refuses.
    """
    known = [one for one in _read() if one != slide_hash]
    if colors == "srgb":
        known.append(slide_hash)
    with plain_errors("Remembering the colours of a slide"):
        path = _file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(known[-_KEPT:], indent=0).encode())


def recall_colors(slide_hash: str) -> Colors:
    """Colours that were chosen for this slide; as stored if none were."""
    return "srgb" if slide_hash in _read() else "stored"


def _file() -> Path:
    return data_home() / "srgb-slides.json"


def _read() -> list[str]:
    """What is known; a damaged file is as if nothing had been chosen."""
    try:
        with _file().open("rb") as file:
            values = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else []
