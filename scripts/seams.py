"""Draw docs/images/seams.png: one place cut hard at the tiles' borders, and as it is done.

The yellow ticks at the edges of each picture show where tiles meet.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from napari_genselfdiff.evaluation.pictures import outline
from napari_genselfdiff.prediction import answers
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import segment_region
from napari_genselfdiff.prediction.tiles import core_size
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide

if TYPE_CHECKING:
    from napari_genselfdiff.registry.folder import Model

OUT = Path(__file__).parents[1] / "docs" / "images" / "seams.png"
VIEW = Region(1360, 850, 360, 360)
ZOOM = 2


def main() -> None:
    model = Registry().resolve("default")
    with open_slide(sample_path("cmu_small_region")) as slide:
        blend, answers.BLEND = answers.BLEND, 0
        cut = drawn(slide, model)
        answers.BLEND = blend
        faded = drawn(slide, model)
    whole = Image.new("RGB", (2 * cut.width + 8, cut.height), "white")
    whole.paste(cut, (0, 0))
    whole.paste(faded, (cut.width + 8, 0))
    whole.save(OUT)


def drawn(slide: Slide, model: Model) -> Image.Image:
    """The place with its outlines and the borders of tiles."""
    done = segment_region(slide, model, VIEW, Profile())
    if done.objects is None:
        raise SystemExit("the model finds no objects")
    pixels = slide.read(VIEW).repeat(ZOOM, 0).repeat(ZOOM, 1)
    objects = done.objects.repeat(ZOOM, 0).repeat(ZOOM, 1)
    picture = Image.fromarray(outline(pixels, np.zeros_like(objects), objects))
    pen, size = ImageDraw.Draw(picture), core_size(model.card.tile, model.card.halo)
    for start, along_y in ((VIEW.y, True), (VIEW.x, False)):
        for border in range(-start % size, VIEW.height, size):
            at, far = border * ZOOM, picture.width
            for low, high in ((0, 14), (far - 14, far)):
                ends = ((low, at), (high, at)) if along_y else ((at, low), (at, high))
                pen.line(ends, fill="#F0E442", width=4)
    return picture


if __name__ == "__main__":
    main()
