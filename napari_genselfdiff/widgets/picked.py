"""The one object that is picked: shown on the slide, and chosen there by a click without a tool."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_genselfdiff.annotation.exchange.outlines import outlines
from napari_genselfdiff.errors import GenSelfDiffError
from napari_genselfdiff.session.objects import holding
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.sketch import Sketch
from napari_genselfdiff.widgets.view import centre_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

_FAR = 2.0
"""One screen pixel may cover this many of the task's; from further away flying comes near."""


class Picked:
    """Picks an object and goes to it.

    Parameters
    ----------
    session, controller
        Whose objects, and where they are seen.
    """

    changed = Signal(int)

    def __init__(self, session: Session, controller: Controller) -> None:
        self._session, self._controller = session, controller
        self._sketch = Sketch(controller.viewer)
        self._callbacks = controller.viewer.mouse_drag_callbacks
        self._callbacks.append(self._on_press)
        events = session.events
        self._signals = events.annotations_changed, events.task_changed, events.slide_changed
        for signal in self._signals:
            signal.connect(self.clear)

    def cleanup(self) -> None:
        """Let go of the mouse and the session."""
        for signal in self._signals:
            signal.disconnect(self.clear)
        if self._on_press in self._callbacks:
            self._callbacks.remove(self._on_press)
        self._sketch.remove()

    def clear(self, _region: object = None) -> None:
        """Show none."""
        self._sketch.clear()

    def fly_to(self, y0: float, x0: float, object_id: int) -> None:
        """Bring a level-0 place to the centre, near enough to judge it, and show its object."""
        session, layer = self._session, self._controller.layers.slide
        slide, store = session.slide, session.store
        if layer is None or slide is None or store is None or slide.mpp is None:
            return
        near = session.task.mpp / slide.mpp
        if self._controller.pixel_on_screen() > _FAR * near:
            self._controller.zoom_in()
        centre_on(self._controller.viewer, layer, y0, x0)
        self._show(int(y0 / self._downsample), int(x0 / self._downsample), object_id)

    def _show(self, y: int, x: int, object_id: int) -> None:
        """Draw the outline of an object near a pixel of the task's grid."""
        self._sketch.clear()
        store, task = self._session.store, self._session.task
        spot = Region(y, x, 1, 1)
        if store is None or not object_id or spot.clipped(store.shape(task.name)) is None:
            return
        if not store.object_rows(task.name, np.array([object_id], np.uint32))[0, 1]:
            return  # it is gone since
        with suppress(GenSelfDiffError):
            window = holding(store, task, spot, [object_id])
            at = window.region
            rings = outlines((window.ids == object_id).astype(np.uint8), at.y, at.x)
            ring = max(rings, key=lambda ring: ring.area).points.tolist()
            world = [self._controller.world_point((py - 0.5, px - 0.5)) for px, py in ring]
            self._sketch.show([*world, *world[:1]])

    @property
    def _downsample(self) -> int:
        store = self._session.store
        return 1 if store is None else store.downsample(self._session.task.name)

    def _on_press(self, _viewer: Any, event: Any) -> Iterator[None]:
        if self._controller.tool is not None or event.button != 1 or event.modifiers:
            return
        active = self._controller.viewer.layers.selection.active
        if active is not None and not self._controller.layers.owns(active):
            return  # somebody works on a layer of their own
        point = self._controller.grid_point(event.position)
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved and point is not None and self._controller.tool is None:
            self.pick(round(point[0]), round(point[1]))

    def pick(self, y: int, x: int) -> None:
        """Pick the object at a pixel of the task's grid, or none."""
        store, task = self._session.store, self._session.task
        spot = Region(y, x, 1, 1)
        if store is None or task.kind != "objects" or task.name not in store.tasks:
            return
        inside, object_id = spot.clipped(store.shape(task.name)), 0
        with self._session.attempt():
            if inside is not None:
                object_id = int(store.read(task.name, inside).ids[0, 0])
        self._show(y, x, object_id)
        self.changed.emit(object_id)
