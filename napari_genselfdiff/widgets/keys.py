"""Keys of the panel, bound while it is open; napari ignores keys of a plugin's manifest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.widgets.commands import CLOSE_OUTLINE, LAST_CORNER, LEAVE, TOOLS
from napari_genselfdiff.widgets.key_preferences import CLASS_KEYS, normal_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    from napari_genselfdiff.widgets.controller import Controller


class Keys:
    """Binds keys on the viewer and on our layers; gives back what was there.

    A layer's own keys come before the viewer's (of a labels layer: P, B, E, F, L, 1-7, Ctrl+Z), so
    every layer of ours gets the same bindings.

    Parameters
    ----------
    viewer
        Where the keys hold.
    controller
        What they do, and which they are; keys chosen anew hold at once.
    """

    def __init__(self, viewer: ViewerModel, controller: Controller) -> None:
        self._viewer, self._controller = viewer, controller
        self._bindings: dict[str, Callable[..., Any]] = {}
        self._before: dict[str, Any] = {}
        self._bind_all()
        self._controller.keys.changed.connect(self._rebind)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.selection.events.active.connect(self._on_active)

    def cleanup(self) -> None:
        """Unbind, and bind again what was bound before."""
        self._controller.keys.changed.disconnect(self._rebind)
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self._unbind_all()

    def _rebind(self) -> None:
        self._unbind_all()
        self._bind_all()

    def _bind_all(self) -> None:
        self._bindings = bindings(self._controller)
        for key, action in self._bindings.items():
            self._before[key] = self._viewer.bind_key(key, action, overwrite=True)
        for layer in self._viewer.layers:
            self._bind(layer)

    def _unbind_all(self) -> None:
        for key, before in self._before.items():
            self._viewer.bind_key(key, before, overwrite=True)
        for layer in self._viewer.layers:
            if self._controller.layers.is_ours(layer):
                for key in self._bindings:
                    layer.bind_key(key, None, overwrite=True)
        self._before, self._bindings = {}, {}

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

    named: dict[str, Callable[..., Any]] = {
        "predict": plain(controller.predict),
        "accept_view": plain(controller.accept_view),
        "undo": plain(controller.undo),
        "redo": plain(controller.redo),
        "hide": hold,
        **{tool: plain(partial(controller.pick_tool, tool)) for tool in TOOLS},
        "delete": plain(controller.delete_here),
    }
    keys = controller.keys
    found = {keys.key(name): action for name, action in named.items() if keys.key(name)}
    found[normal_key(LEAVE.key)] = plain(controller.escape)
    found[CLOSE_OUTLINE] = plain(controller.gestures.close)
    found[LAST_CORNER] = plain(controller.gestures.take_back)
    for key in CLASS_KEYS:
        found[key] = plain(partial(controller.pick_class_by_key, key))
    return found
