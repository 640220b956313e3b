"""Curves as PNG pictures: how good something is, against what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.pictures import write_png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Okabe & Ito's colours, which colour-blind readers can tell apart, without the pink and reds.
_COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (86, 180, 233), (0, 0, 0))
_WIDTH, _HEIGHT = 900, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 24, 24, 64
_GREY, _BLACK = (200, 200, 200), (0, 0, 0)


class CurvePoint(NamedTuple):
    """A point of a curve with the ends of its interval, which may be the point itself."""

    x: float
    y: float
    low: float
    high: float


def draw_curves(
    curves: Mapping[str, Sequence[CurvePoint]], path: Path, *, x_name: str, y_name: str
) -> None:
    """Draw up to five curves with bars for their intervals; the file appears whole.

    ConfigError if there is no point, one that is no number, or more curves than colours.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points or not np.isfinite(points).all() or len(curves) > len(_COLOURS):
        raise ConfigError(
            f"{len(curves)} curves with {len(points)} points cannot be drawn; 1 to "
            f"{len(_COLOURS)} curves of finite points are needed"
        )
    canvas = Image.new("RGB", (_WIDTH, _HEIGHT), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    x_ticks = _ticks(min(0.0, *(p.x for p in points)), max(p.x for p in points))
    y_ticks = _ticks(min(p.low for p in points), max(p.high for p in points))
    frame = _Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    _axes(draw, frame, (x_ticks, y_ticks), (x_name, y_name))
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number]
        ordered = sorted(curve)
        draw.line([frame.at(p.x, p.y) for p in ordered], fill=colour, width=3)
        for p in ordered:
            (x, low), (_, high), (_, y) = (frame.at(p.x, v) for v in (p.low, p.high, p.y))
            draw.line([(x, low), (x, high)], fill=colour, width=1)
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
        place = (_LEFT + 16, _HEIGHT - _BOTTOM - 20 * (len(curves) - number) - 8)
        draw.text(place, name, fill=colour, font=_font())
    write_png(path, np.asarray(canvas))


class _Frame(NamedTuple):
    x0: float
    x1: float
    y0: float
    y1: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixel (x, y) of a value."""
        across = (x - self.x0) / (self.x1 - self.x0)
        up = (y - self.y0) / (self.y1 - self.y0)
        inner = _HEIGHT - _TOP - _BOTTOM
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * inner


def _axes(
    draw: ImageDraw.ImageDraw,
    frame: _Frame,
    ticks: tuple[list[float], list[float]],
    names: tuple[str, str],
) -> None:
    font = _font()
    for x in ticks[0]:
        at, bottom = frame.at(x, frame.y0)
        draw.line([(at, bottom), (at, bottom + 5)], fill=_BLACK)
        draw.text((at, bottom + 8), f"{x:g}", fill=_BLACK, font=font, anchor="ma")
    for y in ticks[1]:
        left, at = frame.at(frame.x0, y)
        draw.line([(left, at), (_WIDTH - _RIGHT, at)], fill=_GREY)
        draw.text((left - 8, at), f"{y:g}", fill=_BLACK, font=font, anchor="rm")
    draw.line([frame.at(frame.x0, frame.y1), frame.at(frame.x0, frame.y0)], fill=_BLACK)
    draw.line([frame.at(frame.x0, frame.y0), frame.at(frame.x1, frame.y0)], fill=_BLACK)
    draw.text((_WIDTH / 2, _HEIGHT - 14), names[0], fill=_BLACK, font=font, anchor="mb")
    draw.text((_LEFT, 4), names[1], fill=_BLACK, font=font)


def _ticks(low: float, high: float) -> list[float]:
    """Up to twelve round numbers that reach from at most ``low`` to at least ``high``."""
    span = max(high - low, 1e-6)
    size = 10.0 ** np.floor(np.log10(span))
    step = next(size * s for s in (0.2, 0.5, 1.0, 2.0) if span / (size * s) <= 9.0 + 1e-9)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [round(float(i * step), 10) for i in range(int(first), int(max(last, first + 1)) + 1)]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(15)
