"""Viewer models without a window, an open slide, and a check that nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from napari.components import ViewerModel

from napari_genselfdiff.session.session import Session
from napari_genselfdiff.widgets.controller import Controller
from tests.session.conftest import bundled, closed, made, opened, slide_path
from tests.session.parts import FakeEngine

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
