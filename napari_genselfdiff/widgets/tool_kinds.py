"""How each tool is handled: with which gesture, cursor, and on which kind of task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Tool = Literal[
    "brush",
    "erase",
    "forget",
    "fill",
    "polygon",
    "lasso",
    "cut",
    "split",
    "merge",
    "delete",
    "holes",
    "smooth",
    "class",
    "roi",
]
Gesture = Literal["stroke", "line", "corners", "click"]
"""A stroke paints while one drags; a line acts when it ends; corners are clicked one by one."""


@dataclass(frozen=True, slots=True)
class Handling:
    """Gesture of a tool, its cursor as napari calls it, and whether it needs objects.

    A tool that ``edits`` no pixels works at any zoom.
    """

    gesture: Gesture
    cursor: str = "cross"
    objects_only: bool = False
    edits: bool = True

    @property
    def pans(self) -> bool:
        """Whether a drag moves the slide, since the tool only wants clicks."""
        return self.gesture in ("corners", "click")


HANDLING: Final[dict[Tool, Handling]] = {
    "brush": Handling("stroke", "circle"),
    "erase": Handling("stroke", "circle"),
    "forget": Handling("stroke", "circle"),
    "fill": Handling("click"),
    "polygon": Handling("corners"),
    "lasso": Handling("line"),
    "cut": Handling("line"),
    "roi": Handling("corners", edits=False),
    "split": Handling("line", objects_only=True),
    "merge": Handling("line", objects_only=True),
    "delete": Handling("click", objects_only=True),
    "holes": Handling("click", objects_only=True),
    "smooth": Handling("click", objects_only=True),
    "class": Handling("click", objects_only=True),
}
