"""The block *Whole slide* in a real window: outline, start, edit meanwhile, pause, go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.annotation.store import HUMAN
from napari_genselfdiff.engine.slide_request import SlideRequest
from napari_genselfdiff.engine.slide_tasks import forget
from napari_genselfdiff.engine.workers import HereWorkers
from napari_genselfdiff.prediction import plan as plan_module
from napari_genselfdiff.session import whole_slide as module
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.hand import Hand

pytestmark = pytest.mark.qt


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plan_module, "MARGIN", 48)

    def with_small_blocks(*args: Any, **kwargs: Any) -> SlideRequest:
        return SlideRequest(*args, **{"block": 288, **kwargs})

    monkeypatch.setattr(module, "SlideRequest", with_small_blocks)
    yield
    forget()


@pytest.fixture
def ready(looking: Hand) -> Hand:
    session = looking.panel.session
    session.whole_slide.make_workers = lambda _number: HereWorkers()
    looking.panel.whole.set_open(True)
    looking.rest(0.1)
    return looking


def test_the_tissue_is_outlined_first(ready: Hand) -> None:
    block, session = ready.panel.whole, ready.panel.session
    engine: Any = session.engine
    asked: list[Any] = []

    def tissue(*request: Any) -> Any:
        asked.append(request)
        return engine._job("Find tissue", *request)

    engine.tissue = tissue
    ready.click(block.tissue_button)
    assert session.slide is not None
    engine.jobs[-1].on_end("done", (plan_module.find_tissue(session.slide), 0.04))
    ready.until(lambda: block._outline.layer is not None, "the outline", 10)
    layer = block._outline.layer
    assert layer is not None
    assert layer.contour == 2
    assert not layer.editable
    assert block.slider.isVisible()
    assert block.slider.value() == 40
    assert "% of the slide" in block.plan.text()
    block.slider.setValue(90)
    ready.until(lambda: len(asked) == 2, "the tissue anew", 10)
    assert asked[-1][2] == 0.09
    ready.click(block.tissue_button)
    assert layer not in ready.viewer.layers


def test_one_edits_while_the_slide_is_segmented(ready: Hand) -> None:
    block, session = ready.panel.whole, ready.panel.session
    assert session.store is not None
    ready.click(block.start_button)
    assert block.progress.isVisible()
    assert block.pause_button.text() == "Pause"
    ready.key("B")
    ready.drag([(200, 200), (200, 215), (200, 230)])
    drawn = session.store.read("Nuclei", Region(190, 190, 60, 60)).provenance == HUMAN
    assert drawn.sum() > 50
    ready.key("Escape")
    ready.until(lambda: session.whole_slide.state == "idle", "the end of the run", 120)
    window = session.store.read("Nuclei", Region(190, 190, 60, 60))
    np.testing.assert_array_equal(window.provenance == HUMAN, drawn)
    assert (window.classes[drawn] == 1).all()
    assert "The slide is segmented" in ready.panel.foot.line.text()
    assert block.start_button.isVisible()


def test_pause_and_an_offer_to_go_on_after_opening_again(ready: Hand, slide_path: Path) -> None:
    block, session = ready.panel.whole, ready.panel.session
    ready.click(block.start_button)
    ready.click(block.pause_button)
    ready.until(lambda: session.whole_slide.state == "paused", "the pause", 60)
    assert block.pause_button.text() == "Resume"
    assert "Paused" in block.progress.words.text()
    ready.panel.controller.open_slide(str(slide_path))
    ready.rest(0.2)
    assert block.offer.isVisible()
    assert "was interrupted at about" in block.offer.text()
    assert not block.start_button.isVisible()
    ready.click(block.go_on_button)
    ready.until(lambda: session.whole_slide.state == "idle", "the end of the run", 120)
    assert not block.offer.isVisible()
    assert block.start_button.isVisible()
