"""Keys of the panel, bound while it is open; napari ignores keys of a plugin's manifest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.widgets.commands import (
    ACCEPT,
    HIDE,
    LEAVE,
    PREDICT,
    REDO,
    TOOLS,
    UNDO,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    from napari_genselfdiff.widgets.controller import Controller

CLASS_KEYS = tuple("123456789")


class Keys:
    """Binds keys on the viewer and on our layers; gives back what was there.

    A layer's own keys come before the viewer's (of a labels layer: P, B, E, F, L, 1-7, Ctrl+Z), so
    every layer of ours gets the same bindings.
    """

    def __init__(self, viewer: ViewerModel, controller: Controller) -> None:
        self._viewer, self._controller = viewer, controller
        self._bindings = bindings(controller)
        self._before: dict[str, Any] = {}
        for key, action in self._bindings.items():
            self._before[key] = viewer.bind_key(key, action, overwrite=True)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.selection.events.active.connect(self._on_active)

    def cleanup(self) -> None:
        """Unbind, and bind again what was bound before."""
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        for key, before in self._before.items():
            self._viewer.bind_key(key, before, overwrite=True)
        self._bindings = {}

    def _on_inserted(self, event: Any) -> None:
        self._bind(event.value)

    def _on_active(self, event: Any) -> None:
        self._bind(event.value)

    def _bind(self, layer: Any) -> None:
        if layer is not None and self._controller.layers.is_ours(layer):
            for key, action in self._bindings.items():
                layer.bind_key(key, action, overwrite=True)


def bindings(controller: Controller) -> dict[str, Callable[..., Any]]:
    """Functions by key, as napari calls them: with the viewer or layer the key went to."""

    def plain(run: Callable[[], object]) -> Callable[[Any], None]:
        def pressed(_target: Any) -> None:
            run()

        return pressed

    def hold(_target: Any) -> Iterator[None]:
        controller.hold_overlay(True)
        yield
        controller.hold_overlay(False)

    found: dict[str, Callable[..., Any]] = {
        PREDICT.key: plain(controller.predict),
        ACCEPT.key: plain(controller.accept_view),
        UNDO.key: plain(controller.undo),
        REDO.key: plain(controller.redo),
        LEAVE.key: plain(controller.leave),
        HIDE.key: hold,
    }
    for tool, command in TOOLS.items():
        found[command.key] = plain(partial(controller.pick_tool, tool))
    found[TOOLS["delete"].key] = plain(controller.delete_here)
    for key in CLASS_KEYS:
        found[key] = plain(partial(controller.pick_class_by_key, key))
    return found
