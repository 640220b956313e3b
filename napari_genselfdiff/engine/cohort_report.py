"""The report of a cohort: one HTML file that opens anywhere, without a network or scripts.

Names of slides and what went wrong come from outside; everything is escaped, and the page itself
forbids scripts and connections.
"""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]
    Pictures = Mapping[str, bytes]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;
color:#1d2730;background:#fff}
h1{margin:0 0 .2rem}h2{margin:2.2rem 0 .6rem;border-bottom:2px solid #1F7A8C}
.note{color:#55636f}.bad{border-left:4px solid #C98A00;background:#fbf3df;padding:.5rem .8rem}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:.3rem .6rem;border-bottom:1px solid #dde3e8;text-align:right}
th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}
th{background:#eef3f5;position:sticky;top:0}
.card{break-inside:avoid;margin:1.4rem 0}.card h3{margin:.2rem 0;overflow-wrap:anywhere}
.pictures{display:flex;flex-wrap:wrap;gap:10px}figure{margin:0;max-width:24%}
figure img{max-width:100%;border:1px solid #dde3e8}figcaption{font-size:12px;color:#55636f}
@media(max-width:60rem){figure{max-width:48%}}
"""
_CAPTIONS = {
    "tissue": "Tissue that was segmented",
    "map": "Where: blue little, yellow much",
    "dense": "The densest field",
    "typical": "A typical field",
}
_PLOT = (760, 18, 220, 90)  # width, height of a bar, left, right


def build_page(about: Row, rows: Sequence[Row], pictures: Mapping[str, Pictures]) -> str:
    """Give the report as one HTML page.

    Parameters
    ----------
    about
        ``title``, ``task``, ``things``, ``model``, ``model_hash``, ``version``, ``finished``.
    rows
        One a slide; see :mod:`~napari_genselfdiff.engine.cohort`.
    pictures
        JPEG files by the row's ``key`` and name.
    """
    done = [row for row in rows if row["status"] == "done"]
    failed = [row for row in rows if row["status"] == "failed"]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
        "img-src data:; style-src 'unsafe-inline'\">",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(str(about['title']))}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(str(about['title']))}</h1>",
        _summary(about, done, failed, len(rows)),
        _failures(failed),
        "<h2>Slides</h2>" + _table(done, str(about["things"])) if done else "",
        _plots(done, about),
        "<h2>Pictures</h2>" if done else "",
        *(_card(row, pictures.get(str(row["key"]), {}), str(about["things"])) for row in done),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _summary(about: Row, done: Sequence[Row], failed: Sequence[Row], number: int) -> str:
    objects = [row["objects"] for row in done if row["objects"] is not None]
    area = sum(row["tissue_mm2"] or 0.0 for row in done)
    found = f"{sum(objects):,} {about['things']} on {area:,.1f} mm² of tissue. " if objects else ""
    waiting = number - len(done) - len(failed)
    rest = f", {waiting} not begun" if waiting else ""
    return (
        f"<p>{len(done)} of {number} slides segmented, {len(failed)} failed{rest}. "
        f"{escape(found)}</p><p class=note>Task {escape(str(about['task']))}, model "
        f"{escape(str(about['model']))} ({escape(str(about['model_hash'])[:12])}), "
        f"napari-genselfdiff {escape(str(about['version']))}, {escape(str(about['finished']))}. "
        "Research use only: numbers come from a model nobody has checked on these slides, unless "
        "the column <i>checked</i> says otherwise.</p>"
    )


def _failures(failed: Sequence[Row]) -> str:
    if not failed:
        return ""
    lines = "".join(
        f"<li><b>{escape(str(row['slide']))}</b>: {escape(str(row['error']))}</li>"
        for row in failed
    )
    return f"<h2>Failed</h2><div class=bad><ul>{lines}</ul></div>"


def _table(done: Sequence[Row], things: str) -> str:
    heads = ("slide", things, f"{things} per mm²", "tissue mm²", "µm/px", "checked", "time")
    cells = [
        (
            str(row["slide"]),
            _number(row["objects"]),
            _number(row["objects_per_mm2"]),
            _number(row["tissue_mm2"], 2),
            f"{row['mpp']:.3g}{' (assumed)' if row['mpp_assumed'] else ''}",
            f"{100 * row['checked_share']:.0f} %",
            f"{row['seconds']:,.0f} s",
        )
        for row in done
    ]
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    head = "".join(f"<th>{escape(word)}</th>" for word in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _plots(done: Sequence[Row], about: Row) -> str:
    rated = [row for row in done if row["objects_per_mm2"] is not None]
    if not rated:
        return ""
    rated.sort(key=lambda row: -row["objects_per_mm2"])
    title = f"{about['things']} per mm² of tissue"
    plots = _bars([(str(r["slide"]), float(r["objects_per_mm2"])) for r in rated[:60]])
    more = f"<p class=note>The first 60 of {len(rated)}.</p>" if len(rated) > 60 else ""
    spread = _spread([float(row["objects_per_mm2"]) for row in rated])
    return f"<h2>{escape(title[:1].upper() + title[1:])}</h2>{spread}{plots}{more}"


def _bars(values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars as SVG."""
    width, step, left, right = _PLOT
    top = max(value for _, value in values) or 1.0
    lines = []
    for number, (name, value) in enumerate(values):
        y = number * (step + 4)
        length = (width - left - right) * value / top
        label = name if len(name) <= 30 else f"{name[:14]}…{name[-15:]}"
        lines.append(
            f"<g><title>{escape(name)}</title>"
            f"<text x='{left - 8}' y='{y + step - 5}' text-anchor='end'>{escape(label)}</text>"
            f"<rect x='{left}' y='{y}' width='{length:.1f}' height='{step}' fill='#1F7A8C'/>"
            f"<text x='{left + length + 6:.1f}' y='{y + step - 5}'>{value:,.0f}</text></g>"
        )
    height = len(values) * (step + 4)
    return (
        f"<svg role='img' width='{width}' height='{height}' font-size='12' "
        f"font-family='system-ui,sans-serif'>{''.join(lines)}</svg>"
    )


def _spread(values: Sequence[float]) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return (
        f"<p class=note>Median {middle:,.0f}, the middle half of the slides lies between "
        f"{low:,.0f} and {high:,.0f}.</p>"
        if len(values) > 3
        else ""
    )


def _card(row: Row, pictures: Pictures, things: str) -> str:
    figures = "".join(
        f"<figure><img alt='{escape(_CAPTIONS[name])}' "
        f"src='data:image/jpeg;base64,{base64.b64encode(pictures[name]).decode('ascii')}'>"
        f"<figcaption>{escape(_CAPTIONS[name])}</figcaption></figure>"
        for name in _CAPTIONS
        if name in pictures
    )
    facts = [f"{row['width']:,} × {row['height']:,} px"]
    if row["objects"] is not None:
        facts.insert(0, f"{row['objects']:,} {things}")
    for name, area in row["areas_mm2"].items():
        facts.append(f"{name} {area:,.3g} mm²")
    warnings = "".join(f"<p class=bad>{escape(str(text))}.</p>" for text in row["warnings"])
    return (
        f"<div class=card><h3>{escape(str(row['slide']))}</h3>"
        f"<p class=note>{escape(' · '.join(facts))}</p>{warnings}"
        f"<div class=pictures>{figures}</div></div>"
    )


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
