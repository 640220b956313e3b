"""Viewer models without a window, an open slide, and a check that nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel

from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.controller import Controller
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.panel import AnnotateSlide
from napari_genselfdiff.widgets.view import look_at
from tests.session.conftest import bundled, closed, made, opened, slide_path
from tests.session.parts import FakeEngine

VIEW = Region(100, 100, 200, 240)
"""What ``looking`` sees, in level-0 pixels."""

__all__ = ["bundled", "closed", "made", "opened", "slide_path"]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def rest(self, controller: Controller) -> None:
        """Let the hand rest long enough for everything that waits."""
        self.now += 2.0
        for _ in range(6):  # what takes long is spread over several
            controller.tick()


@pytest.fixture
def model() -> ViewerModel:
    """A viewer without a window; its canvas has 600 x 800 pixels."""
    viewer = ViewerModel()
    viewer.canvas.size = (600, 800)
    return viewer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def controller(
    model: ViewerModel, closed: tuple[Session, FakeEngine], slide_path: Path, clock: Clock
) -> Iterator[Controller]:
    """A controller with the slide open; the whole slide of 600 x 800 pixels is visible."""
    made = Controller(model, closed[0], clock)
    made.open_slide(str(slide_path))
    yield made
    made.cleanup()


@pytest.fixture(scope="session")
def viewer(qapp: Any) -> Iterator[Any]:
    """One shown window for all tests: opening one takes seconds."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1300, 900)
    yield viewer
    viewer.close()
    qapp.processEvents()


@pytest.fixture
def hand(viewer: Any, closed: tuple[Session, FakeEngine]) -> Iterator[Hand]:
    """A hand in a shown window without a slide."""
    panel = AnnotateSlide(viewer, closed[0])
    dock = viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
    hand = Hand(viewer, panel)
    hand.rest(0.2)
    yield hand
    panel.cleanup()
    viewer.window.remove_dock_widget(dock)
    panel.deleteLater()
    hand.rest(0.05)


@pytest.fixture
def looking(hand: Hand, slide_path: Path) -> Hand:
    """The same with the slide open, seen from near."""
    hand.panel.controller.open_slide(str(slide_path))
    slide = hand.panel.controller.layers.slide
    assert slide is not None
    look_at(hand.viewer, slide, VIEW)
    hand.rest(0.5)
    return hand
