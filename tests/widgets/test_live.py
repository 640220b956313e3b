"""Live mode and hatching, without a window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.controller import Controller
from napari_genselfdiff.widgets.hatching import hatched
from napari_genselfdiff.widgets.live import REST_S
from napari_genselfdiff.widgets.view import look_at
from tests.session.parts import FakeEngine, region_done
from tests.widgets.conftest import Clock

NEAR, NEXT = Region(100, 200, 150, 200), Region(300, 400, 150, 200)


@pytest.fixture
def opened_engine(closed: tuple[Session, FakeEngine]) -> FakeEngine:
    return closed[1]


def hatching(controller: Controller) -> Any:
    return controller.layers.unsure


def asked(engine: FakeEngine) -> list[Region]:
    return [request[4] for request in engine.requests if request[0] == "Predict"]


def look(controller: Controller, region: Region) -> None:
    slide = controller.layers.slide
    assert slide is not None
    look_at(controller.viewer, slide, region)


def wait(controller: Controller, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    controller.tick()


def end(controller: Controller, engine: FakeEngine, unsure: Region | None = None) -> None:
    """The job that runs ends; the given place of the task's grid is unsure."""
    region = asked(engine)[-1]
    done = region_done(region, (region.y + 50, region.x + 60, 12))
    if unsure is not None:
        mask = np.zeros(region.shape, bool)
        mask[unsure.shifted(-region.y, -region.x).slices] = True
        done = replace(done, unsure=mask)
    engine.jobs[-1].on_end("done", done)
    controller.tick()


def test_live_is_off_at_first(
    controller: Controller, clock: Clock, opened_engine: FakeEngine
) -> None:
    look(controller, NEAR)
    clock.rest(controller)
    assert asked(opened_engine) == []


def test_a_view_is_predicted_once_it_rests(
    controller: Controller, clock: Clock, opened_engine: FakeEngine
) -> None:
    controller.live.switch(True)
    wait(controller, clock, 0)
    assert len(asked(opened_engine)) == 1, "what is on screen when it is switched on"
    for step in range(5):
        look(controller, NEAR.shifted(10 * step, 0))
        wait(controller, clock, 0.9 * REST_S)
    assert len(asked(opened_engine)) == 1, "nothing while the view moves"
    wait(controller, clock, 0.2 * REST_S)
    assert asked(opened_engine)[1] == controller.visible()
    assert opened_engine.jobs[0].state == "cancelled", "the newest view wins"
    end(controller, opened_engine)
    clock.rest(controller)
    assert len(asked(opened_engine)) == 2, "a view that rests is asked for once"
    look(controller, NEXT)
    wait(controller, clock, REST_S)
    assert len(asked(opened_engine)) == 3
    controller.live.switch(False)
    look(controller, NEAR)
    clock.rest(controller)
    assert len(asked(opened_engine)) == 3


def test_live_waits_while_a_tool_is_in_hand(
    controller: Controller, clock: Clock, opened_engine: FakeEngine
) -> None:
    look(controller, NEAR)
    controller.pick_tool("brush")
    controller.live.switch(True)
    clock.rest(controller)
    assert asked(opened_engine) == []
    assert controller.tool == "brush"
    controller.leave()
    clock.rest(controller)
    assert len(asked(opened_engine)) == 1


def test_another_model_is_asked_about_the_same_view(
    controller: Controller, clock: Clock, opened_engine: FakeEngine
) -> None:
    look(controller, NEAR)
    controller.live.switch(True)
    clock.rest(controller)
    controller.session.events.model_changed.emit()
    clock.rest(controller)
    assert len(asked(opened_engine)) == 1, "the same model has answered"


def test_what_is_unsure_is_hatched_until_somebody_looked(
    controller: Controller, model: ViewerModel, clock: Clock, opened_engine: FakeEngine
) -> None:
    look(controller, NEAR)
    controller.predict()
    place = Region(120, 220, 40, 40)
    end(controller, opened_engine, unsure=place)
    clock.rest(controller)
    layer = hatching(controller)
    assert layer is not None
    assert layer in model.layers
    region = asked(opened_engine)[-1]
    inside = place.shifted(-region.y, -region.x).slices
    assert 0.1 < layer.data[inside].mean() < 0.25
    assert layer.data.sum() == layer.data[inside].sum()
    controller.session.correcting.accept(Region(120, 220, 40, 20), 1.0)
    clock.rest(controller)
    assert not hatching(controller).data[:, : 240 - region.x].any()
    assert hatching(controller).data.any()
    controller.live.set_hatching(False)
    assert hatching(controller) is None
    assert layer in model.layers, "adding and removing layers stops the window"
    assert not layer.visible
    controller.live.set_hatching(True)
    assert hatching(controller) is layer
    assert layer.visible
    controller.session.close_slide()
    assert hatching(controller) is None
    assert layer not in model.layers
    assert controller.session.predicting.unsure() is None


def test_hatching_stays_in_place_when_the_rectangle_moves() -> None:
    whole = hatched(np.ones((60, 60), bool), 100, 200)
    part = hatched(np.ones((30, 20), bool), 107, 211)
    np.testing.assert_array_equal(part, whole[7:37, 11:31])
