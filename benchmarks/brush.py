"""Rows of the benchmark ``edit`` that need a window: the brush, taking a region, saving a stroke.

Drawing by the graphics (software, under a virtual screen) is not in them: Qt draws in a turn of its
own, and only the events themselves are timed. Rows named ``..._cpu_...`` count processor time of
the window's thread, which neighbours on the machine cannot stretch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from report import Row, timing_row

from napari_genselfdiff.annotation.store import Window
from napari_genselfdiff.slides.geometry import Region
from tests.widgets.huge import sparse_slide

VIEW = Region(50_000, 50_000, 700, 900)
SURROUNDINGS = Region(48_000, 48_000, 4096, 4096)
SIZES = (8, 64)
Times = dict[str, list[float]]


def window_rows(folder: Path, nuclei: Callable[[Region, int], Window], strokes: int) -> list[Row]:
    """Paint strokes of small and large brushes among nuclei, in the largest window to edit."""
    os.environ["GENSELFDIFF_HOME"] = str(folder / "home")
    import napari

    from napari_genselfdiff.registry.registry import Registry
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.panel import AnnotateSlide
    from napari_genselfdiff.widgets.view import look_at

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    (folder / "no models").mkdir()
    session = Session(Registry(folder / "home", bundled=folder / "no models"))
    panel = AnnotateSlide(viewer, session)
    viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
    panel._timer.stop()  # its turns are timed by themselves
    controller = panel.controller
    controller.open_slide(str(sparse_slide(folder / "huge.zarr")))
    if session.store is None or controller.layers.slide is None:
        raise SystemExit(session.status.text)
    session.store.write_prediction("Nuclei", nuclei(SURROUNDINGS, 0), model_hash="benchmark")
    look_at(viewer, controller.layers.slide, VIEW)
    work = _Work(viewer, panel, strokes)
    rows = work.rows()
    panel.cleanup()
    viewer.close()
    return rows


class _Work:
    def __init__(self, viewer: Any, panel: Any, strokes: int) -> None:
        from napari_genselfdiff.widgets.hand import Hand

        self.panel, self.strokes = panel, strokes
        self.controller, self.hand = panel.controller, Hand(viewer, panel)
        self.wall: Times = {}
        self.cpu: Times = {}

    def rows(self) -> list[Row]:
        """Take a region, paint in it, save, undo."""
        self.hand.rest(0.5)
        for _ in range(max(self.strokes // 2, 3)):
            self._time("take_tool_s", lambda: self.controller.pick_tool("brush"))
            self.hand.rest(0.2)
            self.controller.leave()
            self.hand.rest(0.2)
        self.controller.pick_tool("brush")
        self.hand.rest(0.5)
        for number in range(self.strokes):
            self.controller.set_brush(SIZES[number % 2])
            self._stroke(number)
            self._time("save_stroke_s", self.controller.tick)
            self.hand.rest(0.1)
        moves = 1e3 * np.array(self.wall["move"]), 1e3 * np.array(self.cpu["move"])
        made = []
        for name, values in zip(("brush_ms_p95", "brush_cpu_ms_p95"), moves, strict=True):
            p95 = float(np.percentile(values, 95))
            low, high = float(values.min()), float(values.max())
            made.append(Row(name, p95, "ms", n=len(values), low=low, high=high))
        for name in ("take_tool_s", "save_stroke_s"):
            made.append(timing_row(name, self.wall[name]))
            made.append(timing_row(f"{name[:-2]}_cpu_s", self.cpu[name]))
        return made

    def _stroke(self, number: int) -> None:
        from qtpy.QtCore import QEvent

        y = VIEW.y + 40 + 600 * number / max(self.strokes, 1)
        points = [(y + 20 * np.sin(i / 5), VIEW.x + 60 + 10 * i) for i in range(70)]
        hand = self.hand
        hand.press(points[:1])
        for point in points[1:]:
            self._time("move", lambda at=point: hand.send(QEvent.Type.MouseMove, at))
            hand.rest(0.0)
        hand.release(points[-1])

    def _time(self, name: str, call: Callable[[], Any]) -> None:
        start, cpu = time.perf_counter(), time.thread_time()
        call()
        self.wall.setdefault(name, []).append(time.perf_counter() - start)
        self.cpu.setdefault(name, []).append(time.thread_time() - cpu)
