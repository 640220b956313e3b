"""Lines and marks over everything else on the canvas, as wide on screen at any zoom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.components import ViewerModel

    Color = str | tuple[float, float, float, float]


def scene_of(viewer: ViewerModel) -> Any:
    """What visuals are children of; None without a window, where nothing can be drawn."""
    window = getattr(viewer, "window", None)
    return None if window is None else window._qt_viewer.canvas.view.scene


def rimmed_line(scene: Any, *looks: tuple[Color, float]) -> list[Any]:
    """Lines that lie upon each other, each with its colour and width: the rim, then the line."""
    from vispy.scene.visuals import Line  # type: ignore[import-untyped]

    return [
        Line(parent=scene, color=color, width=width, method="gl", antialias=True)
        for color, width in looks
    ]


def put_above(visuals: Sequence[Any], order: int) -> None:
    """Draw these after what has a smaller order, hidden for now."""
    for number, visual in enumerate(visuals):
        visual.order = order + number
        visual.set_gl_state("translucent", depth_test=False)
        visual.visible = False


def hide(visuals: Iterable[Any]) -> None:
    """Show none of them."""
    for visual in visuals:
        visual.visible = False


def take_out(visuals: Iterable[Any]) -> None:
    """Take them out of the window."""
    for visual in visuals:
        visual.parent = None
