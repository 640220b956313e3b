"""How long the window is deaf while it exports 100,000 objects.

The objects of ``export.py``, on a slide of tissue everywhere, are exported as GeoJSON from the
panel, stain densities and all, while the slide is panned. For comparison it is panned for some
seconds without that (``window_alone``), and the same file is written once more on the window's own
thread, as it used to be: one gap from beginning to end. Drawing is taken out as in ``window.py``.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from export import SIDE, blocks_across, fill
from report import Row, arguments, finish, has_screen
from synthetic_slides import write_dense
from window import Meter, turn_for, watch_layers_and_drawing

NAME, ALONE_S = "window", 8.0


def main() -> None:
    """Export from a window, and on its thread."""
    asked = arguments(__doc__ or "")
    if not has_screen():
        raise SystemExit("no screen; run under xvfb-run")
    finish("export_window", rows(10_000 if asked.quick else 100_000), asked.json)


def rows(number: int) -> list[Row]:
    """Rows of about so many objects."""
    import napari

    from napari_genselfdiff.annotation.store import AnnotationStore, default_store_path
    from napari_genselfdiff.slides.slide import open_slide
    from napari_genselfdiff.widgets.hand import Hand
    from napari_genselfdiff.widgets.panel import AnnotateSlide

    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENSELFDIFF_HOME"] = str(Path(folder) / "home")
        path = Path(folder) / "dense.tif"
        write_dense(path, blocks_across(number) * SIDE)
        with open_slide(path) as slide:
            store = AnnotationStore.open(
                default_store_path(path),
                slide_path=path,
                slide_hash=slide.hash,
                shape=slide.shape,
                mpp=0.25,
                mpp_assumed=False,
            )
        fill(store, number)
        store.close()
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1500, 950)
        panel = AnnotateSlide(viewer)
        viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
        hand = Hand(viewer, panel)
        panel.controller.open_slide(str(path))
        hand.rest(3.0)
        meter = Meter()
        watch_layers_and_drawing(viewer, meter)
        seconds = _exported(hand, meter, Path(folder) / "panel.geojson")
        here = _exported_here(hand, meter, Path(folder) / "here.geojson")
        panel.cleanup()
        viewer.close()
    return _rows(meter, seconds, here)


def _exported(hand: Any, meter: Meter, path: Path) -> float:
    """Export from the panel, and pan meanwhile; seconds from the click to the file."""
    exporting, end = hand.panel.session.exporting, time.monotonic() + ALONE_S
    meter.phase = "alone"
    _pan(hand.viewer, lambda: time.monotonic() > end)
    meter.phase, start = "panel", time.perf_counter()
    hand.panel.slide.export_to(str(path))
    _pan(hand.viewer, lambda: exporting.activity is None)
    spent = time.perf_counter() - start
    meter.phase = "between"
    hand.rest(0.5)
    if not path.exists():
        raise SystemExit(hand.panel.session.status.text)
    return spent


def _pan(viewer: Any, until: Callable[[], bool]) -> None:
    """Drag the slide in circles."""
    camera, turn = viewer.scene.camera, 0
    while not until():
        _, y, x = camera.center
        camera.center = (0.0, y + 4 * np.sin(turn / 15), x + 4 * np.cos(turn / 15))
        turn_for(0.03)
        turn += 1


def _exported_here(hand: Any, meter: Meter, path: Path) -> float:
    """Write the file on this thread, from a turn of the event loop; seconds."""
    from qtpy.QtCore import QTimer

    from napari_genselfdiff.annotation.exchange.outgoing import export_file

    session = hand.panel.session
    slide, store = session.open_store()
    spent: list[float] = []

    def write() -> None:
        start = time.perf_counter()
        export_file(store, session.task.name, path, slide=slide)
        spent.append(time.perf_counter() - start)

    meter.phase = "here"
    QTimer.singleShot(0, write)
    hand.until(lambda: bool(spent), "the export", 600)
    hand.rest(0.2)
    meter.phase = "end"
    return spent[0]


def _rows(meter: Meter, seconds: float, here: float) -> list[Row]:
    longest = max(meter.gaps["here"])
    found = []
    phases = {"panel": NAME, "panel_cpu": f"{NAME}_cpu", "alone": f"{NAME}_alone"}
    phases["alone_cpu"] = f"{NAME}_alone_cpu"
    for phase, name in phases.items():
        gaps = np.array(meter.gaps[phase])
        for part, value in (("p99", np.percentile(gaps, 99)), ("max", gaps.max())):
            found.append(Row(f"{name}_gap_{part}_ms", float(value), "ms", n=len(gaps)))
    found.append(Row(f"{NAME}_here_gap_max_ms", longest, "ms"))
    found.append(Row(f"{NAME}_export_s", seconds, "s", seconds / here, "on the window's thread"))
    return found


if __name__ == "__main__":
    main()
