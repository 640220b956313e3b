"""Verbs, tools and what the viewer shows, without a window."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.session.editing import NOTHING
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.controller import Controller
from napari_genselfdiff.widgets.keys import Keys, bindings
from napari_genselfdiff.widgets.outlines import UNSEEN
from napari_genselfdiff.widgets.view import look_at
from tests.session.parts import FakeEngine, predict, region_done, tile_done
from tests.widgets.conftest import Clock

Opened = tuple[Session, FakeEngine]
WHOLE = Region(0, 0, 600, 800)
NEAR = Region(100, 200, 150, 200)


def names(viewer: ViewerModel) -> list[str]:
    return [layer.name for layer in viewer.layers]


def stroke(controller: Controller, points: list[tuple[int, int]], *modifiers: str) -> None:
    """A drag with the left button over pixels of the task's grid."""
    layer = controller.layers.edit
    viewer = controller.viewer
    assert layer is not None
    event: Any = SimpleNamespace(
        type="mouse_press",
        button=1,
        modifiers=modifiers,
        position=world(controller, points[0]),
        view_direction=None,
        dims_displayed=[0, 1],
        handled=False,
        pos=np.zeros(2),
    )
    running = [callback(viewer, event) for callback in viewer.mouse_drag_callbacks]
    running = [generator for generator in running if generator is not None]
    for generator in running:
        next(generator, None)
    for kind, point in [("mouse_move", p) for p in points[1:]] + [("mouse_release", points[-1])]:
        event.type, event.position = kind, world(controller, point)
        for generator in running:
            next(generator, None)
    controller.tick()


def world(controller: Controller, point: tuple[int, int]) -> tuple[float, ...]:
    assert controller.layers.slide is not None
    return tuple(controller.layers.slide.data_to_world(point))


def read(controller: Controller, region: Region = WHOLE) -> Any:
    store = controller.session.store
    assert store is not None
    return store.read("Nuclei", region)


def test_open_slide_is_shown_in_micrometres(controller: Controller, model: ViewerModel) -> None:
    assert names(model) == ["case.tif", "Nuclei: checked by you", "Nuclei"]
    slide = controller.layers.slide
    assert slide is not None
    assert tuple(slide.scale) == pytest.approx((0.25, 0.25))
    assert model.canvas.overlays.scale_bar.visible
    assert controller.visible() == WHOLE


def test_layers_of_the_grid_lie_on_the_slide(controller: Controller) -> None:
    slide, shown = controller.layers.slide, controller.layers.shown
    assert slide is not None
    assert shown is not None
    # Outer corners: half a pixel before the first and after the last one.
    for layer in (slide, shown):
        height, width = layer.level_shapes[0][:2]
        low = layer.data_to_world((-0.5, -0.5))
        high = layer.data_to_world((height - 0.5, width - 0.5))
        assert tuple(low) == pytest.approx((-0.125, -0.125))
        assert tuple(high) == pytest.approx((149.875, 199.875))


def test_brush_draws_a_new_object_and_saves_it(controller: Controller) -> None:
    controller.pick_tool("brush")
    controller.set_brush(9)
    stroke(controller, [(200, 300), (200, 320)])
    now = read(controller)
    assert now.classes[200, 310] == 1
    assert now.provenance[200, 310] == HUMAN
    assert len(np.unique(now.ids)) == 2
    stroke(controller, [(200, 310), (215, 310)])  # begins inside: the same object grows
    now = read(controller)
    assert now.ids[214, 310] == now.ids[200, 300]
    stroke(controller, [(300, 300), (300, 305)])  # begins beside: another object
    assert len(np.unique(read(controller).ids)) == 3


def test_a_new_object_never_eats_its_neighbour(
    controller: Controller, opened_engine: FakeEngine
) -> None:
    predict(controller.session, opened_engine, WHOLE, (200, 300, 15))
    controller.tick()
    before = read(controller).ids == read(controller).ids[200, 300]
    controller.pick_tool("brush")
    stroke(controller, [(200, 330), (200, 290)])
    now = read(controller)
    np.testing.assert_array_equal(now.ids == now.ids[200, 300], before)
    assert now.ids[200, 325] not in (0, now.ids[200, 300])


def test_alt_and_eraser_say_there_is_nothing(
    controller: Controller, opened_engine: FakeEngine
) -> None:
    predict(controller.session, opened_engine, WHOLE, (200, 300, 15))
    controller.tick()
    controller.pick_tool("brush")
    stroke(controller, [(200, 300), (200, 310)], "Alt")
    assert read(controller).classes[200, 305] == 0
    assert read(controller).provenance[200, 305] == HUMAN
    controller.pick_tool("erase")
    stroke(controller, [(400, 400), (400, 405)])
    assert read(controller).provenance[400, 402] == HUMAN
    assert NOTHING not in np.asarray(controller.layers.edit and controller.layers.edit.data)


def test_undo_goes_stroke_by_stroke_and_shows_it(controller: Controller) -> None:
    controller.pick_tool("brush")
    stroke(controller, [(200, 300), (200, 320)])
    stroke(controller, [(300, 300), (300, 320)])
    controller.undo()
    controller.tick()
    layer = controller.layers.edit
    assert layer is not None
    assert layer.data[200, 310]
    assert not layer.data[300, 310]
    controller.redo()
    controller.tick()
    assert layer.data[300, 310]
    assert read(controller).classes[300, 310] == 1


def test_click_tools_delete_and_fill(controller: Controller, opened_engine: FakeEngine) -> None:
    predict(controller.session, opened_engine, WHOLE, (200, 300, 15), (400, 500, 10))
    controller.tick()
    controller.pick_tool("delete")
    stroke(controller, [(200, 300)])
    assert read(controller).ids[200, 300] == 0
    assert read(controller).ids[400, 500] > 0
    stroke(controller, [(100, 100)])
    assert "no object here" in controller.session.status.text
    controller.pick_tool("brush")
    controller.set_brush(3)
    stroke(controller, [(300, 100), (300, 140), (340, 140), (340, 100), (300, 100)])
    controller.pick_tool("fill")
    stroke(controller, [(320, 120)])
    assert read(controller).ids[320, 120] == read(controller).ids[300, 120] > 0


def test_delete_key_takes_the_object_under_the_pointer(
    controller: Controller, opened_engine: FakeEngine
) -> None:
    predict(controller.session, opened_engine, WHOLE, (200, 300, 15))
    controller.viewer.cursor.position = world(controller, (200, 300))
    controller.delete_here()
    assert read(controller).ids[200, 300] == 0
    assert controller.tool is None
    controller.delete_here()
    assert controller.tool == "delete"


def test_leaving_takes_the_edit_layer_away(controller: Controller, model: ViewerModel) -> None:
    controller.pick_tool("brush")
    assert "Nuclei: editing" in names(model)
    layer = controller.layers.edit
    controller.pick_tool("brush")
    assert controller.tool is None
    assert "Nuclei: editing" not in names(model)
    controller.pick_tool("brush")
    assert controller.layers.edit is not layer  # a new layer each time: napari's undo traps


def test_the_edit_window_follows_the_view(controller: Controller, clock: Clock) -> None:
    slide = controller.layers.slide
    assert slide is not None
    look_at(controller.viewer, slide, Region(0, 0, 60, 80))
    clock.rest(controller)
    controller.pick_tool("brush")
    first = controller.layers.edit
    look_at(controller.viewer, slide, Region(10, 10, 60, 80))
    clock.rest(controller)
    assert controller.layers.edit is first  # still inside the surroundings
    look_at(controller.viewer, slide, Region(500, 700, 60, 80))
    clock.rest(controller)
    assert controller.layers.edit is not first
    assert controller.tool == "brush"


def test_predict_leaves_the_tool_and_shows_tiles(
    controller: Controller, opened_engine: FakeEngine, model: ViewerModel
) -> None:
    controller.pick_tool("brush")
    controller.predict()
    assert controller.tool is None
    opened_engine.jobs[-1].on_partial(tile_done(Region(0, 0, 96, 96)))
    controller.tick()
    preview = controller.layers.preview
    assert preview is not None
    assert preview.visible
    assert preview.data[:96, 94:96].all(), "a line around what the tile holds"
    assert not preview.data[2:94, 2:94].any()
    assert not preview.data[96:].any()
    opened_engine.jobs[-1].on_partial(tile_done(Region(0, 96, 96, 96)))
    controller.tick()
    assert not preview.data[2:94, 90:100].any(), "no line where two tiles meet in an object"
    controller.session.predicting.cancel()
    assert not preview.visible
    controller.predict()
    opened_engine.jobs[-1].on_partial(tile_done(Region(200, 0, 96, 96)))
    controller.tick()
    again: Any = controller.layers.preview
    assert again is preview, "one layer for the life of the slide"
    assert again.data[294:296, :96].all()
    assert not again.data[:96].any(), "nothing is left of the one before"
    assert names(model).count("predicting") == 1


def test_tiles_stay_until_the_result_is_drawn(
    controller: Controller,
    opened_engine: FakeEngine,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller.predict()
    job = opened_engine.jobs[-1]
    job.on_partial(tile_done(Region(0, 0, 96, 96)))
    controller.tick()
    preview = controller.layers.preview
    drawn: list[bool] = []
    refresh = controller.layers.refresh_annotations

    def noting() -> None:
        drawn.append(controller.layers.preview is not None)
        refresh()

    monkeypatch.setattr(controller.layers, "refresh_annotations", noting)
    job.on_end("done", region_done(WHOLE, (48, 48, 20)))
    controller.tick()
    assert controller.layers.preview is preview or drawn
    clock.rest(controller)
    assert drawn[0], "the tiles were there when the result came in their place"
    assert controller.layers.preview is None


def test_accept_view_takes_what_is_visible(controller: Controller, clock: Clock) -> None:
    slide = controller.layers.slide
    assert slide is not None
    look_at(controller.viewer, slide, NEAR)
    visible = controller.visible()
    assert visible is not None
    controller.accept_view()
    known = read(controller).provenance == ACCEPTED
    assert known[visible.slices].all()
    assert known.sum() == visible.area
    clock.rest(controller)
    checked = controller.layers.checked
    assert checked is not None
    rim = np.asarray(checked.data[0])  # four times as fine as the grid
    dashes = rim[4 * visible.y, 4 * visible.x : 4 * visible.x1] == ACCEPTED
    assert 0.4 < dashes.mean() < 0.8


def test_classes_are_hidden_and_what_is_unknown_is_veiled(controller: Controller) -> None:
    layers = controller.layers
    assert layers.shown is not None
    assert layers.checked is not None
    color = controller.session.task.classes[0].color
    assert layers.shown.get_color(1) == pytest.approx([*to_rgb(color), 1])
    layers.hide_classes(frozenset({1}))
    assert layers.shown.get_color(1)[3] == 0
    controller.pick_tool("brush")
    assert layers.edit is not None
    assert layers.edit.get_color(1)[3] == 0
    controller.leave()
    layers.hide_classes(frozenset())
    assert layers.shown.get_color(1)[3] == 1
    assert layers.checked.get_color(UNSEEN)[3] == 0
    layers.veil_unknown(True)
    assert layers.checked.get_color(UNSEEN)[3] > 0.5
    assert layers.checked.get_color(HUMAN)[3] == 1
    layers.show_rims(False)
    assert layers.checked.get_color(HUMAN)[3] == 0


def test_a_change_of_classes_keeps_the_class_in_hand(controller: Controller) -> None:
    session = controller.session
    new = session.tasking.add_class("Lymphocyte", "#0072B2")
    assert [(spec.name, spec.key) for spec in session.task.classes] == [
        ("Nucleus", "1"),
        ("Lymphocyte", "2"),
    ]
    controller.pick_class(new.value)
    session.tasking.recolor_class(1, "#E69F00")
    session.tasking.rename_class(1, "Tumour nucleus")
    assert controller.class_value == new.value
    assert controller.layers.shown is not None
    assert controller.layers.shown.get_color(1) == pytest.approx([*to_rgb("#E69F00"), 1])
    session.tasking.merge_classes(new.value, 1)
    assert controller.class_value == 1
    for _ in range(4):
        controller.undo()
    assert session.task == NUCLEI
    with pytest.raises(ConfigError, match="already"):
        session.tasking.add_class(" nucleus ", "#0072B2")
    with pytest.raises(ConfigError, match="1 to 9"):
        session.tasking.rekey_class(1, "x")


def to_rgb(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_hold_hides_and_gives_back_what_was_visible(controller: Controller) -> None:
    layers = controller.layers
    assert layers.checked is not None
    assert layers.shown is not None
    layers.checked.visible = False
    controller.hold_overlay(True)
    assert not layers.shown.visible
    controller.hold_overlay(False)
    assert layers.shown.visible
    assert not layers.checked.visible


def test_zoom_in_goes_to_reading_distance(controller: Controller) -> None:
    controller.viewer.scene.camera.zoom = 0.1
    controller.zoom_in()
    assert controller.pixel_on_screen() == pytest.approx(1.0)


def test_classes_are_picked_by_their_keys(controller: Controller) -> None:
    controller.session.choose_task("Regions")
    assert controller.class_value == 1
    controller.pick_class_by_key("2")
    assert controller.class_value == 2
    controller.pick_class_by_key("7")
    assert controller.class_value == 2


def test_areas_are_painted_over_each_other(controller: Controller) -> None:
    controller.session.choose_task("Regions")
    controller.pick_tool("brush")
    controller.set_brush(5)
    stroke(controller, [(200, 300), (200, 340)])
    controller.pick_class(2)
    stroke(controller, [(180, 320), (220, 320)])
    store = controller.session.store
    assert store is not None
    now = store.read("Regions", Region(0, 0, *store.shape("Regions")))
    assert now.classes[50, 80] == 2
    assert now.classes[50, 76] == 1


def test_a_slide_opened_by_napari_is_taken_over(
    model: ViewerModel, closed: Opened, slide_path: Path
) -> None:
    from napari_genselfdiff._reader import slide_layer

    controller = Controller(model, closed[0])
    levels, shown, _ = slide_layer(slide_path)
    layer = model.add_image(levels, **shown)
    adopted = controller.session.slide
    assert adopted is not None
    assert controller.layers.slide is layer
    assert names(model)[0] == "case.tif"
    model.layers.remove(layer)
    assert controller.session.slide is None
    controller.cleanup()
    assert names(model) == []


def test_removing_the_edit_layer_by_hand_saves_it(controller: Controller) -> None:
    controller.pick_tool("brush")
    layer = controller.layers.edit
    assert layer is not None
    layer.data[100:110, 100:110] = controller._window.new_value(1)  # type: ignore[union-attr]
    controller.viewer.layers.remove(layer)
    assert controller.tool is None
    assert read(controller).classes[105, 105] == 1


def test_what_cannot_be_saved_stays_on_screen(
    controller: Controller, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = controller.layers.slide
    assert slide is not None
    look_at(controller.viewer, slide, Region(180, 280, 60, 80))
    clock.rest(controller)
    controller.pick_tool("brush")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("napari_genselfdiff.annotation.disk.os.replace", full)
    stroke(controller, [(200, 300), (200, 320)])
    assert controller.session.status.tone == "error"
    layer, window = controller.layers.edit, controller.edit_window
    assert layer is not None
    assert window is not None
    assert layer.data[200 - window.region.y, 310 - window.region.x]
    assert read(controller).classes[200, 310] == 0
    controller.leave()
    assert controller.layers.edit is layer  # not thrown away
    look_at(controller.viewer, slide, Region(500, 700, 60, 80))
    clock.rest(controller)
    assert controller.layers.edit is layer
    monkeypatch.undo()
    controller.save()
    assert read(controller).classes[200, 310] == 1


def test_keys_are_given_back(controller: Controller, model: ViewerModel) -> None:
    def theirs(_: Any) -> None:
        """Somebody else's binding."""

    model.bind_key("P", theirs)
    keys = Keys(model, controller)
    assert theirs not in model.keymap.values()
    assert len(bindings(controller)) >= 18
    controller.pick_tool("brush")
    layer = controller.layers.edit
    assert layer is not None
    assert len(layer.keymap) == len(bindings(controller))
    keys.cleanup()
    assert list(model.keymap.values()) == [theirs]


@pytest.fixture
def opened_engine(closed: Opened) -> FakeEngine:
    return closed[1]
