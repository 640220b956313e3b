"""The dock in a real window: what it shows, its keys, bad input, and that it goes away."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtWidgets import QAbstractButton, QLabel, QWidget

from napari_genselfdiff.learning.before_after import RefinePreview
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.commands import TOOLS
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.panel import AnnotateSlide
from tests.session.parts import FakeEngine, make_model, predict, refine_result, tile_done
from tests.widgets.conftest import VIEW

pytestmark = pytest.mark.qt
Opened = tuple[Session, FakeEngine]


def test_an_empty_panel_says_how_to_begin(hand: Hand) -> None:
    panel = hand.panel
    assert "Open a slide" in panel.foot.line.text()
    assert "Research use only" in panel.foot.research.text()
    assert not panel.predict.predict_button.isEnabled()
    assert not panel.refine.refine_button.isEnabled()
    assert not any(button.isEnabled() for button in panel.correct.tools.values())
    assert panel.width() <= 360


def test_everything_to_press_is_explained_and_takes_no_focus(hand: Hand) -> None:
    for button in hand.panel.findChildren(QAbstractButton):
        if button.objectName().startswith("qt_"):
            continue
        assert button.toolTip(), button.text()
        assert button.focusPolicy() == button.focusPolicy().__class__.NoFocus, button.text()


def test_an_open_slide_is_described(looking: Hand) -> None:
    panel = looking.panel
    assert panel.slide.name.text() == "case.tif"
    assert "0.25 µm/px" in panel.slide.facts.text()
    assert "0.20 × 0.15 mm" in panel.slide.facts.text()
    assert "case.tif.gsd.zarr" in panel.slide.saved.text()
    assert panel.predict.predict_button.isEnabled()
    assert panel.predict.starter.isVisible()
    assert "unknown" in panel.correct.coverage.words.text()


def test_words_of_design_are_used_and_words_of_code_are_not(looking: Hand) -> None:
    shown = " ".join(
        widget.text()
        for kind in (QLabel, QAbstractButton)
        for widget in looking.panel.findChildren(kind)
    )
    for word in ("Predict", "Correct", "Refine", "Accept view", "Undo", "Use"):
        assert word in shown
    for word in ("check-out", "commit", "gate"):
        assert word not in shown.lower()


def test_keys_reach_the_tools(looking: Hand) -> None:
    controller = looking.panel.controller
    for tool, command in TOOLS.items():
        if tool == "delete":
            continue
        looking.key(command.key)
        assert controller.tool == tool
        assert looking.panel.correct.tools[tool].isChecked()
    looking.key("Escape")
    assert controller.tool is None
    assert controller.layers.edit is None


def test_a_real_drag_paints_and_ctrl_z_takes_it_back(looking: Hand) -> None:
    session = looking.panel.session
    looking.key("B")
    looking.drag([(200, 200), (200, 215), (200, 230)])
    assert session.store is not None
    assert session.store.read("Nuclei", VIEW).ids[100, 115]
    assert "saved" in looking.panel.foot.line.text()
    looking.key("Ctrl+Z")
    assert not session.store.read("Nuclei", VIEW).ids.any()
    looking.key("Ctrl+Shift+Z")
    assert session.store.read("Nuclei", VIEW).ids[100, 115]
    looking.drag([(200, 205), (200, 225)], "Alt")
    assert not session.store.read("Nuclei", VIEW).ids[100, 115]


def test_no_trace_of_the_brush_stays_at_the_pointer(looking: Hand) -> None:
    where = looking.on_canvas((200, 230))
    rows, columns = (slice(int(v) - 12, int(v) + 12) for v in (where.y(), where.x()))

    def around() -> NDArray[np.int16]:
        looking.rest(0.3)
        picture = np.asarray(looking.viewer.screenshot(canvas_only=True, flash=False))
        return picture[rows, columns, :3].astype(np.int16)

    before = around()
    for _ in range(2):
        looking.key("B")
        looking.drag([(200, 200), (200, 230)])
        looking.key("Ctrl+Z")
        looking.key("Escape")
    np.testing.assert_allclose(around(), before, atol=3)


def test_a_polygon_is_closed_by_a_double_click(looking: Hand) -> None:
    session = looking.panel.session
    looking.key("G")
    for point in [(150, 150), (150, 220), (220, 220), (260, 300), (220, 150)]:
        looking.tap(point)
        if point == (260, 300):
            looking.key("Backspace")
    looking.double_click((185, 149))
    looking.rest(0.2)
    assert session.store is not None
    window = session.store.read("Nuclei", Region(140, 140, 200, 200))
    assert window.ids[40, 40]
    assert not window.ids[105, 120]
    assert len(set(window.ids.ravel().tolist())) == 2


def test_a_lasso_is_drawn_and_seen_while_it_is(looking: Hand) -> None:
    session = looking.panel.session
    looking.key("L")
    looking.drag([(150, 150), (150, 220), (220, 220), (220, 150)])
    assert session.store is not None
    assert session.store.read("Nuclei", Region(180, 180, 1, 1)).ids[0, 0]
    zoom = looking.viewer.scene.camera.zoom
    looking.key("S")
    looking.drag([(140, 180), (230, 180)])
    assert looking.viewer.scene.camera.zoom == zoom
    assert "Split 1 nucleus into 2" in looking.panel.foot.line.text()


def test_holding_h_hides_the_overlay(looking: Hand) -> None:
    shown = looking.panel.controller.layers.shown
    assert shown is not None
    looking.hold("H", True)
    assert not shown.visible
    looking.hold("H", False)
    assert shown.visible


def test_prediction_is_shown_with_the_time_left(looking: Hand, closed: Opened) -> None:
    engine = closed[1]
    looking.key("P")
    job = engine.jobs[-1]
    job.on_partial(tile_done(Region(100, 100, 96, 96)))
    progress = looking.panel.foot.progress
    looking.until(lambda: "2 s left" in progress.words.text(), "progress", 10)
    assert progress.isVisible()
    assert progress.bar.value() == 250
    looking.click(progress.cancel_button)
    assert job.state == "cancelled"
    assert not progress.isVisible()
    assert "cancelled" in looking.panel.foot.line.text()


def test_zoomed_out_too_far_offers_to_zoom(looking: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_genselfdiff.session.predicting.MAX_SIDE", 350)
    panel = looking.panel
    looking.viewer.reset_view()
    looking.until(lambda: panel.predict.zoom_button.isVisible(), "the hint", 10)
    assert not panel.predict.predict_button.isEnabled()
    assert "zoom in" in panel.predict.hint.text()
    monkeypatch.setattr("napari_genselfdiff.session.predicting.MAX_SIDE", 4096)
    looking.click(panel.predict.zoom_button)
    looking.until(lambda: panel.predict.predict_button.isEnabled(), "Predict", 10)
    assert not panel.predict.zoom_button.isVisible()


def test_accept_view_moves_the_numbers(looking: Hand, closed: Opened) -> None:
    predict(looking.panel.session, closed[1], VIEW, (200, 200, 12))
    looking.key("A")
    panel = looking.panel
    looking.until(lambda: "checked tile" in panel.refine.plan.text(), "the numbers", 10)
    assert panel.refine.refine_button.isEnabled()
    assert "accepted" in panel.correct.coverage.words.text()
    assert panel.correct.classes.rows.rows[0].objects == 1


def test_the_card_judges_and_offers_the_choice(looking: Hand, closed: Opened) -> None:
    session, engine = closed
    session.correcting.accept(Region(0, 0, 256, 256), 1.0)
    looking.rest(0.7)
    old = session.model
    looking.click(looking.panel.refine.refine_button)
    assert looking.panel.refine.progress.isVisible()
    request = engine.requests[-1][1]
    model = make_model(request.out, 5, name=request.name)
    result = refine_result(model, "too_little")
    card = looking.panel.refine.card
    engine.jobs[-1].on_partial(RefinePreview(True, 0.61, 0.66, result.picture, 2.1))
    looking.rest(0.2)
    assert card.isVisible()
    assert "first look after 2.1 s" in card.verdict.text()
    assert card.after.isVisible()
    assert not card.use_button.isVisible()  # there is nothing to use yet
    engine.jobs[-1].on_end("done", result)
    looking.rest(0.2)
    assert card.isVisible()
    assert "0.61 → 0.79" in card.verdict.text()
    assert "95 %" in card.numbers.text()
    picture = card.before.pixmap()
    assert picture is not None
    assert not picture.isNull()
    looking.click(card.before)
    assert card.comparison is not None
    assert card.comparison.isVisible()
    assert set(card.comparison.pictures) == {"Before", "After", "As you left it"}
    drawn = [label.pixmap() for label in card.comparison.pictures.values()]
    assert all(picture is not None and not picture.isNull() for picture in drawn)
    card.comparison.close()
    looking.click(card.use_button)
    assert session.model is not None
    assert session.model != old
    assert looking.panel.refine.versions.count() == 2
    looking.click(card.keep_button)
    assert session.model == old


def test_unknown_size_of_a_pixel_is_asked_inline(
    hand: Hand, tmp_path: Path, make_slide: Callable[..., Path]
) -> None:
    panel = hand.panel
    panel.controller.open_slide(str(make_slide(tmp_path / "x.tif", 128, 128, mpp=None, levels=1)))
    hand.rest(0.2)
    assert panel.slide.ask.isVisible()
    assert not panel.predict.predict_button.isEnabled()
    hand.click(panel.slide.usual[1])
    assert not panel.slide.ask.isVisible()
    assert "0.5 µm/px (assumed)" in panel.slide.facts.text()
    assert tuple(panel.controller.layers.slide.scale) == (0.5, 0.5)  # type: ignore[union-attr]


def test_bad_input_is_one_line_and_the_window_lives(looking: Hand, tmp_path: Path) -> None:
    panel = looking.panel
    fake = tmp_path / "letter.svs"
    fake.write_text("dear colleague")
    for path in (fake, tmp_path / "nothing.svs"):
        panel.controller.open_slide(str(path))
        looking.rest()
        assert panel.session.status.tone == "error"
        assert "\n" not in panel.foot.line.text()
        assert panel.slide.name.text() == "case.tif"
    looking.key("B")
    looking.drag([(200, 200), (200, 230)])
    assert "saved" in panel.foot.line.text()


def test_damaged_annotations_are_named_in_the_panel(hand: Hand, slide_path: Path) -> None:
    root = slide_path.with_name("case.tif.gsd.zarr")
    root.mkdir()
    (root / "zarr.json").write_text("{}")
    hand.panel.controller.open_slide(str(slide_path))
    hand.rest(0.2)
    assert "damaged" in hand.panel.slide.warning.text()
    assert not hand.panel.correct.accept_button.isEnabled()
    assert not hand.panel.predict.predict_button.isEnabled()


def test_closing_leaves_nothing_behind(viewer: Any, opened: Opened) -> None:
    session, engine = opened
    keys = dict(viewer.keymap)
    panel = AnnotateSlide(viewer, session)
    dock = viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
    hand = Hand(viewer, panel)
    hand.rest(0.2)
    hand.key("B")
    seen = [weakref.ref(part) for part in (panel, panel.controller, panel.correct, panel.slide)]
    panel.close()
    assert engine.closed
    assert session.slide is None
    assert viewer.keymap == keys
    assert list(viewer.layers) == []
    viewer.window.remove_dock_widget(dock)
    panel.deleteLater()
    hand.rest(0.2)
    del panel, dock, hand
    gc.collect()
    assert [ref() for ref in seen] == [None] * 4


def test_nothing_is_wider_than_the_panel(looking: Hand) -> None:
    panel = looking.panel
    for part in panel.findChildren(QWidget):
        if part.isVisible() and part.parent() is not None and part.window() is panel.window():
            right = part.mapTo(panel, part.rect().topRight()).x()
            assert right <= panel.width(), (type(part).__name__, part.objectName())


def test_a_small_screen_keeps_what_is_worked_with(
    hand: Hand,
    slide_path: Path,
    tmp_path: Path,
    make_slide: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = hand.panel
    monkeypatch.setattr("napari_genselfdiff.widgets.slide_block.is_tall", lambda: False)
    panel.controller.open_slide(str(make_slide(tmp_path / "x.tif", 128, 128, mpp=None, levels=1)))
    hand.rest(0.1)
    asks = panel.slide.is_open
    assert asks  # how large a pixel is
    panel.controller.open_slide(str(slide_path))
    hand.rest(0.1)
    assert not panel.slide.is_open
    assert "case.tif" in panel.slide.head.text()
    assert panel.correct.accept_button.isEnabled()


def test_what_is_under_the_pointer_is_named(looking: Hand, closed: Opened) -> None:
    predict(looking.panel.session, closed[1], VIEW, (200, 200, 12))
    coverage = looking.panel.correct.coverage

    def named(y: float, x: float) -> str:
        slide = looking.panel.controller.layers.slide
        assert slide is not None
        return coverage._under_pointer(tuple(slide.data_to_world((y, x))))

    assert named(200, 200) == "Pointer: Nucleus, model only, not checked"
    assert named(150, 150) == "Pointer: background, model only, not checked"
    assert named(500, 700) == "Pointer: unknown, nobody looked"
    assert named(-50, 0) == "Pointer: beside the slide"
    looking.panel.session.correcting.accept(Region(190, 190, 20, 20), 1.0)
    assert named(200, 200) == "Pointer: Nucleus, accepted"
