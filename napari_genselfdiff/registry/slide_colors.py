"""Slides that people want to see in sRGB, by the identity of the slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from napari_genselfdiff.registry.remembered import KEPT, read_remembered, write_remembered

if TYPE_CHECKING:
    from napari_genselfdiff.slides.color_names import Colors

_FILE: Final = "srgb-slides.json"


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
    write_remembered(_FILE, known[-KEPT:], "Remembering the colours of a slide")


def recall_colors(slide_hash: str) -> Colors:
    """Colours that were chosen for this slide; as stored if none were."""
    return "srgb" if slide_hash in _read() else "stored"


def _read() -> list[str]:
    """What is known; whatever is damaged is as if it had not been chosen."""
    values = read_remembered(_FILE)
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else []
