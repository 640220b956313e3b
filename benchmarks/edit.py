"""Editing annotations of a slide of 100,000 x 100,000 pixels: taking, painting, putting back, undo.

``python benchmarks/edit.py [--quick] [--json FILE]``; the rows of the brush need a screen, or
xvfb-run.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent))
from brush import window_rows
from report import Row, arguments, finish, has_screen, seconds, timing_row

from napari_genselfdiff.annotation.edit import paint_stroke
from napari_genselfdiff.annotation.exchange.geojson import read_geojson, write_geojson
from napari_genselfdiff.annotation.store import MODEL, AnnotationStore, Window
from napari_genselfdiff.annotation.tasks import NUCLEI, TASKS
from napari_genselfdiff.session.editing import EditWindow
from napari_genselfdiff.slides.geometry import Region

SIDE = 100_000
TASK = NUCLEI.name
VIEW = Region(50_001, 50_003, 4096, 4096)  # the largest view that can be edited
CHANGE = Region(51_001, 51_003, 1000, 1000)


def nuclei(region: Region, seed: int) -> Window:
    """Prediction with a nucleus every few hundred pixels, none of them round."""
    noise = np.random.default_rng(seed).normal(size=region.shape).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, 8)
    ids, _ = ndimage.label(smooth > 0.8 * smooth.std())
    provenance = np.full(region.shape, MODEL, np.uint8)
    return Window(region, (ids > 0).astype(np.uint8), ids.astype(np.uint32), provenance)


def open_store(path: Path) -> AnnotationStore:
    """Open the store of a slide that only its size is known of."""
    return AnnotationStore.open(
        path,
        slide_path="synthetic.svs",
        slide_hash="00",
        shape=(SIDE, SIDE),
        mpp=0.25,
        mpp_assumed=False,
    )


def take(store: AnnotationStore, view: Region) -> None:
    """Make a region editable: what is painted on."""
    EditWindow(store, NUCLEI, view).values()


def put_back(store: AnnotationStore, edit: Callable[[Window], Window], repeats: int) -> list[float]:
    """Seconds until an edit of a 1,000 x 1,000 window is saved, each undone again."""
    times = []
    for _ in range(repeats):
        before = store.read(TASK, CHANGE)
        after = edit(before)
        start = time.perf_counter()
        changed = store.write_edit(TASK, before, after, what="Brush")
        times.append(time.perf_counter() - start)
        if not changed:
            raise SystemExit("the edit changed nothing, so the time means nothing")
        store.undo()
    return times


def erase(window: Window) -> Window:
    """Every pixel changes: nothing is there."""
    after = window.copy()
    after.classes[...], after.ids[...], after.provenance[...] = 0, 0, 3
    return after


def stroke(window: Window) -> Window:
    """One stroke of a small brush."""
    return paint_stroke(window, [(51_400, 51_400), (51_460, 51_500)], 6, 1, object_id=2**31)


def exchange(store: AnnotationStore, folder: Path) -> list[Row]:
    """GeoJSON out and in again."""
    file = folder / "nuclei.geojson"
    out = seconds(lambda: write_geojson(store, TASK, file))
    objects = store.summary(TASK)["objects"][NUCLEI.classes[0].name]
    back = seconds(lambda: read_geojson(file, store, TASK))
    return [
        Row("export_ms_per_1000_objects", out[0] / objects * 1e6, "ms", n=objects),
        Row("import_ms_per_1000_objects", back[0] / objects * 1e6, "ms", n=objects),
    ]


def main() -> None:
    options = arguments(__doc__ or "")
    repeats = 5 if options.quick else 20
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "synthetic.svs.gsd.zarr"
        created = seconds(lambda: open_store(path).close())
        store = open_store(path)
        added = seconds(lambda: [store.add_task(task) for task in TASKS])
        store.close()
        opened = seconds(lambda: open_store(path).close(), repeats)
        store = open_store(path)
        view = VIEW if not options.quick else Region(VIEW.y, VIEW.x, 2048, 2048)
        store.write_prediction(TASK, nuclei(view, 0), model_hash="benchmark")
        region = Region(VIEW.y + 900, VIEW.x + 900, 1024, 1024)
        predictions = [nuclei(region, seed) for seed in range(1, repeats + 1)]
        start_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows = [
            timing_row("create_store_s", [created[0] + added[0]]),
            timing_row("open_store_s", opened),
            timing_row("read_region_s", seconds(lambda: store.read(TASK, view), repeats)),
            timing_row("take_region_s", seconds(lambda: take(store, view), repeats)),
            timing_row("put_back_s", put_back(store, erase, repeats)),
            timing_row("put_back_stroke_s", put_back(store, stroke, repeats)),
            timing_row("write_prediction_1024_s", timed_predictions(store, predictions)),
            timing_row("undo_s", seconds(store.undo, repeats)),
            *exchange(store, Path(name)),
        ]
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(Row("memory_grown_mib", peak_mib - start_mib, "MiB"))
        store.close()
        if has_screen():
            rows += window_rows(Path(name), nuclei, 6 if options.quick else 20)
    finish("edit", rows, options.json)


def timed_predictions(store: AnnotationStore, windows: list[Window]) -> list[float]:
    """Seconds to save each prediction over the one before."""
    return [
        seconds(lambda: store.write_prediction(TASK, window, model_hash="benchmark"))[0]  # noqa: B023 - called at once
        for window in windows
    ]


if __name__ == "__main__":
    main()
