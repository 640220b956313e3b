"""What was measured in a place, as a small table to read."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.places import ClassInPlace, Place

_CELL: Final = "padding: 1px 5px 1px 0; white-space: nowrap; font-size: 10px;"


def square_mm(area: float) -> str:
    """An area in mm² with as many digits as can be told apart: "0.00213", "3.40", "612"."""
    if area == 0:
        return "0"
    if area >= 100:
        return f"{area:,.0f}"
    return f"{area:.2f}" if area >= 1 else f"{area:.3g}" if area >= 1e-4 else "<0.0001"


def place_html(place: Place | None, *, assumed: bool = False) -> str:
    """A place with a line for each class, or that it was not measured yet.

    ``assumed`` says that nobody measured the size of a pixel.
    """
    if place is None:
        return "This region was not measured yet: measure again."
    size, tissue = f"{square_mm(place.area_mm2)} mm²", ""
    if place.tissue_mm2 is not None:
        tissue = f", {square_mm(place.tissue_mm2)} mm² of tissue"
    said = f"{size} annotated" if place.known >= 0.9995 else f"{size}, {place.known:.0%} annotated"
    lines = [_cells(one) for one in place.classes]
    titles = list(dict.fromkeys(title for line in lines for title in line))
    head = "".join(_cell(f"<i>{title.replace('/', '<br>')}</i>", not title) for title in titles)
    rows = "".join(
        "<tr>"
        + "".join(_cell(escape(line.get(title, "")), not title) for title in titles)
        + "</tr>"
        for line in lines
    )
    about = f"{said}{tissue}{'; µm/px is assumed' if assumed else ''}"
    return f"{about}<table cellspacing='0'><tr>{head}</tr>{rows}</table>"


def _cell(words: str, is_name: bool) -> str:
    return f'<td align="{"left" if is_name else "right"}" style="{_CELL}">{words}</td>'


def _cells(one: ClassInPlace) -> dict[str, str]:
    """What is known of a class, by column; a stroke breaks its title into two lines."""
    cells = {"": one.name, "mm²": square_mm(one.area_mm2)}
    if one.of_tissue is not None:
        cells["% of/tissue"] = _share(one.of_tissue)
    if one.of_place is not None:
        cells["% of/place"] = _share(one.of_place)
    if one.objects is not None:
        cells["number"] = f"{one.objects:,}"
    if one.per_mm2_tissue is not None:
        cells["per mm²/tissue"] = _per(one.per_mm2_tissue)
    if one.per_mm2 is not None:
        cells["per mm²/place"] = _per(one.per_mm2)
    return cells


def _share(value: float) -> str:
    return f"{100 * value:.1f}" if value >= 0.0005 or value == 0 else "<0.1"


def _per(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
