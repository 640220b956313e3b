"""Annotations of the Digital Slide Archive (HistomicsUI JSON) as GeoJSON features."""

from __future__ import annotations

import json
from math import cos, sin
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.annotation.exchange.aperio_xml import ellipse
from napari_genselfdiff.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 64 * 2**20  # read whole; empty lists take twenty times as much in memory


def is_dsa(head: bytes) -> bool:
    """Whether a JSON file begins like an annotation of the archive; GeoJSON has features."""
    return b'"features"' not in head and (b'"elements"' in head or b'"annotation"' in head)


def read_dsa(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield an empty description with each element; its class is its group, else its label.

    Raises
    ------
    ExchangeError
        If the file cannot be read, is too large, or is not such JSON.
    """
    why = "Export it again as annotation JSON"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ExchangeError(f"{path.name} has more than {MAX_BYTES:,} bytes; split it")
        value = json.loads(path.read_bytes(), parse_constant=str)  # NaN fails as a coordinate
    except OSError as err:
        raise ExchangeError(f"{path.name} cannot be read: {err}; copy it again") from err
    except (ValueError, RecursionError) as err:
        if isinstance(err, ExchangeError):
            raise
        raise ExchangeError(f"{path.name} is not complete JSON ({err}). {why}") from err
    if isinstance(value, dict) and isinstance(value.get("annotation"), dict):
        value = value["annotation"]
    elements = value.get("elements") if isinstance(value, dict) else None
    if not isinstance(elements, list):
        raise ExchangeError(f"{path.name} has no list of elements. {why}")
    for element in elements:
        yield {}, _feature(element)


def _feature(element: Any) -> Any:
    if not isinstance(element, dict):
        return element
    label = element.get("label")
    name = element.get("group") or (label.get("value") if isinstance(label, dict) else None)
    properties = {"classification": {"name": name}} if isinstance(name, str) else {}
    try:
        geometry = _geometry(element)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        geometry = {"type": "Polygon", "coordinates": None}  # counted where it would be drawn
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _geometry(element: dict[str, Any]) -> dict[str, Any]:
    kind = element.get("type")
    if kind == "polyline" and element.get("closed", False):
        rings = [element["points"], *element.get("holes", [])]
        return {"type": "Polygon", "coordinates": [[p[:2] for p in ring] for ring in rings]}
    if kind not in {"circle", "rectangle", "ellipse"}:
        return {"type": str(kind), "coordinates": None}
    x, y = (float(value) for value in element["center"][:2])
    if kind == "circle":
        radius = float(element["radius"])
        return {"type": "Polygon", "coordinates": [ellipse(x, y, radius, radius)]}
    width, height = float(element["width"]) / 2, float(element["height"]) / 2
    corners = [[-width, -height], [width, -height], [width, height], [-width, height]]
    if kind == "ellipse":
        corners = ellipse(0.0, 0.0, width, height)
    turn = float(element.get("rotation", 0.0))
    ring = [
        [x + px * cos(turn) - py * sin(turn), y + px * sin(turn) + py * cos(turn)]
        for px, py in corners
    ]
    return {"type": "Polygon", "coordinates": [ring]}
