"""Aperio ImageScope's XML annotations, region by region, as GeoJSON features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn
from xml.parsers import expat

import shapely

from napari_genselfdiff.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 2**30
MAX_REGION = 5_000_000  # vertices of one region
_PIECE = 2**18
_ELLIPSE = 64  # corners that stand for a round one
_RECTANGLE, _ROUND = "1", "2"


def read_aperio(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield an empty description with each region; those marked negative are holes of the others.

    A region's class is the text drawn beside it, else the name of its layer. Coordinates are
    level-0 pixels. Entities, with which a small file can unfold to gigabytes, are refused.

    Raises
    ------
    ExchangeError
        If the file cannot be read, is not Aperio XML, or larger than anything we can hold.
    """
    reader, read = _Reader(path.name), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                read += len(piece)
                if read > MAX_BYTES:
                    reader.fail(f"it has more than {MAX_BYTES:,} bytes")
                reader.parser.Parse(piece, False)
                yield from (({}, feature) for feature in reader.take())
            reader.parser.Parse(b"", True)
    except OSError as err:
        raise ExchangeError(f"{path.name} cannot be read: {err}; copy it again") from err
    except (expat.ExpatError, UnicodeError, ValueError) as err:
        if isinstance(err, ExchangeError):
            raise
        reader.fail(f"it is not complete XML ({err})")
    if not reader.is_aperio:
        reader.fail("it has no Annotations")
    yield from (({}, feature) for feature in reader.take())


class _Reader:
    """Collects one layer at a time: holes may come before what they are cut out of."""

    def __init__(self, name: str) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self.is_aperio = False
        self._name, self._layer, self._depth = name, "", 0
        self._region: dict[str, str] | None = None
        self._points: list[list[Any]] = []
        self._features: list[dict[str, Any]] = []
        self._holes: list[list[list[Any]]] = []
        self._ready: list[dict[str, Any]] = []

    def take(self) -> list[dict[str, Any]]:
        """Features of the layers that have ended."""
        ready, self._ready = self._ready, []
        return ready

    def fail(self, why: str) -> NoReturn:
        """Refuse the file."""
        raise ExchangeError(f"{self._name} cannot be imported: {why}. Export it again as XML")

    def _refuse(self, *_: object) -> None:
        self.fail("it declares a document type, which annotations never need")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > 100:
            self.fail("it is nested too deeply")
        if tag == "Annotations":
            self.is_aperio = True
        elif tag == "Annotation":
            self._layer = attributes.get("Name", "").strip()
        elif tag == "Region":
            self._region, self._points = attributes, []
        elif tag == "Vertex" and self._region is not None:
            if len(self._points) >= MAX_REGION:
                self.fail(f"a region has more than {MAX_REGION:,} vertices")
            self._points.append([_number(attributes.get("X")), _number(attributes.get("Y"))])

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "Region" and self._region is not None:
            self._finish(self._region)
            self._region = None
        elif tag == "Annotation":
            _cut(self._features, self._holes)
            self._ready += self._features
            self._features, self._holes = [], []

    def _finish(self, region: dict[str, str]) -> None:
        ring = _drawn(region.get("Type", "0"), self._points)
        if region.get("NegativeROA", "0") == "1":
            self._holes.append(ring)
            return
        name = region.get("Text", "").strip() or self._layer
        properties = {"classification": {"name": name}} if name else {}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        self._features.append({"type": "Feature", "geometry": geometry, "properties": properties})


def _number(text: str | None) -> float | str | None:
    """A coordinate; what is no number stays as it is, and whoever draws it counts it."""
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text


def _drawn(kind: str, points: list[list[Any]]) -> list[list[Any]]:
    """Ring of a region; rectangles and ellipses are stored by corners of their boxes."""
    known = [p for p in points if isinstance(p[0], float) and isinstance(p[1], float)]
    if kind not in {_RECTANGLE, _ROUND} or len(known) < 2 or len(known) < len(points):
        return points
    x, x1 = min(p[0] for p in known), max(p[0] for p in known)
    y, y1 = min(p[1] for p in known), max(p[1] for p in known)
    if kind == _RECTANGLE:
        return [[x, y], [x1, y], [x1, y1], [x, y1]]
    return ellipse((x + x1) / 2, (y + y1) / 2, (x1 - x) / 2, (y1 - y) / 2)


def ellipse(x: float, y: float, width: float, height: float) -> list[list[Any]]:
    """Ring of an ellipse with these half axes."""
    from math import cos, pi, sin

    angles = [2 * pi * i / _ELLIPSE for i in range(_ELLIPSE)]
    return [[x + width * cos(a), y + height * sin(a)] for a in angles]


def _cut(features: list[dict[str, Any]], holes: list[list[list[Any]]]) -> None:
    """Add each hole to the first region around it; one that lies nowhere cuts nothing."""
    if not holes:
        return
    shells = [_polygon(feature["geometry"]["coordinates"][0]) for feature in features]
    shapely.prepare(shells)
    tree = shapely.STRtree(shells)
    for hole in holes:
        inside = _polygon(hole).representative_point()
        if inside.is_empty:
            continue
        for number in sorted(tree.query(inside)):
            if shapely.contains_xy(shells[number], inside.x, inside.y):
                features[number]["geometry"]["coordinates"].append(hole)
                break


def _polygon(ring: list[list[Any]]) -> shapely.Polygon:
    """A ring as it is, crossing itself or not; empty if it is none."""
    try:
        return shapely.Polygon(ring)
    except (TypeError, ValueError, shapely.errors.ShapelyError):
        return shapely.Polygon()
