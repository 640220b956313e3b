"""``genselfdiff demo``: a window to try, or the whole journey with a picture of each step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from napari import Viewer

    from napari_genselfdiff.widgets.panel import AnnotateSlide

WINDOW: Final = (1560, 960)


def run(out: str | Path, *, headless: bool) -> None:
    """Show the program.

    Parameters
    ----------
    out
        Folder for pictures, annotations and ``report.json`` of the headless journey.
    headless
        False opens a window on a sample slide and ends when it is closed.

    Raises
    ------
    GenSelfDiffError
        If a step does not do what it should.
    """
    if headless:
        from napari_genselfdiff.widgets.journey import Journey

        Journey(Path(out).absolute(), open_window).run()
    else:
        _show_window()


def open_window() -> tuple[Viewer, AnnotateSlide]:
    """Make a napari window with the panel docked."""
    import napari

    from napari_genselfdiff.widgets.panel import AnnotateSlide

    viewer = napari.Viewer(title="napari-genselfdiff", show=True)
    viewer.window.resize(*WINDOW)
    panel = AnnotateSlide(viewer)
    viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
    return viewer, panel


def _show_window() -> None:
    import napari

    _, panel = open_window()
    panel.slide.open_sample("tnbc_pyramid")
    napari.run()
    panel.cleanup()
