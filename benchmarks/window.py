"""How long the window is deaf while it predicts, refines and reads at once: real window, workers.

A timer asks to be called every few milliseconds; how late it comes is how long the event loop was
busy. Time spent adding and removing layers and in GL drawing (software, under a virtual screen) is
taken out of a gap and reported apart, and so are the gaps until both workers have started. The rows
``window_gap_cpu_...`` count the processor time of the window's thread only, which neighbours on the
machine cannot stretch.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from report import Row, arguments, finish, has_screen

BEAT_MS = 5
PLACE = (1100, 900)  # where panning begins (level-0 pixels)
Gaps = dict[str, list[float]]


class Meter:
    """Gaps between turns of the event loop, in milliseconds, by phase; parts of them apart."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.phase = "start"
        self.gaps: Gaps = defaultdict(list)
        self._apart: dict[str, float] = {}
        self._last, self._last_cpu = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    @contextmanager
    def apart(self, kind: str) -> Iterator[None]:
        """Take the time of a block out of the gap it lies in; blocks in blocks count once."""
        if self._apart.get("inside"):
            yield
            return
        start, cpu = time.perf_counter(), time.thread_time()
        self._apart["inside"] = 1.0
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._apart["inside"] = 0.0
            self._apart[kind] = self._apart.get(kind, 0.0) + spent
            self._last_cpu += time.thread_time() - cpu
            self.gaps[kind].append(1e3 * spent)

    def _beat(self) -> None:
        now = time.perf_counter()
        taken = sum(spent for kind, spent in self._apart.items() if kind != "inside")
        self.gaps[self.phase].append(1e3 * (now - self._last - taken))
        cpu = time.thread_time()
        self.gaps[f"{self.phase}_cpu"].append(1e3 * (cpu - self._last_cpu))
        self._apart, self._last, self._last_cpu = {}, now, cpu


def watch_layers_and_drawing(viewer: Any, meter: Meter) -> None:
    """Report adding and removing layers, and drawing, apart."""

    def timed(call: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            with meter.apart(kind):
                return call(*given, **named)

        return wrapped

    # type: a benchmark's own measuring points, on objects of other libraries
    object.__setattr__(viewer, "add_labels", timed(viewer.add_labels, "layers"))
    viewer.layers.remove = timed(viewer.layers.remove, "layers")
    canvas = viewer.window._qt_viewer.canvas._scene_canvas
    canvas._draw_scene = timed(canvas._draw_scene, "drawing")


def work_at_once(seconds: float) -> Gaps:
    """Predict live, refine and pan for some time; the gaps of every phase."""
    import napari

    from napari_genselfdiff.samples import copy_sample
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.widgets.hand import Hand
    from napari_genselfdiff.widgets.panel import AnnotateSlide
    from napari_genselfdiff.widgets.view import look_at

    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENSELFDIFF_HOME"] = str(Path(folder) / "home")
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1500, 950)
        panel = AnnotateSlide(viewer)
        viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
        hand, session = Hand(viewer, panel), panel.session
        hand.rest(1.0)
        meter = Meter()
        watch_layers_and_drawing(viewer, meter)
        panel.controller.open_slide(str(copy_sample("cmu_small_region", Path(folder))))
        slide = panel.controller.layers.slide
        if slide is None:
            raise SystemExit(session.status.text)
        session.engine.start()
        look_at(viewer, slide, Region(*PLACE, 400, 600))
        hand.rest(1.0)
        hand.key("P")
        hand.until(lambda: session.predicting.activity is None, "the first Predict", 300)
        hand.key("A")
        session.refining.budget_s = 10 * seconds
        panel.controller.refine()
        hand.until(lambda: bool(session.refining.losses), "Refine", 300)
        panel.controller.live.switch(True)
        meter.phase = "work"
        _pan(hand, seconds)
        meter.phase = "end"
        session.refining.cancel()
        panel.cleanup()
        viewer.close()
    return meter.gaps


def _pan(hand: Any, seconds: float) -> None:
    """Drag the slide for half a second, look for one, and so on."""
    camera, start = hand.viewer.scene.camera, time.monotonic()
    turn = 0
    while time.monotonic() - start < seconds:
        angle = 2.4 * turn
        for _ in range(15):
            _, y, x = camera.center
            camera.center = (0.0, y + 4 * np.sin(angle), x + 4 * np.cos(angle))
            hand.rest(0.03)
        hand.rest(1.0)
        turn += 1


def gap_rows(seconds: float) -> list[Row]:
    """Rows of the benchmark `predict`."""
    gaps = work_at_once(seconds)
    names = {"work": "window_gap", "layers": "window_layers", "drawing": "window_drawing"}
    names |= {"start": "window_first_start", "work_cpu": "window_gap_cpu"}
    rows = []
    for kind, name in names.items():
        values = np.array(gaps.get(kind) or [0.0])
        for part, value in (("p99", np.percentile(values, 99)), ("max", values.max())):
            rows.append(Row(f"{name}_{part}_ms", float(value), "ms", n=len(values)))
    return rows


def main() -> None:
    asked = arguments("How long the window is deaf while everything happens at once.")
    if not has_screen():
        raise SystemExit("no screen; run under xvfb-run")
    finish("window", gap_rows(15 if asked.quick else 60), asked.json)


if __name__ == "__main__":
    main()
