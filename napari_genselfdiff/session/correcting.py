"""Correcting: what a user does to the annotations of the slide that is open."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.engine.slide_request import WHAT as SEGMENT_SLIDE
from napari_genselfdiff.errors import ConfigError, StoreError
from napari_genselfdiff.session import wording
from napari_genselfdiff.session.editing import EditWindow, with_surroundings
from napari_genselfdiff.session.objects import delete_object
from napari_genselfdiff.session.predicting import LIVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_genselfdiff.annotation.window import Operation
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.geometry import Region

_PARTS: Final = {LIVE: "view", SEGMENT_SLIDE: "part"}
"""Steps that are undone all in a row, and what to call one of them."""
READING_ZOOM: Final = 2.0
"""One screen pixel may cover this many of the task's pixels to accept a view."""


class Correcting:
    """Edits, Accept view, undo and redo.

    Parameters
    ----------
    session
        Whose slide, task and annotations are meant.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_grid(self, region0: Region | None) -> Region:
        """Pixels of the task's grid for a region of level 0; ConfigError if it is off the slide."""
        slide, store = self._session.readable_store()
        visible = None if region0 is None else region0.clipped(slide.shape)
        if visible is not None:
            grid = visible.to_grid(store.downsample(self._session.task.name))
            inside = grid.clipped(store.shape(self._session.task.name))
            if inside is not None:
                return inside
        raise ConfigError("nothing of the slide is on screen; move it into view")

    def take_window(self, region0: Region | None) -> EditWindow:
        """Make the visible region (level-0 pixels) editable, and as much around it as fits."""
        _, store = self._session.open_store()
        shape = store.shape(self._session.task.name)
        return EditWindow(
            store, self._session.task, with_surroundings(self.on_grid(region0), shape)
        )

    def accept(self, region0: Region | None, pixel_on_screen: float) -> int:
        """Vouch for everything visible, background included; give the number of pixels.

        ``pixel_on_screen`` is how many level-0 pixels one screen pixel covers: what cannot be seen
        cannot be accepted.
        """
        _, store = self._session.open_store()
        if pixel_on_screen > READING_ZOOM * store.downsample(self._session.task.name):
            raise ConfigError("too far away to judge single masks; zoom in to accept what you see")
        changed = store.accept(self._session.task.name, self.on_grid(region0))
        if changed:
            self._session.say(
                f"Accepted this view: its {wording.things(self._session.task)} and the rest.",
                "good",
            )
        else:
            self._session.say("This view was accepted already.")
        return changed

    def clear_to_unknown(self, region0: Region | None) -> int:
        """Forget everything visible, as if nobody had looked; give the number of pixels."""
        _, store = self._session.open_store()
        changed = store.clear_to_unknown(self._session.task.name, self.on_grid(region0))
        self._session.say("Cleared: this view is unknown again. Undo brings it back.")
        return changed

    def delete_object(self, y: int, x: int) -> bool:
        """Delete the object at a pixel of the task's grid."""
        _, store = self._session.open_store()
        found = delete_object(store, self._session.task, y, x)
        if found:
            self._session.say("Deleted: there is nothing here, and Refine learns from it.")
        return bool(found)

    def undo(self) -> Operation | None:
        """Take back the last change of the annotations, whatever made it.

        What live mode predicted in a row is one change, and so is a run over the slide: nobody
        asked for its steps. While a run goes on, the last change a person made is meant.
        """
        _, store = self._session.open_store()
        if self._session.whole_slide.state != "idle":
            operation = self._session.whole_slide.undo()
            self._session.say(f"Undone: {operation.what}." if operation else "Nothing was undone.")
            return operation
        history = store.history
        steps = _in_a_row(history[at] for at in range(history.done - 1, -1, -1))
        if steps < 2:
            operation = store.undo()
            self._session.say(
                f"Undone: {operation.what}." if operation else "There is nothing to undo."
            )
            return operation
        last = history[history.done - 1]
        before = history.done - steps - 1
        store.go_to(history.ids[before] if before >= 0 else None)
        self._session.say(f"Undone: {last.what}, {wording.counted(steps, _PARTS[last.what])}.")
        return replace(last, undone=True)

    def redo(self) -> Operation | None:
        """Do again what was undone last; what live mode predicted in a row all at once."""
        _, store = self._session.open_store()
        history = store.history
        steps = _in_a_row(history[at] for at in range(history.done, len(history)))
        if steps < 2:
            operation = store.redo()
            self._session.say(
                f"Done again: {operation.what}." if operation else "There is nothing to redo."
            )
            return operation
        last = history[history.done + steps - 1]
        store.go_to(last.id)
        self._session.say(f"Done again: {last.what}, {wording.counted(steps, _PARTS[last.what])}.")
        return replace(last, undone=False)

    def go_to(self, op_id: int | None) -> int:
        """Undo or redo until an operation is the last one done (None: all are undone).

        Returns
        -------
        int
            Operations done again; negative for undone.
        """
        _, store = self._session.open_store()
        steps = store.go_to(op_id)
        what = "Undone" if steps < 0 else "Done again"
        said = f"{what}: {wording.counted(abs(steps), 'step')}. The history keeps every one."
        self._session.say(said if steps else "That is how it is now.")
        return steps


def _in_a_row(steps: Iterable[Operation]) -> int:
    """How many steps at the beginning live mode, or a run over the slide, made by itself."""
    number, what = 0, None
    with suppress(StoreError):  # a step that cannot be read is no reason to undo none
        for step in steps:
            if step.what not in _PARTS or step.what != (what or step.what):
                break
            what = step.what
            number += 1
    return number
