"""Draw docs/images/tools.jpg: every tool of the panel at work on predicted nuclei.

A real window with real workers on the shipped TNBC sample (CC BY). Needs a screen, or xvfb-run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import regionprops

from napari_genselfdiff.samples import copy_sample
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.commands import TOOLS
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.panel import AnnotateSlide
from napari_genselfdiff.widgets.view import look_at

OUT = Path(__file__).parents[1] / "docs" / "images" / "tools.jpg"
VIEW = Region(0, 0, 1100, 1536)
MOSAIC = 512  # the sample is laid out of squares; their seams are not for pictures
HALF = 44  # half the side of a picture, in pixels of the slide
SIDE = 200  # side of a picture in the strip
EDGE, HEAD, ACROSS = 8, 20, 3
Point = tuple[float, float]
Pair = tuple[str, list[Any]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENSELFDIFF_HOME"] = str(Path(folder) / "home")
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1300, 900)
        panel = AnnotateSlide(viewer)
        viewer.window.add_dock_widget(panel, name="Annotate slide", area="right")
        pairs = Strip(Hand(viewer, panel), Path(folder)).walk()
        panel.cleanup()
        viewer.close()
    composed(pairs).save(OUT, quality=88)


class Strip:
    """Uses each tool once and takes a picture before (or meanwhile) and after."""

    def __init__(self, hand: Hand, folder: Path) -> None:
        self.hand, self.session = hand, hand.panel.session
        self.controller = hand.panel.controller
        self.pairs: list[Pair] = []
        self.controller.open_slide(str(copy_sample("tnbc_pyramid", folder)))
        hand.viewer.canvas.overlays.scale_bar.visible = False
        self.controller.live.set_hatching(False)
        self._see(VIEW)
        hand.key("P")
        hand.until(lambda: self.session.predicting.activity is None, "Predict")
        hand.rest(1.0)
        self.session.tasking.add_class("Mitosis", "#56B4E9")
        self.places = self._nuclei()

    def walk(self) -> list[Pair]:
        """Use all the tools."""
        for tool in TOOLS:
            getattr(self, f"_{tool}")(*self.places.pop(0))
        return self.pairs

    # -- one tool each --------------------------------------------------------------------------

    def _brush(self, y: float, x: float, r: float) -> None:
        self._stroke("brush", y, x, [(y, x), (y, x + r + 10)])

    def _erase(self, y: float, x: float, r: float) -> None:
        self._stroke("erase", y, x, [(y - r, x), (y + r, x)])

    def _forget(self, y: float, x: float, r: float) -> None:
        self._stroke("forget", y, x, [(y - r, x - 4), (y + r, x - 4)])

    def _fill(self, y: float, x: float, r: float) -> None:
        self._at("cut", y, x)
        self.hand.drag(circle(y, x, 2 * r))
        self._at("brush", y, x)
        self.hand.drag(circle(y, x, r))
        self._click("fill", y, x)

    def _polygon(self, y: float, x: float, r: float) -> None:
        self._at("cut", y, x)
        self.hand.drag(circle(y, x, 2 * r))
        self._at("polygon", y, x)
        corners = circle(y, x, r + 4, 7)
        for point in corners:
            self.hand.tap(point)
        before = self._shot()
        self.hand.key("Return")
        self._note("polygon", before)

    def _lasso(self, y: float, x: float, r: float) -> None:
        self._at("cut", y, x)
        self.hand.drag(circle(y, x, 2 * r))
        self._line("lasso", y, x, circle(y, x, r + 3))

    def _cut(self, y: float, x: float, r: float) -> None:
        self._line("cut", y, x, circle(y, x, r + 10))

    def _split(self, y: float, x: float, r: float) -> None:
        self._line("split", y, x, [(y - r - 6, x - 3), (y + r + 6, x + 3)])

    def _merge(self, y: float, x: float, r: float) -> None:
        self._at("split", y, x)
        self.hand.drag([(y - 2 * r, x), (y + 2 * r, x)])
        self._line("merge", y, x, [(y, x - r / 2), (y, x + r / 2)])

    def _delete(self, y: float, x: float, r: float) -> None:
        self._click("delete", y, x)

    def _holes(self, y: float, x: float, r: float) -> None:
        self._at("erase", y, x)
        self.controller.set_brush(max(int(r), 3))
        self.hand.tap((y, x))
        self.controller.set_brush(8)
        self._click("holes", y + 0.65 * r, x)

    def _smooth(self, y: float, x: float, r: float) -> None:
        self._at("brush", y, x)
        self.controller.set_brush(3)
        rng = np.random.default_rng(0)
        for turn in np.linspace(0, 2 * np.pi, 13)[:-1]:
            end = r + 1 + 3 * rng.random()
            self.hand.drag([(y, x), (y + end * np.sin(turn), x + end * np.cos(turn))])
        self.controller.set_brush(8)
        self._click("smooth", y, x)

    def _class(self, y: float, x: float, r: float) -> None:
        self.controller.pick_class(self.session.task.classes[-1].value)
        self._click("class", y, x)

    # -- how --------------------------------------------------------------------------------------

    def _stroke(self, tool: Any, y: float, x: float, path: list[Point]) -> None:
        before = self._at(tool, y, x)
        self.hand.drag([path[0], *between(path[0], path[1]), path[1]])
        self._note(tool, before)

    def _line(self, tool: Any, y: float, x: float, path: list[Point]) -> None:
        self._at(tool, y, x)
        self.hand.press(path)
        before = self._shot()
        self.hand.release(path[-1])
        self._note(tool, before)

    def _click(self, tool: Any, y: float, x: float) -> None:
        before = self._at(tool, y, x)
        self.hand.tap((y, x))
        self._note(tool, before)

    def _at(self, tool: Any, y: float, x: float) -> Any:
        """Look at a place with a tool in hand; the picture of it."""
        self._see(Region(int(y) - HALF, int(x) - HALF, 2 * HALF, 2 * HALF))
        if self.controller.tool != tool:
            self.controller.pick_tool(tool)
        return self._shot()

    def _note(self, tool: Any, before: Any) -> None:
        self.hand.rest(0.3)
        if self.session.status.tone in ("error", "warning"):
            raise SystemExit(f"{tool}: {self.session.status.text}")
        self.pairs.append((tool, [before, self._shot()]))

    def _see(self, region: Region) -> None:
        slide = self.controller.layers.slide
        if slide is None:
            raise SystemExit(self.session.status.text)
        look_at(self.hand.viewer, slide, region, 1.0)
        self.hand.rest(0.6)

    def _shot(self) -> Any:
        """The middle square of what is on the canvas."""
        self.hand.rest(0.2)
        pixels = np.asarray(self.hand.viewer.screenshot(canvas_only=True, flash=False))[..., :3]
        side = min(pixels.shape[:2])
        top, left = ((n - side) // 2 for n in pixels.shape[:2])
        return pixels[top : top + side, left : left + side]

    def _nuclei(self) -> list[tuple[float, float, float]]:
        """Round nuclei of some size, far from each other: centre and radius."""
        store = self.session.store
        if store is None:
            raise SystemExit(self.session.status.text)
        window = store.read("Nuclei", VIEW)
        found: list[tuple[float, float, float]] = []
        inside = Region(VIEW.y + HALF, VIEW.x + HALF, VIEW.height - 2 * HALF, VIEW.width - 2 * HALF)
        for shape in sorted(regionprops(window.ids.astype(np.int32)), key=lambda s: -s.area):
            y, x = shape.centroid[0] + VIEW.y, shape.centroid[1] + VIEW.x
            round_enough = shape.solidity > 0.9 and shape.eccentricity < 0.8
            free = all(max(abs(y - v), abs(x - u)) > 2 * HALF for v, u, _ in found)
            here = inside.contains(Region(int(y), int(x), 1, 1)) and all(
                HALF < value % MOSAIC < MOSAIC - HALF for value in (y, x)
            )
            if 350 < shape.area < 1800 and round_enough and free and here:
                found.append((y, x, float(np.sqrt(shape.area / np.pi))))
        if len(found) < len(TOOLS):
            raise SystemExit(f"only {len(found)} nuclei stand alone; {len(TOOLS)} are needed")
        return found


def circle(y: float, x: float, radius: float, n: int = 40) -> list[Point]:
    """Points around a place."""
    turns = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return [(y + radius * float(np.sin(t)), x + radius * float(np.cos(t))) for t in turns]


def between(start: Point, end: Point, n: int = 12) -> list[Point]:
    """Points on the way."""
    shares = np.linspace(0, 1, n)
    return [
        (start[0] + s * (end[0] - start[0]), start[1] + s * (end[1] - start[1])) for s in shares
    ]


def composed(pairs: list[Pair]) -> Image.Image:
    """Pairs side by side under the name and key of their tool."""
    wide, high = 2 * SIDE + 2 + EDGE, SIDE + HEAD + EDGE
    whole = Image.new("RGB", (ACROSS * wide + EDGE, -(-len(pairs) // ACROSS) * high), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for number, (tool, pictures) in enumerate(pairs):
        x, y = EDGE + number % ACROSS * wide, number // ACROSS * high
        command = TOOLS[tool]  # type: ignore[index]  # the names are those of the tools
        pen.text((x, y + 3), f"{command.text} ({command.key})", fill="black", font=font)
        for place, pixels in enumerate(pictures):
            picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            whole.paste(picture, (x + place * (SIDE + 2), y + HEAD))
    return whole


if __name__ == "__main__":
    main()
