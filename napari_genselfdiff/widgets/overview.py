"""The small picture of the whole slide, read beside the window's work, strip by strip."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.errors import GenSelfDiffError
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_genselfdiff.slides.slide import Slide

_STRIP: Final = 32  # rows read at once: a slide that closes waits for no more


def read_overview(
    slide: Slide, side: int, should_stop: Callable[[], bool]
) -> NDArray[np.uint8] | None:
    """Read the whole slide at most ``side`` pixels high and wide; None if it was stopped.

    Returns
    -------
    ndarray
        ``(h, w, 3)`` uint8, from the coarsest level that is sharp enough.
    """
    downsample = max(1.0, max(slide.shape) / side)
    height, width = grid_shape(slide.shape, downsample)
    picture = np.empty((height, width, 3), np.uint8)
    for y in range(0, height, _STRIP):
        if should_stop():
            return None
        rows = min(_STRIP, height - y)
        picture[y : y + rows] = slide.read(Region(y, 0, rows, width), downsample)
    return picture


class OverviewReader:
    """Reads one overview at a time; what is no longer wanted is given up.

    Parameters
    ----------
    side
        Longest side of the picture.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="overview")
        self._stop = Event()
        self._running: Future[NDArray[np.uint8] | None] | None = None

    def start(self, slide: Slide) -> None:
        """Read a slide's overview; :meth:`take` gives it when it is there."""
        self.stop()
        self._stop = Event()
        self._running = self._worker.submit(read_overview, slide, self._side, self._stop.is_set)

    def take(self) -> NDArray[np.uint8] | None:
        """Give the picture once, when it is there; None before, after, and if it was unreadable."""
        running = self._running
        if running is None or not running.done():
            return None
        self._running = None
        try:
            return running.result()
        except (GenSelfDiffError, OSError):
            return None  # the slide itself says what is wrong with it

    def stop(self) -> None:
        """Give up, and wait until the slide is no longer read."""
        self._stop.set()
        running, self._running = self._running, None
        if running is not None and not running.cancel():
            running.exception()

    def close(self) -> None:
        """Give up for good."""
        self.stop()
        self._worker.shutdown()
