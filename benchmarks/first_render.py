"""How long a napari window takes to show a large slide, from asking to tissue on the canvas."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAVE_UP_S = 120.0


def first_render(path: Path, repeats: int) -> list[float]:
    """Seconds from opening the slide to its tissue on screen, in one window, layer by layer.

    The slide's file has just been written or read, so the disk is warm; the window is new the
    first time only.
    """
    from napari_genselfdiff.demo import open_window

    viewer, panel = open_window()
    times = []
    try:
        for _ in range(repeats):
            turn_events(0.5)
            start = time.perf_counter()
            panel.controller.open_slide(str(path))
            while not shows_tissue(viewer):
                turn_events(0.0)
                if time.perf_counter() - start > GAVE_UP_S:
                    raise SystemExit(f"no tissue on the canvas after {GAVE_UP_S:g} s")
            times.append(time.perf_counter() - start)
            viewer.layers.clear()
    finally:
        panel.cleanup()
        viewer.close()
    return times


def turn_events(seconds: float) -> None:
    """Let the window work for a while, at least one turn."""
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while True:
        QApplication.processEvents()
        if time.perf_counter() >= end:
            return


def shows_tissue(viewer: Any) -> bool:
    """Whether a fair part of the drawn canvas is pink, as the synthetic slide is."""
    if not len(viewer.layers):
        return False
    picture: NDArray[np.integer] = viewer.screenshot(canvas_only=True, flash=False)
    red, green = picture[..., 0].astype(int), picture[..., 1].astype(int)
    return float((red - green > 20).mean()) > 0.2
