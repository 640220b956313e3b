"""napari's sample data: the slides that ship with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari.types import LayerData


def cmu_small_region() -> list[LayerData]:
    """Open an H&E slide of 2220 x 2967 pixels (CC0)."""
    from napari_genselfdiff._reader import slide_layer

    return [slide_layer(_copied("cmu_small_region"))]


def tnbc_pyramid() -> list[LayerData]:
    """Open ten breast-cancer fields as one slide, with their true nuclei hidden behind (CC BY)."""
    import numpy as np
    from PIL import Image

    from napari_genselfdiff._reader import slide_layer
    from napari_genselfdiff.samples import sample_path

    slide = slide_layer(_copied("tnbc_pyramid"))
    with Image.open(sample_path("tnbc_pyramid_masks")) as file:
        nuclei = np.asarray(file).astype(np.uint16)
    shown = {key: slide[1][key] for key in ("scale", "units")}
    return [(nuclei, {"name": "True nuclei", "visible": False, **shown}, "labels"), slide]


def synthetic_slide() -> list[LayerData]:
    """Open a slide of 49,152 x 49,152 pixels, written on the spot the first time (CC0)."""
    from napari_genselfdiff._reader import slide_layer
    from napari_genselfdiff.registry.home import data_home
    from napari_genselfdiff.samples.synthetic import make_synthetic_slide

    return [slide_layer(make_synthetic_slide(data_home() / "samples"))]


def _copied(name: str) -> Path:
    """Annotations lie beside a slide; the package's own folder is no place for them."""
    from napari_genselfdiff.registry.home import data_home
    from napari_genselfdiff.samples import copy_sample

    return copy_sample(name, data_home() / "samples")
