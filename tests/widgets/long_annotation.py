"""A long annotation with a real mouse, in a process of its own, so that its memory is its own.

``python -m tests.widgets.long_annotation FOLDER ROUNDS`` prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.hand import Hand
from tests.session.parts import make_model, make_session, predict
from tests.widgets.huge import SIDE, sparse_slide

VIEW = (600, 760)


class Memory:
    """Highest resident size of this process, looked at all the time; bytes."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.start = self.peak = int(self._process.memory_info().rss)
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, int(self._process.memory_info().rss))


class Annotator:
    """Somebody who uses every tool at one place after the other."""

    def __init__(self, hand: Hand, engine: Any) -> None:
        self.hand, self.engine = hand, engine
        self.session = hand.panel.session
        self.expected: list[str] = []

    def see(self, region: Region) -> None:
        from napari_genselfdiff.widgets.view import look_at

        slide = self.hand.panel.controller.layers.slide
        assert slide is not None
        look_at(self.hand.viewer, slide, region)
        self.hand.rest(0.5)

    def did(self, *names: str) -> None:
        """Wait until these are the newest steps of the history, and remember them."""
        assert self.session.store is not None
        store, wanted = self.session.store, list(names)

        def is_there() -> bool:
            return [step.what for step in store.history[-len(wanted) :]] == wanted

        try:
            self.hand.until(is_there, ", ".join(wanted), 20)
        except Exception as error:
            steps = [step.what for step in store.history[-4:]]
            raise AssertionError(f"{wanted}: {steps}, {self.session.status.text}") from error
        self.expected.extend(wanted)

    def nuclei(self, y: int, x: int) -> None:
        """Use the tools of single objects and of drawing at one place."""
        hand = self.hand
        self.session.choose_task("Nuclei")
        view = Region(y, x, *VIEW)
        self.see(view)
        spots = [(y + 100 + 90 * i, x + 120 + 110 * j, 22) for i in range(4) for j in range(5)]
        spots += [(y + 100, x + 690, 22), (y + 100, x + 735, 20)]
        predict(self.session, self.engine, view, *spots)
        self.did("Predict")
        hand.key("B")
        hand.drag([(y + 40, x + 50 + 9 * i) for i in range(40)])
        self.did("Brush")
        hand.drag([(y + 40, x + 60), (y + 40, x + 100)], "Alt")
        self.did("Erase")
        hand.key("E")
        hand.drag([(y + 100, x + 90), (y + 100, x + 150)])
        self.did("Erase")
        hand.key("U")
        hand.drag([(y + 190, x + 90), (y + 190, x + 150)])
        self.did("Clear to unknown")
        hand.key("G")
        for point in [(y + 500, x + 50), (y + 500, x + 130), (y + 570, x + 130)]:
            hand.tap(point)
        hand.double_click((y + 570, x + 50))
        self.did("Polygon")
        hand.key("L")
        hand.drag(_circle(y + 530, x + 220, 40))
        self.did("Lasso")
        hand.drag(_circle(y + 530, x + 220, 15), "Alt")
        self.did("Lasso")
        hand.key("O")
        hand.tap((y + 530, x + 252))
        self.did("Fill holes")
        hand.key("S")
        hand.drag([(y + 240, x + 230), (y + 320, x + 230)])
        self.did("Split")
        hand.key("M")
        hand.drag([(y + 280, x + 222), (y + 280, x + 240)])
        self.did("Merge")
        hand.drag([(y + 100, x + 690), (y + 100, x + 735)])
        self.did("Merge")
        hand.key("R")
        hand.tap((y + 100, x + 712))
        self.did("Smooth")
        hand.key("D")  # deletes the one under the pointer
        self.did("Delete")
        hand.key("X")
        hand.drag(_circle(y + 370, x + 395, 110))
        self.did("Lasso delete")
        hand.key("B")
        ring = [(y + 500, x + 400), (y + 500, x + 460), (y + 560, x + 460), (y + 560, x + 400)]
        hand.drag([*ring, ring[0]])
        self.did("Brush")
        hand.key("F")
        hand.tap((y + 530, x + 430))
        self.did("Fill")
        hand.key("Ctrl+Z")
        hand.key("Ctrl+Z")
        hand.key("Ctrl+Shift+Z")
        hand.key("Ctrl+Shift+Z")
        hand.key("Escape")
        hand.key("A")
        self.did("Accept view")

    def regions(self, y: int, x: int) -> None:
        """Draw areas from far away, where the window to edit is as large as it gets."""
        hand, controller = self.hand, self.hand.panel.controller
        self.session.choose_task("Regions")
        self.see(Region(y, x, 5600, 7200))
        hand.key("L")
        hand.drag(_circle(y + 2800, x + 2500, 1800))
        self.did("Lasso")
        hand.key("2")
        hand.key("B")
        controller.set_brush(64)
        hand.drag([(y + 2000 + 60 * i, x + 1200 + 120 * i) for i in range(30)])
        self.did("Brush")
        hand.click(hand.panel.correct.grid.protect)
        hand.key("1")
        hand.key("G")
        for point in [(y + 1000, x + 4500), (y + 1000, x + 6500), (y + 3500, x + 6500)]:
            hand.tap(point)
        hand.key("Return")
        self.did("Polygon")
        hand.click(hand.panel.correct.grid.protect)
        hand.key("2")
        hand.key("F")
        hand.tap((y + 1500, x + 6300))
        self.did("Fill")
        hand.key("X")
        hand.drag(_circle(y + 2800, x + 2500, 500))
        self.did("Lasso delete")
        hand.key("Escape")


def _circle(y: float, x: float, radius: float) -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * np.pi, 60)
    return [(y + radius * float(np.sin(t)), x + radius * float(np.cos(t))) for t in turns]


def annotate(folder: Path, rounds: int) -> dict[str, Any]:
    """Annotate at ``rounds`` places; what it took, and what is on disk afterwards."""
    import napari

    from napari_genselfdiff.widgets.panel import AnnotateSlide

    path = sparse_slide(folder / "huge.zarr")
    make_model(folder / "bundled" / "nuclei", starter=True)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1300, 900)
    for _ in range(20):
        viewer.window._qt_window.repaint()
        time.sleep(0.02)
    memory, began = Memory(), time.monotonic()
    session, engine = make_session(folder, folder / "bundled")
    panel = AnnotateSlide(viewer, session)
    viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
    hand = Hand(viewer, panel)
    panel.controller.open_slide(str(path))
    hand.rest(0.5)
    one = Annotator(hand, engine)
    for place in np.linspace(0.03, 0.9, rounds):
        y, x = int(place * SIDE), int((1 - place) * SIDE) - 7200
        one.nuclei(y, x)
        one.regions(y, x)
    steps = len(session.store.history) if session.store is not None else 0
    session.choose_task("Nuclei")
    one.see(Region(50_000, 50_000, *VIEW))
    hand.key("B")
    hand.press([(50_300, 50_300), (50_300, 50_400)])  # the button is still held
    viewer.close()
    hand.rest(0.5)
    memory.stop()
    return {
        "seconds": round(time.monotonic() - began, 1),
        "start_mib": memory.start >> 20,
        "grown_mib": (memory.peak - memory.start) >> 20,
        "expected": one.expected,
        "steps": steps,
        "closed": session.slide is None,
        **_on_disk(path),
    }


def _on_disk(path: Path) -> dict[str, Any]:
    """What is there the next time: the steps, the last stroke, and nothing once all is undone."""
    found = next(path.parent.glob("huge*.gsd.zarr"))
    slide = AnnotationStore.open_read_only(found).slide
    store = AnnotationStore.open(
        found,
        slide_path=slide.path,
        slide_hash=slide.hash,
        shape=(slide.height, slide.width),
        mpp=slide.mpp,
        mpp_assumed=slide.mpp_assumed,
    )
    names = [step.what for step in store.history]
    last = bool(store.read("Nuclei", Region(50_300, 50_350, 1, 1)).ids[0, 0])
    while store.undo() is not None:
        pass
    left = {name: store.summary(name)["pixels"]["unknown"] for name in ("Nuclei", "Regions")}
    total = {name: int(np.prod(store.shape(name))) for name in left}
    store.close()
    return {"names": names, "last_stroke": last, "undone": left == total}


def main() -> None:
    """Run and print."""
    folder = Path(sys.argv[1])
    os.environ["GENSELFDIFF_HOME"] = str(folder / "home")
    print(json.dumps(annotate(folder, int(sys.argv[2]))))  # noqa: T201 - read by the test
    sys.stdout.flush()
    os._exit(0)  # the application has no window left to end it


if __name__ == "__main__":
    main()
