"""How long the window is deaf while it predicts, refines and reads at once: real window, workers.

A timer asks to be called every few milliseconds; how late it comes is how long the event loop was
busy. Time spent adding and removing layers and in GL drawing (software, under a virtual screen) is
taken out of a gap and reported apart, and so are the gaps until both workers have started. GL
drawing is of two parts: ``drawing``, which napari asks for, and ``flush``, in which Qt waits for
the picture and hands it to the screen; of the latter only the waiting is taken out. The rows
``window_gap_cpu_...`` count the processor time of the window's thread only, which neighbours on the
machine cannot stretch, ``..._no_core_...`` the time it could have run and had no core, and
``..._blocked_...`` the rest, which is mostly waiting for the timer itself. ``--profile`` also
prints the ten longest turns, and what ran in them; looking that closely takes time itself, so its
gaps are not those to quote.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from report import Row, finish, has_screen, parser
from rich.console import Console
from rich.table import Table

BEAT_MS = 5
LOOK_S = 0.002  # between two looks at what the window's thread is at
SHOWN = 10  # turns in the table of the longest
PLACE = (1100, 900)  # where panning begins (level-0 pixels)
Gaps = dict[str, list[float]]


@dataclass(frozen=True)
class Turn:
    """A turn of the event loop, in milliseconds, and what was seen in it, most often first.

    ``waited`` is the time the window's thread was ready to run and had no core. What is left of
    ``wall`` it was blocked: by Python's lock, the screen, the disk.
    """

    wall: float
    cpu: float
    waited: float
    apart: dict[str, float]
    seen: list[tuple[str, int]]


class Watcher:
    """Looks every few milliseconds at what the window's thread is at."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._seen: Counter[str] = Counter()
        self._over = threading.Event()
        sys.setswitchinterval(LOOK_S / 4)  # or the looks wait for the thread they look at
        threading.Thread(target=self._look, daemon=True).start()

    def take(self) -> list[tuple[str, int]]:
        """What was seen since the last call."""
        seen, self._seen = self._seen, Counter()
        return seen.most_common(6)

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            frame = sys._current_frames().get(self._thread)
            if frame is not None:
                self._seen[_described(frame)] += 1


def _described(leaf: FrameType) -> str:
    """Name the innermost function of ours and the one that runs in it."""
    names, frame = [], leaf
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        names.append((path, f"{path.stem}.{frame.f_code.co_name}"))
        if "napari_genselfdiff" in path.parts:
            break
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    ours = names[-1][1] if "napari_genselfdiff" in names[-1][0].parts else "the window"
    theirs = [name for path, name in names[:-1] if "napari" in path.parts]
    return " > ".join(dict.fromkeys([ours, *theirs[-1:], *theirs[:1], names[0][1]]))


class Meter:
    """Gaps between turns of the event loop, in milliseconds, by phase; parts of them apart."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.phase = "start"
        self.gaps: Gaps = defaultdict(list)
        self.turns: list[Turn] = []
        self._watcher = watcher
        self._apart: dict[str, float] = {}
        self._is_apart = False
        self._idle_apart = self._idle_own = 0.0
        self._last, self._last_cpu = time.perf_counter(), time.thread_time()
        self._last_waited = seconds_without_core()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    @contextmanager
    def apart(self, kind: str) -> Iterator[None]:
        """Take the time of a block out of the gap it lies in; blocks in blocks count once."""
        if self._is_apart:
            yield
            return
        start, cpu, waited = time.perf_counter(), time.thread_time(), seconds_without_core()
        idle = self._idle()
        self._is_apart = True
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._is_apart = False
            self._idle_apart += self._idle() - idle
            self._apart[kind] = self._apart.get(kind, 0.0) + spent
            self._last_cpu += time.thread_time() - cpu
            self._last_waited += seconds_without_core() - waited
            self.gaps[kind].append(1e3 * spent)

    @contextmanager
    def flushing(self) -> Iterator[None]:
        """Take out the time in which the thread waits for GL and the screen, not its work."""
        idle, own = self._idle(), self._idle_own
        try:
            yield
        finally:
            spent = max(0.0, self._idle() - idle - (self._idle_own - own))
            self._apart["flush"] = self._apart.get("flush", 0.0) + spent
            self.gaps["flush"].append(1e3 * spent)

    @contextmanager
    def painting(self) -> Iterator[None]:
        """Leave in what Python code waits for while it paints."""
        idle = self._idle()
        try:
            yield
        finally:
            self._idle_own += self._idle() - idle

    def _idle(self) -> float:
        """How long this thread neither ran nor could have run, what is apart already left out."""
        busy = time.thread_time() + seconds_without_core()
        return time.perf_counter() - busy - self._idle_apart

    def _beat(self) -> None:
        now, cpu, waited = time.perf_counter(), time.thread_time(), seconds_without_core()
        wall = 1e3 * (now - self._last - sum(self._apart.values()))
        busy = 1e3 * (cpu - self._last_cpu)
        ready = 1e3 * (waited - self._last_waited)
        self.gaps[self.phase].append(wall)
        self.gaps[f"{self.phase}_cpu"].append(busy)
        self.gaps[f"{self.phase}_waited"].append(ready)
        self.gaps[f"{self.phase}_blocked"].append(max(0.0, wall - busy - ready))
        if self._watcher is not None:
            seen = self._watcher.take()
            if self.phase == "work":
                apart = {kind: 1e3 * spent for kind, spent in self._apart.items()}
                self.turns.append(Turn(wall, busy, ready, apart, seen))
        self._apart, self._last, self._last_cpu, self._last_waited = {}, now, cpu, waited


def seconds_without_core() -> float:
    """How long this thread was ready to run without a core to run on; 0 where nobody says."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


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
    _watch_flushes(viewer, meter)


def _watch_flushes(viewer: Any, meter: Meter) -> None:
    """Software GL draws on threads of its own; whoever flushes the window waits for them."""
    from qtpy.QtCore import QEvent

    window, native = viewer.window._qt_window, viewer.window._qt_viewer.canvas.native
    on_event, paint = window.event, native.paintGL

    def event(what: Any) -> bool:
        if what.type() != QEvent.Type.UpdateRequest:
            return bool(on_event(what))
        with meter.flushing():
            return bool(on_event(what))

    def painted() -> None:
        with meter.painting():
            paint()

    window.event, native.paintGL = event, painted


def work_at_once(seconds: float, *, profile: bool = False) -> Meter:
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
        watcher = Watcher() if profile else None
        meter = Meter(watcher)
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
        if watcher is not None:
            watcher.stop()
        session.refining.cancel()
        panel.cleanup()
        viewer.close()
    return meter


def _pan(hand: Any, seconds: float) -> None:
    """Drag the slide for half a second, look for one, and so on."""
    camera, start = hand.viewer.scene.camera, time.monotonic()
    turn = 0
    while time.monotonic() - start < seconds:
        angle = 2.4 * turn
        for _ in range(15):
            _, y, x = camera.center
            camera.center = (0.0, y + 4 * np.sin(angle), x + 4 * np.cos(angle))
            turn_for(0.03)
        turn_for(1.0)
        turn += 1


def turn_for(seconds: float) -> None:
    """Let the event loop turn by itself, as in the real program: no pauses in between."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()


def gap_rows(seconds: float) -> list[Row]:
    """Rows of the benchmark `predict`."""
    return _rows(work_at_once(seconds).gaps)


def _rows(gaps: Gaps) -> list[Row]:
    names = {"work": "window_gap", "layers": "window_layers", "drawing": "window_drawing"}
    names["flush"] = "window_flush"
    names |= {"start": "window_first_start", "work_cpu": "window_gap_cpu"}
    names |= {"work_waited": "window_gap_no_core", "work_blocked": "window_gap_blocked"}
    rows = []
    for kind, name in names.items():
        values = np.array(gaps.get(kind) or [0.0])
        for part, value in (("p99", np.percentile(values, 99)), ("max", values.max())):
            rows.append(Row(f"{name}_{part}_ms", float(value), "ms", n=len(values)))
    return rows


def show_turns(turns: list[Turn]) -> None:
    """Print the longest turns, and what ran in them."""
    table = Table(title="longest turns, ms", show_lines=True)
    for column in ("wall", "processor", "no core", "blocked", "apart", "seen (looks)"):
        table.add_column(column)
    for turn in sorted(turns, key=lambda turn: -turn.wall)[:SHOWN]:
        apart = ", ".join(f"{kind} {spent:.0f}" for kind, spent in turn.apart.items())
        seen = "\n".join(f"{count:3d} {what}" for what, count in turn.seen)
        spent = turn.wall, turn.cpu, turn.waited, turn.wall - turn.cpu - turn.waited
        table.add_row(*(f"{ms:.0f}" for ms in spent), apart, seen)
    Console(width=170).print(table)


def main() -> None:
    reader = parser("How long the window is deaf while everything happens at once.")
    reader.add_argument("--profile", action="store_true", help="say what ran in the longest turns")
    asked = reader.parse_args()
    if not has_screen():
        raise SystemExit("no screen; run under xvfb-run")
    meter = work_at_once(15 if asked.quick else 60, profile=asked.profile)
    if asked.profile:
        show_turns(meter.turns)
    finish("window", _rows(meter.gaps), asked.json)


if __name__ == "__main__":
    main()
