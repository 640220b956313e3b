"""Tools by mouse and key without a window: every gesture, and every way to leave one half done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_genselfdiff.annotation.window import HUMAN, UNKNOWN
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.controller import Controller
from napari_genselfdiff.widgets.tool_kinds import HANDLING
from napari_genselfdiff.widgets.view import look_at
from tests.session.parts import FakeEngine, predict
from tests.widgets.conftest import Clock
from tests.widgets.mouse import Mouse

Opened = tuple[Session, FakeEngine]
WHOLE = Region(0, 0, 600, 800)
SQUARE = [(100.0, 100.0), (100.0, 150.0), (150.0, 150.0), (150.0, 100.0)]


@pytest.fixture
def mouse(controller: Controller) -> Mouse:
    return Mouse(controller)


@pytest.fixture
def found(controller: Controller, closed: Opened) -> Controller:
    """Three predicted nuclei."""
    predict(controller.session, closed[1], WHOLE, (200, 300, 15), (200, 335, 15), (400, 500, 10))
    controller.tick()
    return controller


def read(controller: Controller, task: str = "Nuclei") -> Any:
    store = controller.session.store
    assert store is not None
    return store.read(task, Region(0, 0, *store.shape(task)))


def history(controller: Controller) -> list[str]:
    store = controller.session.store
    assert store is not None
    return [step.what for step in store.history]


def corners(mouse: Mouse, points: list[tuple[float, float]]) -> None:
    for point in points:
        mouse.drag(point)


def test_a_polygon_is_closed_by_a_double_click(controller: Controller, mouse: Mouse) -> None:
    controller.pick_tool("polygon")
    corners(mouse, SQUARE[:3])
    assert not read(controller).ids.any()
    mouse.double_click(SQUARE[3])
    assert read(controller).ids[125, 125]
    assert (read(controller).ids > 0).sum() == pytest.approx(50 * 50, rel=0.05)
    assert history(controller) == ["Polygon"]


def test_enter_closes_backspace_and_undo_take_back_escape_forgets(
    controller: Controller, mouse: Mouse
) -> None:
    controller.pick_tool("polygon")
    corners(mouse, [*SQUARE, (500.0, 500.0), (550.0, 20.0)])
    assert controller.gestures.take_back()
    controller.undo()  # the last corner, not the last change
    controller.gestures.close()
    assert (read(controller).ids > 0).sum() == pytest.approx(50 * 50, rel=0.05)
    assert not controller.gestures.take_back()
    corners(mouse, [(300.0, 300.0), (300.0, 350.0)])
    controller.gestures.close()  # too few corners: it goes on
    assert controller.gestures.has_line
    after_escapes = []
    for _ in range(2):
        controller.escape()
        after_escapes.append((controller.gestures.has_line, controller.tool))
    assert after_escapes == [(False, "polygon"), (False, None)]
    assert history(controller) == ["Polygon"]


def test_every_corner_can_be_taken_back(controller: Controller, mouse: Mouse) -> None:
    controller.pick_tool("polygon")
    corners(mouse, SQUARE[:2])
    assert controller.gestures.take_back()
    assert controller.gestures.take_back()
    assert not controller.gestures.has_line
    assert not controller.gestures.take_back()


def test_an_outline_may_leave_the_view_it_began_in(
    controller: Controller, mouse: Mouse, clock: Clock
) -> None:
    slide = controller.layers.slide
    assert slide is not None
    look_at(controller.viewer, slide, Region(90, 90, 30, 40))
    clock.rest(controller)
    controller.pick_tool("polygon")
    first = controller.edit_window
    corners(mouse, SQUARE[:1])
    look_at(controller.viewer, slide, Region(400, 600, 30, 40))
    clock.rest(controller)
    assert controller.edit_window is not first
    corners(mouse, [(410.0, 610.0), (410.0, 100.0)])
    controller.gestures.close()
    assert read(controller).ids[300, 250]


def test_a_lasso_draws_and_with_alt_erases(controller: Controller) -> None:
    controller.pick_tool("lasso")
    Mouse(controller).drag(*SQUARE)
    assert read(controller).classes[125, 125] == 1
    Mouse(controller, "Alt").drag((110, 110), (110, 130), (130, 130), (130, 110))
    assert not read(controller).ids[120, 120]
    assert read(controller).provenance[120, 120] == HUMAN
    assert read(controller).ids[140, 140]
    Mouse(controller, "Shift").drag((140, 140), (140, 190), (145, 190), (145, 140))
    assert read(controller).ids[142, 180] == read(controller).ids[140, 140]
    assert controller.layers.edit is not None
    assert controller.layers.edit.data[142, 180]  # shown where one draws


def test_object_tools_by_mouse(found: Controller, mouse: Mouse) -> None:
    found.pick_tool("split")
    mouse.drag((180, 300), (220, 300))
    assert len(np.unique(read(found).ids)) == 5
    assert "Split 1 nucleus into 2" in found.session.status.text
    found.pick_tool("merge")
    mouse.drag((200, 295), (200, 306))
    assert len(np.unique(read(found).ids)) == 4
    mouse.drag((200, 300), (200, 335))  # five pixels apart
    assert read(found).ids[200, 318] == read(found).ids[200, 335] > 0
    found.pick_tool("smooth")
    mouse.drag((400, 500))
    found.pick_tool("cut")
    mouse.drag((380, 480), (380, 520), (420, 520), (420, 480))
    assert not read(found).ids[400, 500]
    assert history(found)[-1] == "Lasso delete"


def test_what_cannot_be_done_is_said_and_changes_nothing(found: Controller, mouse: Mouse) -> None:
    steps = len(history(found))
    found.pick_tool("split")
    mouse.drag((200, 300), (200, 302))
    assert "does not cut through" in found.session.status.text
    found.pick_tool("class")
    mouse.drag((20, 20))
    assert "no object here" in found.session.status.text
    assert len(history(found)) == steps


def test_two_quick_clicks_are_two_clicks(found: Controller, mouse: Mouse) -> None:
    found.pick_tool("delete")
    mouse.drag((200, 300))
    mouse.double_click((200, 335))
    assert len(np.unique(read(found).ids)) == 2
    zoom = found.viewer.scene.camera.zoom
    mouse.double_click((400, 500))
    assert found.viewer.scene.camera.zoom == zoom


def test_unknown_is_painted_and_undone(found: Controller, mouse: Mouse) -> None:
    found.pick_tool("forget")
    mouse.drag((200, 280), (200, 320))
    assert (read(found).provenance[200, 282:318] == UNKNOWN).all()
    assert not read(found).ids[200, 282:318].any()
    assert history(found)[-1] == "Clear to unknown"
    found.undo()
    assert read(found).ids[200, 300]


def test_protected_areas_are_not_painted_over(controller: Controller, mouse: Mouse) -> None:
    controller.session.choose_task("Regions")
    controller.pick_tool("brush")
    mouse.drag((200, 300), (200, 340))
    controller.pick_class(2)
    controller.set_protect(True)
    mouse.drag((180, 320), (220, 320))
    assert read(controller, "Regions").classes[50, 80] == 1
    controller.set_protect(False)
    mouse.drag((180, 320), (220, 320))
    assert read(controller, "Regions").classes[50, 80] == 2


def test_tools_for_objects_are_refused_for_areas(controller: Controller) -> None:
    controller.session.choose_task("Regions")
    for tool, handling in HANDLING.items():
        controller.pick_tool(None)
        controller.pick_tool(tool)
        assert (controller.tool is None) == handling.objects_only, tool
    assert "areas" in controller.session.status.text


def test_while_space_moves_the_slide_no_tool_acts(controller: Controller, mouse: Mouse) -> None:
    controller.pick_tool("brush")
    layer = controller.layers.edit
    assert layer is not None
    layer.mode = "pan_zoom"  # what napari does while Space is held
    mouse.drag((200, 300), (200, 320))
    assert not read(controller).ids.any()
    layer.mode = "pick"
    assert layer.cursor == "circle"
    mouse.drag((200, 300), (200, 320))
    assert read(controller).ids[200, 310]


def test_each_stroke_is_a_step_however_quick(controller: Controller) -> None:
    controller.pick_tool("brush")
    for row in (100, 200, 300):  # no turn of the event loop between them
        mouse = Mouse(controller)
        mouse.press((row, 300))
        mouse.move((row, 320))
        mouse.release((row, 320))
    controller.tick()
    assert history(controller) == ["Brush"] * 3
    assert len(np.unique(read(controller).ids)) == 4


Leaving = Callable[[Controller, ViewerModel, Path], object]
WAYS: dict[str, Leaving] = {
    "leave": lambda c, _v, _p: c.leave(),
    "another tool": lambda c, _v, _p: c.pick_tool("fill"),
    "predict": lambda c, _v, _p: c.predict(),
    "accept": lambda c, _v, _p: c.accept_view(),
    "refine": lambda c, _v, _p: c.refine(),
    "redo": lambda c, _v, _p: c.redo(),
    "another task": lambda c, _v, _p: c.session.choose_task("Regions"),
    "delete key": lambda c, _v, _p: c.delete_here(),
    "close the slide": lambda c, _v, _p: c.session.close_slide(),
    "open another": lambda c, _v, p: c.open_slide(str(p)),
    "close the panel": lambda c, _v, _p: c.cleanup(),
    "remove the edit layer": lambda c, v, _p: v.layers.remove(c.layers.edit),
    "remove the slide's layer": lambda c, v, _p: v.layers.remove(c.layers.slide),
}


@pytest.mark.parametrize(
    ("tool", "way"),
    [
        *(("polygon", way) for way in WAYS),
        *(("brush", way) for way in WAYS if way not in ("accept", "refine", "redo")),
        *(("lasso", way) for way in ("predict", "another task", "close the panel")),
    ],
)
def test_whatever_one_leaves_half_drawn_is_saved(
    controller: Controller,
    mouse: Mouse,
    model: ViewerModel,
    slide_path: Path,
    tool: Any,
    way: str,
) -> None:
    controller.pick_tool(tool)
    if tool == "polygon":
        corners(mouse, SQUARE)
    else:
        mouse.press(SQUARE[0])
        for point in SQUARE[1:]:
            mouse.move(point)
    WAYS[way](controller, model, slide_path)
    if tool != "polygon":
        mouse.move((500.0, 500.0))  # the button is still held
        mouse.release((500.0, 500.0))
    controller.session.close_slide()
    controller.open_slide(str(slide_path))
    now = read(controller)
    inside = (125, 125) if tool != "brush" else (125, 150)
    assert now.ids[inside], way
    assert now.provenance[inside] == HUMAN
    assert not now.ids[490:510, 490:510].any()
