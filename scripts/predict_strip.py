"""Draw docs/images/predict-strip.jpg: tiles arriving, panning meanwhile, cancel, unsure places.

A real window with real workers on the shipped CMU sample (CC0). Needs a screen, or xvfb-run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image, ImageDraw

from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.samples import copy_sample
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.panel import AnnotateSlide
from napari_genselfdiff.widgets.view import look_at

OUT = Path(__file__).parents[1] / "docs" / "images" / "predict-strip.jpg"
VIEW = Region(900, 300, 1100, 1300)
CLOSE = Region(1560, 1000, 230, 260)
HEIGHT = 430


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENSELFDIFF_HOME"] = str(Path(folder) / "home")
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1200, 860)
        # One thread: slow enough to see tiles arrive.
        panel = AnnotateSlide(viewer, Session(profile=Profile(threads=1)))
        viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
        shots = walk(Hand(viewer, panel), copy_sample("cmu_small_region", Path(folder)))
        panel.cleanup()
        viewer.close()
    strip(shots).save(OUT, quality=85)


def walk(hand: Hand, slide: Path) -> list[tuple[str, Any]]:
    """Do what the captions say, and take pictures."""
    panel, session = hand.panel, hand.panel.session
    shots: list[tuple[str, Any]] = []

    def shot(caption: str) -> None:
        hand.rest(0.1)
        if session.status.tone == "error":
            raise SystemExit(session.status.text)
        shots.append((caption, hand.viewer.screenshot(canvas_only=False, flash=False)))

    def share_is(least: float) -> bool:
        activity = session.predicting.activity
        return activity is None or (activity.share or 0) >= least

    panel.controller.open_slide(str(slide))
    see(hand, VIEW)
    hand.key("P")
    hand.until(lambda: share_is(0.3), "tiles")
    shot("Tiles arrive, the centre first")
    see(hand, Region(1000, 500, 700, 800))
    hand.until(lambda: share_is(0.6), "tiles")
    shot("Look elsewhere meanwhile")
    hand.click(panel.foot.progress.cancel_button)
    hand.until(lambda: session.predicting.activity is None, "cancel")
    shot("Cancel: nothing was changed")
    see(hand, CLOSE)
    hand.key("P")
    hand.until(lambda: session.predicting.activity is None, "Predict")
    hand.rest(1.0)
    shot("Done; hatched where it is not sure")
    return shots


def see(hand: Hand, region: Region) -> None:
    """Bring a place into view."""
    layer = hand.panel.controller.layers.slide
    if layer is None:
        raise SystemExit(hand.panel.session.status.text)
    look_at(hand.viewer, layer, region)
    hand.rest(0.4)


def strip(shots: list[tuple[str, Any]], edge: int = 8, head: int = 24) -> Image.Image:
    """Pictures side by side, two a row, each below its caption."""
    pictures = []
    for _, pixels in shots:
        picture = Image.fromarray(np.asarray(pixels)[..., :3])
        pictures.append(picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT)))
    width, height = pictures[0].width + edge, HEIGHT + head + edge
    whole = Image.new("RGB", (2 * width + edge, height * ((len(shots) + 1) // 2)), "white")
    pen = ImageDraw.Draw(whole)
    for number, ((caption, _), picture) in enumerate(zip(shots, pictures, strict=True)):
        x, y = edge + (number % 2) * width, (number // 2) * height
        pen.text((x, y + 6), f"{number + 1}. {caption}", fill="black")
        whole.paste(picture, (x, y + head))
    return whole


if __name__ == "__main__":
    main()
