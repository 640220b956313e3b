"""napari's reader hook: a slide as one lazy, multiscale image in micrometres."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.types import LayerData, PathOrPaths

_SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".qptiff", ".dcm")
_PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
SUFFIXES = (*_SLIDES, *_PICTURES, ".zarr")
_OURS = ".gsd.zarr"  # annotations; they belong to a slide


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """Answer whether these files look like slides, by their names only."""
    paths = _listed(path)
    if not paths or any(p.suffix.lower() not in SUFFIXES or p.name.endswith(_OURS) for p in paths):
        return None
    return read_slides


def read_slides(path: PathOrPaths) -> list[LayerData]:
    """Open slides as image layers; no level is loaded, only what is looked at.

    Raises
    ------
    SlideError
        In one line, if a file is not a slide or is damaged.
    """
    return [slide_layer(p) for p in _listed(path)]


def slide_layer(path: Path) -> LayerData:
    """Give one slide as napari takes it: levels, where and how to show them, the kind of layer."""
    from napari_genselfdiff.slides.slide import open_slide

    slide = open_slide(path)
    levels = list(slide.levels)
    known = slide.mpp is not None
    shown: dict[str, Any] = {
        "name": path.name,
        "rgb": True,
        "multiscale": len(levels) > 1,
        "scale": (slide.mpp, slide.mpp) if known else (1.0, 1.0),
        "units": ("micrometer", "micrometer") if known else ("pixel", "pixel"),
        "interpolation2d": "linear",
        # The dock recognises its slides by this entry.
        "metadata": {"genselfdiff": {"path": str(path)}},
    }
    return levels if len(levels) > 1 else levels[0], shown, "image"


def _listed(path: PathOrPaths) -> list[Path]:
    if isinstance(path, str | Path):
        return [Path(path)]
    return [Path(p) for p in path]
