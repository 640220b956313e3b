"""Open, predict, paint, undo, accept, refine, go back, export: by clicks and keys, for real."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.view import look_at
from tests.end_to_end.conftest import Open

pytestmark = pytest.mark.qt
VIEW = Region(150, 150, 200, 240)


def look(hand: Hand, region: Region) -> None:
    slide = hand.panel.controller.layers.slide
    assert slide is not None
    look_at(hand.viewer, slide, region)
    hand.rest(0.6)


def read(hand: Hand, region: Region = VIEW) -> Any:
    store = hand.panel.session.store
    assert store is not None
    return store.read("Nuclei", region)


def test_the_whole_journey(
    open_panel: Open, registry: Registry, slide_path: Path, tmp_path: Path
) -> None:
    hand = open_panel(registry)
    panel, session = hand.panel, hand.panel.session

    panel.controller.open_slide(str(slide_path))
    look(hand, VIEW)
    assert panel.predict.predict_button.isEnabled()

    hand.key("P")
    hand.until(lambda: session.predicting.activity is None, "Predict", 120)
    assert session.status.tone == "good", session.status.text
    assert (read(hand).provenance == 1).all()

    painted = read(hand).ids.copy()
    hand.key("E")
    hand.drag([(200, 190), (200, 240)])
    assert (read(hand, Region(200, 195, 1, 40)).provenance == 3).all()
    assert not read(hand, Region(200, 195, 1, 40)).ids.any()
    hand.key("B")
    hand.drag([(200, 200), (200, 220)])
    assert read(hand).classes[50, 60] == 1
    assert read(hand).ids[50, 60] not in painted
    hand.key("Ctrl+Z")
    hand.key("Ctrl+Z")
    np.testing.assert_array_equal(read(hand).ids > 0, painted > 0)
    hand.key("Ctrl+Shift+Z")
    assert read(hand).provenance[50, 60] == 3
    hand.key("Escape")

    hand.key("A")
    visible = panel.controller.visible()
    assert visible is not None
    assert (read(hand, visible).provenance >= 2).all()
    known = read(hand, visible)

    session.refining.budget_s = 1.0
    hand.until(panel.refine.refine_button.isEnabled, "the numbers", 10)
    old = session.open_model()
    hand.click(panel.refine.refine_button)
    hand.until(lambda: session.refining.activity is None, "Refine", 240)
    outcome = session.refining.outcome
    assert outcome is not None, session.status.text
    assert panel.refine.card.isVisible()
    assert not panel.refine.card.before.pixmap().isNull()  # type: ignore[union-attr]
    if not outcome.in_use:
        hand.click(panel.refine.card.use_button)
    hand.until(lambda: session.predicting.activity is None, "Predict", 120)
    assert session.open_model().hash == outcome.new.hash != old.hash
    # Predicted again by itself, and nothing a person checked was touched.
    np.testing.assert_array_equal(read(hand, visible).ids, known.ids)

    hand.click(panel.refine.card.keep_button)
    hand.until(lambda: session.predicting.activity is None, "Predict", 120)
    assert session.open_model().hash == old.hash

    panel.slide.export_to(str(tmp_path / "regions"))
    hand.until(lambda: session.exporting.activity is None, "Export", 60)
    shapes = json.loads((tmp_path / "regions.geojson").read_text(encoding="utf-8"))["features"]
    assert len(shapes) == len(set(np.unique(read(hand, Region(0, 0, 600, 800)).ids)) - {0})

    # What was done is there again the next time.
    everything = read(hand, Region(0, 0, 600, 800))
    panel.controller.open_slide(str(slide_path))
    hand.rest(0.3)
    again = read(hand, Region(0, 0, 600, 800))
    np.testing.assert_array_equal(again.ids, everything.ids)
    np.testing.assert_array_equal(again.provenance, everything.provenance)


def test_export_and_import_give_the_same_masks(
    open_panel: Open, registry: Registry, slide_path: Path, tmp_path: Path
) -> None:
    hand = open_panel(registry)
    panel = hand.panel
    panel.controller.open_slide(str(slide_path))
    look(hand, VIEW)
    hand.key("B")
    hand.drag([(200, 200), (200, 230)])
    hand.drag([(260, 200), (290, 230)])
    hand.key("Escape")
    before = read(hand)
    panel.slide.export_to(str(tmp_path / "a.geojson"))
    assert panel.slide.progress.isVisible()
    assert not panel.slide.export_button.isEnabled()
    panel.controller.clear_view()  # what is exported was there when it began
    assert not read(hand).ids.any()
    hand.until(lambda: panel.session.exporting.activity is None, "Export", 60)
    assert panel.slide.export_button.isEnabled()
    panel.slide.import_from(str(tmp_path / "a.geojson"))
    hand.rest(0.2)
    assert "2 nuclei" in panel.foot.line.text()
    np.testing.assert_array_equal(read(hand).classes, before.classes)
    hand.key("Ctrl+Z")
    assert not read(hand).ids.any()


def test_bad_input_leaves_a_living_window_and_the_annotations(
    open_panel: Open,
    registry: Registry,
    slide_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hand = open_panel(registry)
    panel, session = hand.panel, hand.panel.session
    panel.controller.open_slide(str(slide_path))
    look(hand, VIEW)
    hand.key("B")
    hand.drag([(200, 200), (200, 230)])

    def said_in_one_line(*words: str) -> None:
        shown = panel.foot.line.text()
        assert session.status.tone == "error", shown
        assert "\n" not in shown
        assert all(word in shown for word in words), shown
        assert read(hand).classes[50, 60] == 1

    # A truncated slide and a file that is none.
    cut = tmp_path / "cut.tif"
    cut.write_bytes(slide_path.read_bytes()[:600])
    panel.controller.open_slide(str(cut))
    said_in_one_line("cut.tif")
    panel.slide.import_from(str(slide_path))
    said_in_one_line()

    # A model whose weights were altered.
    weights = session.open_model().path / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-4] + b"\0\1\2\3")
    hand.key("P")
    hand.until(lambda: session.predicting.activity is None, "Predict", 60)
    said_in_one_line("weights.safetensors")
    weights.write_bytes(good)

    # A worker that is killed.
    hand.key("P")
    hand.until(lambda: "interactive" in session.engine.pids, "the worker", 60)
    os.kill(session.engine.pids["interactive"], signal.SIGKILL)
    hand.until(lambda: session.predicting.activity is None, "the failure", 60)
    said_in_one_line()

    # A full disk.
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("napari_genselfdiff.annotation.disk.os.replace", full)
    hand.key("A")
    said_in_one_line("disk is full")
    monkeypatch.undo()

    # And it all works again.
    hand.key("P")
    hand.until(lambda: session.predicting.activity is None, "Predict", 120)
    assert session.status.tone == "good", session.status.text
