"""The map: what was looked at, by whom and when; a click flies there, the frame follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, Qt
from qtpy.QtTest import QTest

from napari_genselfdiff.annotation.looks import Look
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from napari_genselfdiff.widgets.coverage_map import CoverageMap
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.map_section import MapSection, looked
from napari_genselfdiff.widgets.overview import OverviewReader, read_overview
from tests.session.parts import FakeEngine, predict
from tests.widgets.conftest import VIEW

pytestmark = pytest.mark.qt
_TEST: Any = QTest


def section(hand: Hand) -> MapSection:
    found = hand.panel.correct.map
    if not found.is_open:
        hand.click(found.head)
    return found


def click(hand: Hand, y0: float, x0: float) -> None:
    drawn = section(hand).map
    at = drawn.on_map(y0, x0).toPoint()
    _TEST.mouseClick(drawn, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)
    hand.rest(0.2)


def color(drawn: CoverageMap, y0: float, x0: float) -> tuple[int, int, int]:
    at = drawn.on_map(y0, x0).toPoint()
    found = drawn.grab().toImage().pixelColor(at)
    return found.red(), found.green(), found.blue()


def test_a_click_flies_there_and_the_frame_follows(looking: Hand) -> None:
    drawn = section(looking).map
    looking.rest(0.1)
    frame = drawn.frame()
    assert frame is not None
    middle = drawn.on_map(VIEW.y + VIEW.height / 2, VIEW.x + VIEW.width / 2)
    assert abs(frame.center().x() - middle.x()) < 2
    assert abs(frame.center().y() - middle.y()) < 2
    zoom = looking.viewer.scene.camera.zoom
    click(looking, 340, 600)
    visible = looking.panel.controller.visible()
    assert visible is not None
    assert abs(visible.y + visible.height / 2 - 340) < 6
    assert abs(visible.x + visible.width / 2 - 600) < 6
    assert looking.viewer.scene.camera.zoom == zoom
    moved = drawn.frame()
    assert moved is not None
    assert moved.center().x() > frame.center().x()


def test_from_far_away_one_comes_near(looking: Hand) -> None:
    section(looking)
    looking.viewer.reset_view()
    looking.rest(0.2)
    zoom = looking.viewer.scene.camera.zoom
    click(looking, 300, 400)
    assert looking.viewer.scene.camera.zoom > zoom


def test_what_was_looked_at_is_coloured_and_named(
    looking: Hand, closed: tuple[Session, FakeEngine]
) -> None:
    found = section(looking)
    session = closed[0]
    looking.until(lambda: found.map._picture is not None, "the slide's picture", 20)
    plain = color(found.map, 50, 750)
    predict(*closed, Region(0, 400, 600, 400), (150, 550, 12))
    session.correcting.accept(Region(0, 0, 600, 200), 1.0)
    looking.rest(0.7)
    assert "25 % of the slide checked" in found.head.text()
    assert sum(color(found.map, 550, 300)) < sum(plain)  # unknown is dark
    red, green, blue = color(found.map, 550, 100)
    assert green > red
    assert green > blue
    _, green, blue = color(found.map, 550, 600)
    assert blue > green
    assert session.store is not None
    assert found.map.words_at(300, 100).startswith(f"Accepted by {session.store.author}, ")
    assert found.map.words_at(300, 600) == "Model only: nobody checked this"
    assert found.map.words_at(300, 300) == "Unknown: nobody looked here"
    session.correcting.clear_to_unknown(Region(0, 0, 300, 200))
    looking.rest(0.1)
    assert "cleared it" in found.map.words_at(100, 100)
    assert found.map.words_at(400, 100).startswith("Accepted by")
    session.correcting.undo()
    looking.rest(0.1)
    assert found.map.words_at(100, 100).startswith("Accepted by")


def test_a_folded_map_reads_nothing(looking: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    found = section(looking)
    looking.click(found.head)
    assert not found.is_open
    reads: list[str] = []

    def read(_store: object, task: str) -> NDArray[np.uint8]:
        reads.append(task)
        return np.zeros((2, 2), np.uint8)

    monkeypatch.setattr("napari_genselfdiff.widgets.map_section.known_overview", read)
    looking.key("A")
    looking.rest(0.7)
    assert reads == []
    assert "checked" in found.head.text()
    looking.click(found.head)
    looking.rest(0.1)
    assert reads == ["Nuclei"]


def test_the_overview_equals_a_thumbnail(slide_path: Path) -> None:
    with open_slide(slide_path) as slide:
        picture = read_overview(slide, 200, lambda: False)
        assert picture is not None
        np.testing.assert_array_equal(picture, slide.thumbnail(200)[0])
        assert read_overview(slide, 200, lambda: True) is None


def test_a_slide_that_closes_is_no_longer_read(slide_path: Path) -> None:
    reader = OverviewReader(400)
    slide = open_slide(slide_path)
    reader.start(slide)
    reader.stop()
    slide.close()
    assert reader.take() is None
    reader.start(slide)  # closed: reading fails, and nobody is troubled
    end = time.monotonic() + 10
    while reader._running is not None and time.monotonic() < end:
        assert reader.take() is None
        time.sleep(0.01)
    assert reader._running is None
    reader.close()


def test_drawing_the_map_is_quick(qapp: Any) -> None:
    drawn = CoverageMap(lambda _y, _x: None, lambda _y, _x: "")
    drawn.resize(300, 170)
    drawn.set_slide((100_000, 100_000))
    drawn.set_picture(np.full((680, 680, 3), 200, np.uint8))
    known = np.random.default_rng(0).integers(0, 4, (391, 391)).astype(np.uint8)

    def seconds() -> float:
        start = time.process_time()
        drawn.set_known(known)
        drawn.set_view(Region(5000, 5000, 2000, 3000))
        drawn.grab()
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 0.04  # four times the budget of 10 ms
    assert drawn.words_at(1.0, 1.0)
    drawn.set_slide(None)
    assert drawn.frame() is None
    drawn.deleteLater()


@pytest.mark.parametrize(
    ("what", "seen", "words"),
    [
        ("Accept view", True, "Accepted by anna, "),
        ("Brush", True, "Corrected (Brush) by anna, "),
        ("Clear to unknown", False, "Unknown again: anna cleared it, "),
    ],
)
def test_who_looked_is_said_in_words(what: str, seen: bool, words: str) -> None:
    box = Region(0, 0, 1, 1)
    look = Look(1, "Nuclei", box, "anna", "2026-03-05T12:00:00+00:00", what, seen)
    assert looked(look).startswith(words)
    assert "Mar 2026" in looked(look)


def test_a_tall_slide_leaves_room(
    hand: Hand, tmp_path: Path, make_slide: Callable[..., Path]
) -> None:
    hand.panel.controller.open_slide(str(make_slide(tmp_path / "tall.tif", 1200, 200, levels=1)))
    hand.rest(0.2)
    drawn = section(hand).map
    assert drawn.height() <= 170
    top, bottom = drawn.on_map(0, 0), drawn.on_map(1200, 200)
    assert (bottom.y() - top.y()) / (bottom.x() - top.x()) == pytest.approx(6, rel=0.02)
    assert drawn._level0(drawn.on_map(600, 100)) == pytest.approx((600, 100), abs=1)
    assert drawn._level0(QPointF(1, 1)) is None  # beside it
