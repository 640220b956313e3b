"""Block Measure: the table and the slide go together, charts filter, regions are drawn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_genselfdiff.annotation.object_table import NUMBERS, ObjectTable
from napari_genselfdiff.annotation.places import ClassInPlace, Place
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.charts import Bar, BarChart, Histogram
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.measure_words import place_html, square_mm
from napari_genselfdiff.widgets.object_model import COLUMNS, Filter, ObjectModel
from tests.annotation.builders import CELLS
from tests.session.parts import FakeEngine, predict
from tests.session.test_measuring import end

_TEST: Any = QTest  # the bindings' stubs disagree about its arguments
VIEW = Region(100, 100, 200, 240)
DISKS = ((150, 150, 12), (230, 260, 18), (260, 150, 8))


def table(n: int) -> ObjectTable:
    rng = np.random.default_rng(5)
    numbers = {name: rng.random(n) for name in NUMBERS}
    numbers["confidence"][::3] = np.nan
    numbers["accepted_share"] = np.where(np.arange(n) % 2, 1.0, 0.0)
    numbers["human_share"] = np.zeros(n)
    values = np.where(rng.random(n) < 0.5, 1, 7).astype(np.uint8)
    ids = np.arange(1, n + 1, dtype=np.uint32)
    return ObjectTable(ids, values, numbers, ("Front",), rng.random((n, 1)) < 0.3)


def tool(hand: Hand) -> str | None:
    return hand.panel.controller.tool


def column(name: str) -> int:
    return next(at for at, one in enumerate(COLUMNS) if one.name == name)


def test_rows_are_sorted_and_filtered(qapp: Any) -> None:
    model = ObjectModel()
    model.set_table(table(50), CELLS.classes)
    assert model.rowCount() == 50
    for name in (one.name for one in COLUMNS):
        model.sort(column(name), Qt.SortOrder.DescendingOrder)
        keys = model._keys(name)[model.rows]
        known = keys[~np.isnan(keys)]
        assert (np.diff(known) <= 0).all()
        assert np.isnan(keys[len(known) :]).all()  # what is not known comes last
    model.set_filter(Filter(value=7, checked=True, roi="Front"))
    rows = model.rows
    assert 0 < len(rows) < 50
    assert (model.table.values[rows] == 7).all()
    assert (rows % 2 == 1).all()
    assert model.table.inside[rows, 0].all()
    assert model.row_of(int(model.table.ids[rows[1]])) == 1
    assert model.row_of(0) is None
    index = model.index(0, column("class"))
    assert model.data(index) == "Lymphocyte"
    assert model.data(model.index(0, column("rois"))) == "Front"


def test_a_hundred_thousand_objects_stay_quick(qapp: Any) -> None:
    model, histogram = ObjectModel(), Histogram()
    big = table(100_000)
    start = time.process_time()
    model.set_table(big, CELLS.classes)
    model.sort(column("area_um2"))
    model.set_filter(Filter(value=1))
    histogram.set_values(model.shown_values("area_um2"), 1)
    assert model.row_of(int(big.ids[model.rows[-1]])) == len(model.rows) - 1
    assert time.process_time() - start < 0.8
    assert histogram.counts.sum() == len(model.rows)


def test_a_bar_is_clicked_and_drawn(qtbot: Any) -> None:
    clicked: list[int] = []
    chart = BarChart(clicked.append)
    qtbot.addWidget(chart)
    chart.resize(300, 40)
    chart.set_bars([Bar(1, "A", "#ff0000", 4, "4"), Bar(7, "B", "#0000ff", 1, "1")], None)
    _TEST.mouseClick(chart, Qt.MouseButton.LeftButton, pos=QPoint(5, 25))
    assert clicked == [7]
    picture = chart.grab().toImage()
    red, blue = (
        [picture.pixelColor(x, y).getRgb()[:3] == color for x in range(300)]
        for y, color in ((10, (255, 0, 0)), (30, (0, 0, 255)))
    )
    assert sum(red) == pytest.approx(4 * sum(blue), abs=8)


def test_a_place_in_words() -> None:
    one = ClassInPlace("Tumour <cell>", 0.25, 0.125, 0.5, 1200, 600.0, 2400.0)
    words = place_html(Place("Front", 0.5, 2.0, 0.4, (one,)), assumed=True)
    for part in ("0.5 mm²", "40% annotated", "2.00 mm² of tissue", "assumed"):
        assert part in words
    assert "Tumour &lt;cell&gt;" in words
    for part in ("12.5<", "50.0<", "1,200", "2,400"):
        assert part in words
    area = ClassInPlace("Stroma", 0.25, None, 0.5, None, None, None)
    assert "number" not in place_html(Place("Front", 0.5, None, 1.0, (area,)))
    assert "not measured yet" in place_html(None)
    assert [square_mm(a) for a in (0, 1e-6, 0.00123, 3.4, 1234)] == [
        "0",
        "<0.0001",
        "0.00123",
        "3.40",
        "1,234",
    ]


@pytest.mark.qt
def test_table_and_slide_go_together(looking: Hand, closed: tuple[Any, FakeEngine]) -> None:
    session, engine = closed
    block = looking.panel.measure
    predict(session, engine, VIEW, *DISKS)
    block.set_open(True)
    looking.click(block.measure_button)
    assert block.progress.isVisible()
    found = end(session, engine)
    looking.rest(0.1)
    assert block.list.rows.rowCount() == 3
    assert not block.bars.isVisible()  # a single class has nothing to be compared with
    assert not block.stale.isVisible()
    view = block.list.view
    view.sortByColumn(column("area_um2"), Qt.SortOrder.DescendingOrder)
    first = view.visualRect(block.list.rows.index(0, column("area_um2"))).center()
    _TEST.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=first)
    slide = looking.panel.controller.layers.slide
    assert slide is not None
    centre = slide.world_to_data(looking.viewer.scene.camera.center)[-2:]
    assert tuple(centre) == pytest.approx((230, 260), abs=1)
    looking.tap((150, 150))  # no tool in hand: the object is picked
    assert view.currentIndex().row() == block.list.rows.row_of(
        int(found.table.ids[int(np.argmin(found.table.numbers["centroid_y"]))])
    )
    session.correcting.delete_object(150, 150)
    assert block.stale.isVisible()
    assert block.measure_button.text() == "Measure again"


@pytest.mark.qt
def test_a_region_is_drawn_from_afar_and_measured(
    looking: Hand, closed: tuple[Any, FakeEngine]
) -> None:
    session, engine = closed
    block, camera = looking.panel.measure, looking.viewer.scene.camera
    predict(session, engine, VIEW, *DISKS)
    block.set_open(True)
    zoom = camera.zoom
    looking.click(block.roi_button)
    assert tool(looking) == "roi"
    assert looking.panel.controller.layers.edit is None
    for point in ((110, 110), (110, 200), (280, 200)):
        looking.tap(point)
    looking.double_click((280, 110))
    assert camera.zoom == zoom  # the double click ended the outline
    assert tool(looking) is None
    (roi,) = session.measuring.rois
    assert roi.shape.area == pytest.approx(170 * 90, rel=0.05)
    assert not block.roi_button.isChecked()
    block.measure()
    end(session, engine)
    block.place.setCurrentText("ROI 1")
    block._on_place(1)
    assert block.list.rows.rowCount() == 2
    assert "annotated" in block.summary.text()
    block.rename("Front")
    assert block.chosen == "Front"
    block.remove()
    assert session.measuring.rois == ()
    looking.double_click((200, 200))
    assert camera.zoom > zoom  # napari's own double click is back
    looking.click(block.roi_button)
    looking.tap((110, 110))
    looking.key("Escape")
    looking.key("Escape")
    assert tool(looking) is None
    assert session.measuring.rois == ()
