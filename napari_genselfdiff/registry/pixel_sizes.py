"""Pixel sizes people stated for slides that do not say theirs, by the identity of the slide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.registry.card import MPP_MAX, MPP_MIN
from napari_genselfdiff.registry.files import plain_errors, write_whole
from napari_genselfdiff.registry.home import data_home

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES: Final = 4 * 2**20
_KEPT: Final = 20_000


def remember(slide_hash: str, mpp: float) -> None:
    """Keep µm per pixel for the next time this slide, or a copy of it, is opened.

    Raises
    ------
    ModelFileError
        If the disk refuses.
    """
    known = {**_read(), slide_hash: mpp}
    newest = dict(list(known.items())[-_KEPT:])
    with plain_errors("Remembering the size of a pixel"):
        path = _file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(newest, indent=0).encode())


def recall(slide_hash: str) -> float | None:
    """µm per pixel that was stated for this slide; None if it never was."""
    return _read().get(slide_hash)


def _file() -> Path:
    return data_home() / "pixel-sizes.json"


def _read() -> dict[str, float]:
    """What is known; whatever is damaged or impossible is as if it had not been said."""
    try:
        with _file().open("rb") as file:
            values = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {
        key: float(mpp)
        for key, mpp in values.items()
        if isinstance(mpp, int | float) and MPP_MIN <= mpp <= MPP_MAX
    }
