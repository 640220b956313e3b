"""Pixel sizes people stated for slides that do not say theirs, by the identity of the slide."""

from __future__ import annotations

from typing import Final

from napari_genselfdiff.registry.card import MPP_MAX, MPP_MIN
from napari_genselfdiff.registry.remembered import KEPT, read_remembered, write_remembered

_FILE: Final = "pixel-sizes.json"


def remember(slide_hash: str, mpp: float) -> None:
    """Keep µm per pixel for the next time this slide, or a copy of it, is opened.

    Raises
    ------
    ModelFileError
        If the disk refuses.
    """
    known = {**_read(), slide_hash: mpp}
    newest = dict(list(known.items())[-KEPT:])
    write_remembered(_FILE, newest, "Remembering the size of a pixel")


def recall(slide_hash: str) -> float | None:
    """µm per pixel that was stated for this slide; None if it never was."""
    return _read().get(slide_hash)


def _read() -> dict[str, float]:
    """What is known; whatever is damaged or impossible is as if it had not been said."""
    values = read_remembered(_FILE)
    if not isinstance(values, dict):
        return {}
    return {
        key: float(mpp)
        for key, mpp in values.items()
        if isinstance(mpp, int | float) and MPP_MIN <= mpp <= MPP_MAX
    }
