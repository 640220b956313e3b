"""How long a view takes in the real window: from pressing the key to the labels on the canvas.

The slide is open and the network loaded, as when one has just looked at the view; no tile of it is
known yet. The view has as many pixels of the model as 1024². The reference is the paper's network
on 1024² pixels, from the file to classes, which it does not even draw; both run in turns.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from official import SAMPLE, VIEW, OfficialProcess
from predict import Case, in_turns, measured_profile, precisions, rows_of
from report import Row, arguments, finish, has_screen

from napari_genselfdiff.prediction.profile import Profile, available_cores
from napari_genselfdiff.registry.registry import Registry

WAIT_S = 120


def drawn_rows(
    official: OfficialProcess, profiles: dict[str, Profile], rounds: int, folder: Path
) -> Iterator[Row]:
    """Seconds from the key to the drawn labels by precision, and how often faster that is."""
    window = _Window(folder)
    print(f"a view of {window.view}", flush=True)
    cases: dict[str, Case] = {"official": partial(official.seconds, "region", available_cores())}
    cases |= {f"view_{name}_drawn": partial(window.seconds, p) for name, p in profiles.items()}
    try:
        yield from rows_of(in_turns(cases, rounds), "s", "region")
    finally:
        window.close()


class _Window:
    """A napari window with the sample slide open at the benchmark's view."""

    def __init__(self, folder: Path) -> None:
        from napari_genselfdiff.demo import open_window
        from napari_genselfdiff.samples import copy_sample
        from napari_genselfdiff.widgets.hand import Hand
        from napari_genselfdiff.widgets.view import canvas_shape, centre_on, visible_region, zoom_to

        self.viewer, self.panel = open_window()
        self.hand, self.session = Hand(self.viewer, self.panel), self.panel.session
        self.hand.rest(1.0)
        self.panel.controller.open_slide(str(copy_sample(SAMPLE, folder)))
        slide = self.panel.controller.layers.slide
        if slide is None:
            raise SystemExit(self.session.status.text)
        self.session.engine.start()
        self.hand.rest(1.0)
        height, width = canvas_shape(self.viewer)
        zoom_to(self.viewer, slide, math.sqrt(VIEW.area / (height * width)))
        centre_on(self.viewer, slide, VIEW.y + VIEW.height / 2, VIEW.x + VIEW.width / 2)
        self.hand.rest(1.0)
        seen = visible_region(self.viewer, slide)
        self.view = "nothing" if seen is None else f"{seen.height} x {seen.width} px"

    def seconds(self, profile: Profile) -> float:
        """Predict the view anew; seconds until its labels were drawn."""
        predicting = self.session.predicting
        self.session.profile = profile
        self._forget_tiles()
        self.hand.rest(1.5)  # the view rests; drawing and reading have come to their end
        start = time.perf_counter()
        self.hand.key("P")
        self.hand.until(lambda: predicting.activity is None, "Predict", WAIT_S)
        self._draw()
        return time.perf_counter() - start

    def close(self) -> None:
        """Close the window and end its workers."""
        self.panel.cleanup()
        self.viewer.close()

    def _forget_tiles(self) -> None:
        """Delete what is known of the view's tiles."""
        from napari_genselfdiff.registry.home import cache_home

        for tile in cache_home().rglob("*.tile"):
            tile.unlink()

    def _draw(self) -> None:
        """Wait until the canvas was drawn with what the layers hold now."""
        canvas: Any = self.viewer.window._qt_viewer.canvas._scene_canvas
        drawn: list[object] = []
        canvas.events.draw.connect(drawn.append)
        canvas.update()
        self.hand.until(lambda: bool(drawn), "drawing", WAIT_S)
        canvas.events.draw.disconnect(drawn.append)


def main() -> None:
    asked = arguments(__doc__.splitlines()[0])
    if not has_screen():
        raise SystemExit("no screen; run under xvfb-run")
    segmenter = Registry().resolve("default").load()
    profiles = {name: measured_profile(name, segmenter) for name in precisions()}
    with OfficialProcess() as official, tempfile.TemporaryDirectory(prefix="gsd-drawn-") as name:
        os.environ["GENSELFDIFF_HOME"] = str(Path(name) / "home")
        rows = list(drawn_rows(official, profiles, 3 if asked.quick else 8, Path(name)))
    finish("drawn", rows, asked.json)


if __name__ == "__main__":
    main()
