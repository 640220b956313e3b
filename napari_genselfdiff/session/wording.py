"""The sentences people read; plain words only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.measure import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_genselfdiff.registry.card import TaskSpec


def sentence(text: str) -> str:
    """One line that begins like a sentence and ends like one."""
    line = " ".join(text.split())
    if line.partition(" ")[0].isalpha():  # the name of a file stays as it is
        line = line[:1].upper() + line[1:]
    return line if line.endswith((".", "!", "?")) else f"{line}."


def counted(number: int, one: str, many: str | None = None) -> str:
    """Give "1 tile", "3 tiles", "1,204 tiles"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Give a time as people say it: "3 s", "2 min 10 s", "1 h 5 min"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def share(part: float, whole: float) -> str:
    """Give a share as whole per cent; rules of :func:`annotation.measure.percent`."""
    return percent(part, whole)


def things(task: TaskSpec, number: int | None = None) -> str:
    """Give what a task looks for, in the plural or counted: "nuclei", "12 nuclei"."""
    word = task.name.lower() if task.kind == "objects" else "areas"
    if number is None:
        return word
    one = task.classes[0].name.lower() if task.n_classes == 1 else "object"
    return counted(number, one, word)


def coverage(pixels: Mapping[str, int]) -> str:
    """Say who stands behind what is annotated, and how much of the slide nobody has looked at.

    ``pixels`` as of ``store.summary``.
    """
    total, unknown = sum(pixels.values()), pixels["unknown"]
    if unknown == total:
        return "Nothing annotated yet: the whole slide is unknown."
    parts = {"model": "model only", "accepted": "accepted", "human": "corrected by hand"}
    known = [f"{share(pixels[name], total - unknown)} {word}" for name, word in parts.items()]
    rest = f"{share(unknown, total)} of the slide is unknown." if unknown else ""
    return f"{', '.join(known)}. {rest}".strip()


def kept(kept_objects: int, kept_pixels: int, task: TaskSpec) -> str:
    """Say what a prediction left alone; empty if there was nothing."""
    if kept_objects:
        return f"Kept {things(task, kept_objects)} and everything else you checked."
    return "Kept everything you checked." if kept_pixels else ""
