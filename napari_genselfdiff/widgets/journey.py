"""The whole journey by itself, with a picture of each step.

It uses the real window, worker processes and files. A simulated user, who knows the true masks of
the labelled sample, corrects three places; what Refine brought is measured on all the rest of the
slide.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_genselfdiff.errors import ConfigError, JobFailedError
from napari_genselfdiff.samples import FIELD, copy_sample, sample_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari import Viewer
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.widgets.hand import Hand
    from napari_genselfdiff.widgets.panel import AnnotateSlide

TILE: Final = 256
PLACES: Final = ((1024, 1536), (0, 640), (256, 1280))
"""Corners of the corrected places, where the shipped model is worst (level-0 pixels)."""
NEW_PLACE: Final = (1024, 1024, 512, 512)
CMU_VIEW: Final = (1720, 860, 420, 420)


class Journey:
    """The whole journey, step by step, into one folder.

    Parameters
    ----------
    out
        Emptied of what an earlier demo left there.
    open_window
        Gives a shown window and the panel docked in it.
    """

    def __init__(self, out: Path, open_window: Callable[[], tuple[Viewer, AnnotateSlide]]) -> None:
        self.out, self._open_window = out, open_window
        self.seconds: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        self._shots = 0
        self._touched: list[Region] = []
        _make_empty(out)
        # A home of its own: the demo never changes the user's models or settings.
        os.environ["GENSELFDIFF_HOME"] = str(out / "home")
        os.environ["NAPARI_CONFIG"] = str(out / "home" / "napari.yaml")
        self._excepthook = sys.excepthook

    def run(self) -> None:
        """Walk through every step, and write the report."""
        from napari.settings import get_settings

        from napari_genselfdiff.widgets.hand import Hand

        start = time.perf_counter()
        get_settings().application.gui_notification_level = "error"
        self.viewer, self.panel = self._open_window()
        self.hand: Hand = Hand(self.viewer, self.panel)
        # Qt slots swallow what they raise or end the process; keep it and fail at the end.
        failures: list[BaseException] = []
        sys.excepthook = lambda _kind, error, _trace: failures.append(error)
        try:
            self._look()
            self._predict()
            self._correct()
            self._refine()
            self._choose()
            self._export()
        finally:
            sys.excepthook = self._excepthook
            self.panel.cleanup()
            self.viewer.close()
        if failures:
            raise JobFailedError(f"the demo's window failed: {failures[0]!r}") from failures[0]
        self._score()
        self.seconds["total"] = time.perf_counter() - start
        self._write_report()

    # -- steps ----------------------------------------------------------------------------------

    def _look(self) -> None:
        self.hand.rest(0.5)
        self._shot("start")
        with self._timed("open"):
            self._open_sample(0)
        self._shot("slide")
        self._see(CMU_VIEW)
        with self._timed("predict_cmu"):
            self.hand.key("P")
            self._wait_for_prediction()
        self._shot("predict-cmu")

    def _predict(self) -> None:
        with self._timed("open_labelled"):
            self._open_sample(1)
        self._shot("labelled-slide")
        field = PLACES[0][0] // FIELD * FIELD, PLACES[0][1] // FIELD * FIELD
        self._see((*field, FIELD, FIELD))
        with self._timed("predict"):
            self.hand.click(self.panel.predict.predict_button)
            self._wait_for_prediction(shot="predicting")
        self._shot("predicted")

    def _correct(self) -> None:
        """Correct three places as a user who knows the truth, then accept each."""
        with self._timed("correct"):
            for number, (y, x) in enumerate(PLACES):
                self._see((y, x, TILE, TILE), inside=True)
                self.hand.key("P")
                self._wait_for_prediction()
                if number == 0:
                    self._shot("before-correcting")
                    self._by_hand()
                self._to_truth()
                if number == 0:
                    self._shot("corrected")
                    self._undo_and_redo()
                self.hand.key("Escape")
                visible = self._visible()
                self.hand.key("A")
                self._touched.append(visible)
                if number == 0:
                    self._shot("accepted")
        self.facts["places"] = [[r.y, r.x, r.height, r.width] for r in self._touched]

    def _by_hand(self) -> None:
        """Delete what is no nucleus by clicks, and draw one that was missed with the brush."""
        found, truth = self._found(), _truth(self._visible())
        false, missed = _false_objects(found, truth), _worst_covered(truth, found)
        corner = self._visible()
        self.hand.key("D")
        for y, x in false[:6]:
            self.hand.tap((y + corner.y, x + corner.x))
        self._shot("deleted")
        self.hand.key("B")
        for y, x in missed:
            at_y, at_x = y + corner.y, x + corner.x
            self.hand.drag([(at_y, at_x - 4), (at_y, at_x), (at_y, at_x + 4)])
        self._shot("brushed")
        self.facts["deleted_by_click"] = len(false[:6])
        self.facts["drawn_by_brush"] = len(missed)

    def _to_truth(self) -> None:
        """Paint the rest as the true masks have it, through the edit layer and its saving."""
        controller = self.panel.controller
        if controller.tool != "brush":
            self.hand.key("B")
        window, layer = controller.edit_window, controller.layers.edit
        if window is None or layer is None:
            raise JobFailedError("the brush did not make the view editable")
        visible = self._visible()
        part = visible.shifted(-window.region.y, -window.region.x).slices
        found = layer.data[part].copy()
        painted = np.zeros_like(found)
        truth = _truth(visible)
        for object_id in np.unique(truth[truth > 0]):
            mask = truth == object_id
            value = _same_object(found, mask)
            painted[mask] = window.new_value(1) if value is None else value
        layer.data[part] = painted
        layer.refresh()
        controller.save()
        self.hand.rest(0.3)

    def _undo_and_redo(self) -> None:
        before = self._found()
        self.hand.key("Ctrl+Z")
        self._shot("undone")
        if np.array_equal(before > 0, self._found() > 0):
            raise JobFailedError("undo changed nothing")
        self.hand.key("Ctrl+Shift+Z")
        self._shot("redone")
        if not np.array_equal(before > 0, self._found() > 0):
            raise JobFailedError("redo did not bring back what was undone")

    def _refine(self) -> None:
        refining = self.panel.session.refining
        self.old = self.panel.session.open_model()
        self._see(NEW_PLACE)  # nobody corrected anything here
        self.hand.key("P")
        self._wait_for_prediction()
        self._shot("elsewhere-before")
        with self._timed("refine"):
            self.hand.click(self.panel.refine.refine_button)
            self.hand.until(lambda: len(refining.losses) > 6, "learning")
            self._shot("refining")
            self.hand.until(lambda: refining.activity is None, "Refine")
        self.hand.until(lambda: self.panel.session.predicting.activity is None, "Predict")
        self.hand.rest(1.2)
        self._shot("refined")
        outcome = refining.outcome
        if outcome is None:
            raise JobFailedError(f"Refine gave no result: {self.panel.session.status.text}")
        self.new: Model = outcome.new
        verdict = outcome.result.verdict
        self.facts["verdict"] = {
            "decision": verdict.decision,
            "sentence": verdict.sentence,
            "old": verdict.old,
            "new": verdict.new,
            "used_by_itself": outcome.in_use,
        }

    def _choose(self) -> None:
        """Use the new model, go back, and use what was found better."""
        card, session = self.panel.refine.card, self.panel.session
        was_used = self.facts["verdict"]["used_by_itself"]
        with self._timed("go_back"):
            if not was_used:
                self.hand.click(card.use_button)
                self._wait_for_prediction()
            self.hand.click(card.keep_button)
            self._wait_for_prediction()
        if session.open_model().hash != self.old.hash:
            raise JobFailedError("going back did not bring the old model")
        self._shot("went-back")
        if was_used:
            self.hand.click(card.use_button)
            self._wait_for_prediction()
        self._shot("chosen")

    def _export(self) -> None:
        with self._timed("export"):
            self.panel.slide.export_to(str(self.out / "regions.geojson"))
            session = self.panel.session
            self.hand.until(lambda: session.exporting.activity is None, "Export")
        self._shot("exported")
        shapes = json.loads((self.out / "regions.geojson").read_text(encoding="utf-8"))["features"]
        self.facts["exported"] = len(shapes)
        store = self.panel.session.store
        if store is None or not shapes:
            raise JobFailedError("nothing was exported")
        self.facts["annotations"] = store.path.name

    def _score(self) -> None:
        """Dice of the old and the new model on everything that was not touched."""
        from napari_genselfdiff.evaluation.metrics import dice
        from napari_genselfdiff.prediction.profile import default_profile
        from napari_genselfdiff.prediction.region import segment_region
        from napari_genselfdiff.slides.geometry import Region
        from napari_genselfdiff.slides.slide import open_slide

        with (
            self._timed("score"),
            open_slide(self.out / "slides" / "tnbc_pyramid.ome.tif") as slide,
        ):
            whole = Region(0, 0, *slide.shape)
            scored = slide.read(whole).min(axis=2) < 250
            for region in self._touched:
                near = region.padded(32).clipped(slide.shape)
                if near is not None:
                    scored[near.slices] = False
            truth = (_truth(whole) > 0) & scored
            profile = default_profile()
            for name, model in (("before", self.old), ("after", self.new)):
                done = segment_region(slide, model, whole, profile)
                found = np.asarray(done.classes > 0) & scored
                self.facts[f"dice_{name}"] = round(float(dice(found, truth)), 4)
        self.facts["scored_pixels"] = int(scored.sum())

    # -- tools ----------------------------------------------------------------------------------

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 2)

    def _shot(self, name: str) -> None:
        self.hand.rest(0.25)
        path = self.out / f"{self._shots:02d}-{name}.png"
        self.viewer.window.screenshot(str(path), flash=False, canvas_only=False)
        self._shots += 1

    def _open_sample(self, number: int) -> None:
        """Choose a sample from the menu; annotations go beside the copy in the demo's folder."""
        name = ("cmu_small_region", "tnbc_pyramid")[number]
        self.panel.controller.open_slide(str(copy_sample(name, self.out / "slides")))
        if self.panel.session.slide is None:
            raise ConfigError(f"the sample did not open: {self.panel.session.status.text}")
        self.hand.rest(0.6)

    def _see(self, place: tuple[int, int, int, int], *, inside: bool = False) -> None:
        """Look at all of a place, or at nothing but this place."""
        from napari_genselfdiff.slides.geometry import Region
        from napari_genselfdiff.widgets.view import canvas_shape, look_at, zoom_to

        slide = self.panel.controller.layers.slide
        if slide is not None:
            look_at(self.viewer, slide, Region(*place), margin=1.0)
        if slide is not None and inside:
            height, width = canvas_shape(self.viewer)
            zoom_to(self.viewer, slide, 0.99 * min(place[2] / height, place[3] / width))
        self.hand.rest(0.6)

    def _visible(self) -> Region:
        visible = self.panel.controller.visible()
        if visible is None:
            raise JobFailedError("nothing of the slide is on screen")
        return visible

    def _found(self) -> NDArray[np.uint32]:
        """Object ids the annotations hold where one looks."""
        _, store = self.panel.session.open_store()
        return store.read("Nuclei", self._visible()).ids

    def _wait_for_prediction(self, shot: str | None = None) -> None:
        predicting = self.panel.session.predicting
        if shot is not None:
            preview = self.panel.controller.layers
            self.hand.until(
                lambda: preview.preview is not None or predicting.activity is None, "first tile"
            )
            self._shot(shot)
        self.hand.until(lambda: predicting.activity is None, "Predict")
        if self.panel.session.status.tone == "error":
            raise JobFailedError(self.panel.session.status.text)
        self.hand.rest(0.2)

    def _write_report(self) -> None:
        report = {
            "schema": 1,
            "seconds": {step: round(value, 2) for step, value in self.seconds.items()},
            **self.facts,
            "pictures": sorted(path.name for path in self.out.glob("*.png")),
            "note": "corrections are simulated from the published masks; Dice on areas not touched",
        }
        text = json.dumps(report, indent=1, allow_nan=False)
        (self.out / "report.json").write_text(text + "\n", encoding="utf-8")


def _truth(region: Region) -> NDArray[np.uint16]:
    """True nuclei of a region of the labelled sample."""
    from PIL import Image

    with Image.open(sample_path("tnbc_pyramid_masks")) as picture:
        return np.asarray(picture).astype(np.uint16)[region.slices]


def _same_object(found: NDArray[np.uint16], mask: NDArray[np.bool_]) -> int | None:
    """Value of the object that covers the mask by an IoU above one half, if there is one."""
    values, counts = np.unique(found[mask], return_counts=True)
    for value, shared in zip(values, counts, strict=True):
        if value and 2 * shared > int(mask.sum()) + int((found == value).sum()) - shared:
            return int(value)
    return None


def _false_objects(found: NDArray[np.integer], truth: NDArray[np.integer]) -> list[tuple[int, int]]:
    """A pixel inside each object of ``found``, all in sight, that overlaps nothing of ``truth``."""
    spots = []
    rim = np.ones(found.shape, bool)
    rim[1:-1, 1:-1] = False
    for object_id in np.setdiff1d(found, found[rim]):
        mask = found == object_id
        if object_id and not (truth[mask] > 0).any() and mask.sum() > 20:
            rows, columns = np.nonzero(mask)
            middle = len(rows) // 2
            spots.append((int(rows[middle]), int(columns[middle])))
    return spots


def _worst_covered(truth: NDArray[np.integer], found: NDArray[np.integer]) -> list[tuple[int, int]]:
    """A pixel inside the true object, all in sight, of which least was found; none if all were."""
    rim = np.ones(truth.shape, bool)
    rim[1:-1, 1:-1] = False
    best: tuple[float, list[tuple[int, int]]] = (0.9, [])
    for object_id in np.setdiff1d(truth, truth[rim]):
        rows, columns = np.nonzero((truth == object_id) & (truth > 0))
        covered = float((found[rows, columns] > 0).mean()) if len(rows) > 60 else 1.0
        if covered < best[0]:
            middle = len(rows) // 2
            best = covered, [(int(rows[middle]), int(columns[middle]))]
    return best[1]


def _make_empty(out: Path) -> None:
    """Remove what an earlier demo wrote, and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for path in [*out.glob("[0-9][0-9]-*.png"), out / "report.json", out / "regions.geojson"]:
        path.unlink(missing_ok=True)
    for name in ("slides", "home"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "home").mkdir()
