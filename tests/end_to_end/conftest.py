"""A real window with worker processes of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.panel import AnnotateSlide
from tests.session.conftest import bundled, made, slide_path

__all__ = ["bundled", "made", "slide_path"]

Open = Callable[[Registry], Hand]


@pytest.fixture(scope="module")
def viewer(qapp: Any) -> Iterator[Any]:
    """One shown window for all tests of a file."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    yield viewer
    viewer.close()
    qapp.processEvents()


@pytest.fixture
def open_panel(viewer: Any) -> Iterator[Open]:
    """Return ``open_panel(registry) -> hand``; afterwards no worker process may be left."""
    hands: list[Hand] = []

    def opened(registry: Registry) -> Hand:
        session = Session(registry, profile=Profile())
        panel = AnnotateSlide(viewer, session)
        viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
        hands.append(Hand(viewer, panel))
        hands[-1].rest(0.3)
        return hands[-1]

    yield opened
    for hand in hands:
        workers = hand.panel.session.engine.pids.values()
        hand.panel.cleanup()
        viewer.window.remove_dock_widget(hand.panel.parent())
        hand.panel.deleteLater()
        hand.rest(0.1)
        for pid in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.fixture
def registry(bundled: Path, tmp_path: Path) -> Registry:
    """Models that came with the program: one tiny network that was never trained."""
    return Registry(tmp_path / "home", bundled=bundled)
