"""Which colours the open slide is shown with, and which ones the model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.registry.slide_colors import recall_colors, remember_colors

if TYPE_CHECKING:
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.color_names import Colors
    from napari_genselfdiff.slides.slide import Slide

_WORDS = {"stored": "as the slide stores them", "srgb": "turned into sRGB"}


def recolored(slide: Slide) -> Slide:
    """The slide in the colours chosen for it before, if its profile can still be used."""
    try:
        return slide.in_colors(recall_colors(slide.hash))
    except SlideError:
        return slide


def choose_colors(session: Session, colors: Colors) -> None:
    """Show the slide with its colours as stored or in sRGB; a first model learns from them.

    Models read slides with the colours they learned from, whatever is shown.

    Raises
    ------
    ConfigError
        If no slide is open.
    SlideError
        If the slide's colour profile cannot be used.
    """
    if session.slide is None:
        raise ConfigError("no slide is open; open one first")
    session.slide = slide = session.slide.in_colors(colors)
    with session.attempt():
        remember_colors(slide.hash, colors)
    session.events.colors_changed.emit()
    how = "in sRGB, by the slide's colour profile" if colors == "srgb" else _WORDS["stored"]
    session.say(f"Colours are shown {how}. {colors_note(session)}".rstrip(), "good")


def colors_note(session: Session) -> str:
    """Say that the model reads other colours than are shown; empty if it does not."""
    slide, model = session.slide, session.model
    if slide is None or model is None or slide.colors == model.card.colors:
        return ""
    return (
        f"{model.card.name} learned from colours {_WORDS[model.card.colors]}, and reads them so, "
        "whatever is shown."
    )
