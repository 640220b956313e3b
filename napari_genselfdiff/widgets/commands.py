"""Words, keys and explanations of everything one can do; buttons and key bindings share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from napari_genselfdiff.widgets.tool_kinds import Tool


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to do: its word, its key (as napari spells it, or empty), and what it does."""

    text: str
    key: str
    tip: str

    @property
    def label(self) -> str:
        """Word with key, for a button."""
        key = shown_key(self.key).replace("Shift", "⇧")
        return f"{self.text}  ({key})" if key else self.text

    @property
    def tooltip(self) -> str:
        """Explanation with key."""
        return f"{self.tip}\nKey: {shown_key(self.key)}" if self.key else self.tip


def shown_key(key: str) -> str:
    """A key as people read it: "Ctrl+Shift+Z"."""
    return key.replace("Control", "Ctrl").replace("Escape", "Esc").replace("-", "+")


PREDICT: Final = Command(
    "Predict",
    "P",
    "Outline what is on screen. Nothing you corrected or accepted is changed.",
)
LIVE: Final = Command(
    "Live",
    "",
    "Follow the view: predict whenever it rests. What was computed once is kept on disk,\n"
    "so coming back costs nothing. Off while a tool is in hand.",
)
HATCH: Final = Command(
    "Hatch",
    "",
    "Hatch where about one pixel in four or more may be wrong. Look there first.\n"
    "What you corrected or accepted is not hatched.",
)
COPY: Final = Command(
    "Copy command",
    "",
    "Copy a command for the terminal that gives the same labels as the last Predict.",
)
CANCEL: Final = Command("Cancel", "", "Stop within a second; your annotations stay as they are.")
STOP_REFINE: Final = Command(
    "Cancel",
    "",
    "Stop learning and judge what was learnt so far; the old model stays unless that is better.\n"
    "Press again to stop at once.",
)
ZOOM_IN: Final = Command("Zoom in", "", "Zoom to where single masks can be seen and judged.")
ACCEPT: Final = Command(
    "Accept view",
    "A",
    "I looked at everything visible: the masks and the background are right.\n"
    "Nothing automatic changes it afterwards, and Refine learns from it.",
)
CLEAR: Final = Command(
    "Clear to unknown",
    "",
    "Forget everything visible, as if nobody had looked. Undo brings it back.",
)
UNDO: Final = Command(
    "Undo", "Control-Z", "Take back the last change, also of Predict, Accept and Import."
)
REDO: Final = Command("Redo", "Control-Shift-Z", "Do again what was undone.")
REFINE: Final = Command(
    "Refine model",
    "",
    "Teach the model what you corrected and accepted. It is used only if it is better on places\n"
    "kept aside; the old model is kept in any case.",
)
MEASURE: Final = Command(
    "Measure",
    "",
    "Areas, numbers and densities of the classes, and a table of all objects. It runs beside\n"
    "everything else.",
)
DRAW_ROI: Final = Command(
    "Draw ROI",
    "",
    "Outline a region of interest: click its corners, a double click or Enter closes it.\n"
    "Everything is then measured inside it, too.",
)
HIDE: Final = Command("Hold to hide", "H", "Hide the overlay as long as the key is held.")
LEAVE: Final = Command("Done", "Escape", "Put the tool away; everything is saved already.")

TOOLS: Final[dict[Tool, Command]] = {
    "brush": Command(
        "Brush",
        "B",
        "Paint. Begin inside an object to extend it, beside it to draw a new one.\n"
        "With Alt it erases.",
    ),
    "erase": Command("Erase", "E", "Erase: there is nothing here. Refine learns from it."),
    "fill": Command(
        "Fill",
        "F",
        "Click inside a closed line to fill it, or on an object to give it the chosen class.",
    ),
    "polygon": Command(
        "Polygon",
        "G",
        "Click corner after corner; a double click or Enter closes the outline, Backspace takes\n"
        "the last corner back, Esc forgets it. Drag to move the slide meanwhile.\n"
        "Shift at the first corner extends the object there, Alt erases the inside.",
    ),
    "lasso": Command(
        "Lasso",
        "L",
        "Drag around something to outline and fill it.\n"
        "With Shift it extends the object it begins in, with Alt it erases the inside.",
    ),
    "cut": Command(
        "Cut out",
        "X",
        "Lasso delete: drag around objects to delete those that lie mostly inside.\n"
        "In a task of areas everything inside is deleted.",
    ),
    "forget": Command(
        "Unknown",
        "U",
        "Paint what nobody has judged: it is unknown again, and teaches nothing.",
    ),
    "split": Command("Split", "S", "Drag a line across an object to cut it in two."),
    "merge": Command(
        "Merge",
        "M",
        "Drag from one object across others: they become one, with the class of the first.",
    ),
    "delete": Command(
        "Delete",
        "D",
        "Click an object to delete it; the key deletes the one under the pointer.\n"
        "Refine learns that there is nothing.",
    ),
    "holes": Command("Holes", "O", "Click an object to fill its holes."),
    "smooth": Command("Smooth", "R", "Click an object to round off its outline."),
    "class": Command("Class", "C", "Click an object to give it the chosen class."),
}
PROTECT: Final = Command(
    "Protect other classes",
    "",
    "Brush, eraser, lasso and fill leave other classes as they are.\n"
    "Other objects are never painted over in any case.",
)
KEYS: Final = Command("Keys…", "", "Choose your own keys.")
CLOSE_OUTLINE, LAST_CORNER = "Enter", "Backspace"
"""Keys that are not chosen: they close an outline and take its last corner back."""
