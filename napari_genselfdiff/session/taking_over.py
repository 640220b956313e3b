"""Finished blocks of a whole-slide run, taken over into the annotations while somebody works there.

Piece by piece, on the thread that writes predictions, and never where something is being edited.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.annotation.window import Written
from napari_genselfdiff.engine.slide_request import WHAT
from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor, Future

    from napari_genselfdiff.annotation.runs import RunFolder
    from napari_genselfdiff.engine.slide_request import SlideRequest
    from napari_genselfdiff.engine.slide_run import SlideRun
    from napari_genselfdiff.prediction.plan import Plan
    from napari_genselfdiff.slides.geometry import Region

PIECE: Final = 1024
"""Pixels of the task's grid taken over at once: short enough that nobody waits for it long."""
_UNDO_REACH: Final = 20
"""Parts of the run that Undo steps over to reach what a person did; more would take too long."""
_REDO_S: Final = 8.0
"""Nothing is taken over so long after Undo, for it would end the chance to redo."""
_NO_MORE: Final = object()


@dataclass
class TakingOver:
    """A run that works, and what became of its blocks.

    ``queue`` are finished blocks that are not taken over yet; ``part`` the rest of block
    ``number``, which is; ``steps`` the block of every step of the history that is ours, in order.
    """

    request: SlideRequest
    run: RunFolder
    plan: Plan
    work: SlideRun
    writer: Callable[[], Executor]
    queue: deque[int] = field(default_factory=deque)
    part: Iterator[Written | None] | None = None
    number: int = -1
    writing: Future[Written | object | None] | None = None
    kept_objects: int = 0
    kept_pixels: int = 0
    steps: list[int] = field(default_factory=list)
    rests_until: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether everything is computed and taken over."""
        return self.work.finished and self.work.idle and not self.queue and not self.part

    def take(self, edited: Region | None, *, is_busy: bool) -> None:
        """Begin to write one more piece, or take in what became of the last one.

        ``edited`` is what somebody edits, in pixels of the task's grid; that is left for later.
        Nothing is begun under a stroke (``is_busy``).
        """
        if self.writing is not None:
            if self.writing.done():
                self.take_written()
            return
        if is_busy or time.monotonic() < self.rests_until:
            return
        if self.part is None:
            for _ in range(len(self.queue)):
                number = self.queue.popleft()
                if not self._in_use(edited, number):
                    self.number = number
                    self.part = self.request.take_over(self.run, number, PIECE)
                    break
                self.queue.append(number)
        elif self._in_use(edited, self.number):
            return
        if self.part is None:
            return
        write = partial(next, self.part, _NO_MORE)
        self.writing = self.request.store.background.start(self.writer(), write)
        if self.writing.done():
            self.take_written()

    def take_written(self) -> None:
        """Take in what became of the piece that is being written, if one is; waits for it."""
        writing, self.writing = self.writing, None
        if writing is None:
            return
        self.request.store.background.settle()
        written = writing.result()
        if written is _NO_MORE:
            self.part = None
        elif written is None:
            self.work.recompute(self.number)
        elif isinstance(written, Written):
            if written.changed_pixels:
                self.steps.append(self.number)
            self.kept_objects += written.kept_objects
            self.kept_pixels += written.kept_pixels

    def step_back(self) -> None:
        """Undo the parts that came after the last thing a person did; they come again later.

        Raises
        ------
        ConfigError
            If a person did nothing yet, or too long ago.
        """
        self.take_written()
        store = self.request.store
        history, ours = store.history, 0
        while ours < history.done and history[history.done - 1 - ours].what == WHAT:
            ours += 1
        if ours == history.done:
            raise ConfigError("there is nothing of yours to undo")
        if ours > min(_UNDO_REACH, len(self.steps)):
            raise ConfigError(
                f"{ours} parts of the slide were segmented since your last change; "
                "choose the step in the history instead"
            )
        for _ in range(ours):
            store.undo()
        numbers = set(self.steps[len(self.steps) - ours :])
        del self.steps[len(self.steps) - ours :]
        self._come_again(numbers)
        self.rests_until = time.monotonic() + _REDO_S

    def _come_again(self, numbers: set[int]) -> None:
        """Queue blocks that an undo took out of the annotations."""
        if self.part is not None:
            numbers.add(self.number)
            self.part = None
        for number in sorted(numbers):
            if not self.run.give_back(number):
                self.work.recompute(number)
            elif number not in self.queue:
                self.queue.append(number)

    def _in_use(self, edited: Region | None, number: int) -> bool:
        """Whether a block lies where somebody is editing."""
        if edited is None:
            return False
        scale = self.plan.scale.downsample
        downsample = self.request.store.downsample(self.request.task)
        reach = self.plan.around(number).from_grid(scale).to_grid(downsample)
        return reach.intersection(edited) is not None
