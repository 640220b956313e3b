"""Block *Measure*: areas, numbers, densities, regions of interest, and the table of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAction, QInputDialog, QMenu

from napari_genselfdiff.annotation.places import WHOLE
from napari_genselfdiff.widgets.charts import Bar, BarChart, Histogram
from napari_genselfdiff.widgets.commands import DRAW_ROI, MEASURE
from napari_genselfdiff.widgets.look import (
    Block,
    Section,
    button,
    notice,
    plain_button,
    quiet_choice,
    row,
    text,
)
from napari_genselfdiff.widgets.measure_words import place_html, square_mm
from napari_genselfdiff.widgets.object_list import ObjectList
from napari_genselfdiff.widgets.object_model import MEASURES
from napari_genselfdiff.widgets.picked import Picked
from napari_genselfdiff.widgets.roi_outlines import RoiOutlines
from napari_genselfdiff.widgets.status import Progress
from napari_genselfdiff.widgets.view import look_at

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.places import Place
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.controller import Controller

_AMOUNTS: Final = ("Area", "Number")


class MeasureBlock(Block):
    """Measures, and shows what was measured.

    Parameters
    ----------
    session, controller
        What is open, and where it is seen.
    """

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__("Measure", 6)
        self._session, self._controller = session, controller
        self.picked = Picked(session, controller)
        self.outlines = RoiOutlines(controller.viewer, controller.layers)
        self.measure_button = button(MEASURE, self.measure, primary=True)
        self.roi_button = button(DRAW_ROI, self.draw)
        self.roi_button.setCheckable(True)
        self.progress = Progress(session.measuring.cancel)
        self.stale = notice("warning")
        self.stale.setText("Out of date: something changed since. Measure again.")
        self.place = quiet_choice("The whole slide, or one region of interest", self._on_place)
        self.roi_menu = plain_button("Region", "Go to it, rename or remove it.", _nothing)
        self.roi_menu.setMenu(self._menu())
        self.summary = text(small=True)
        self.summary.setTextFormat(Qt.TextFormat.RichText)
        self.amount = quiet_choice("What the bars show", self._on_shown)
        self.amount.addItems(_AMOUNTS)
        self.bars = BarChart(self._on_bar)
        self.column = quiet_choice("What is shown of the objects listed", self._on_shown)
        self.column.addItems([column.tip.split(";")[0].split(":")[0] for column in MEASURES])
        self.histogram = Histogram()
        self.list = ObjectList(session, self.picked)
        self.spread = Section("Spread", "How the objects listed differ.", is_open=True)
        self.objects = Section("Objects", "A line an object; click it to go there.", is_open=True)
        self._lay_out()
        self._connections = (
            (session.events.measuring_changed, self.show_state),
            (session.events.slide_changed, self.show_rois),
            (session.events.rois_changed, self.show_rois),
            (session.events.task_changed, self.show_state),
            (controller.events.tool_changed, self.show_tool),
            (self.list.filtered, self.show_spread),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_rois()
        self.set_open(False)

    def cleanup(self) -> None:
        """Let go of session and slide."""
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self.list.cleanup()
        self.picked.cleanup()
        self.outlines.remove()

    # -- buttons --------------------------------------------------------------------------------

    def measure(self) -> None:
        """Measure the task as it is now."""
        self._controller.save()
        with self._session.attempt():
            self._session.measuring.start()

    def draw(self) -> None:
        """Draw a region of interest, or give that up."""
        self._controller.pick_tool("roi")
        self.show_tool()

    def go_to_roi(self) -> None:
        """Show the region of interest that is chosen."""
        roi = next((r for r in self._session.measuring.rois if r.name == self.chosen), None)
        layer = self._controller.layers.slide
        if roi is not None and layer is not None:
            look_at(self._controller.viewer, layer, roi.region0)

    def ask_name(self) -> None:
        """Ask for another name of the region of interest that is chosen."""
        name, good = QInputDialog.getText(self, "Rename region", "Name:", text=self.chosen)
        if good and name.strip():
            self.rename(name)

    def rename(self, to: str) -> None:
        """Give the region of interest that is chosen another name."""
        with self._session.attempt():
            self._session.measuring.rename_roi(self.chosen, to)
            self.place.setCurrentText(to.strip())

    def remove(self) -> None:
        """Remove the region of interest that is chosen; undo brings it back."""
        with self._session.attempt():
            self._session.measuring.remove_roi(self.chosen)

    @property
    def chosen(self) -> str:
        """The place that is chosen."""
        return str(self.place.currentText())

    # -- showing --------------------------------------------------------------------------------

    def show_rois(self) -> None:
        """Show the regions of interest, on the slide and in the list of places."""
        chosen, rois = self.chosen, self._session.measuring.rois
        self.outlines.show(rois)
        names = [WHOLE, *(roi.name for roi in rois)]
        self.place.clear()
        self.place.addItems(names)
        self.place.setCurrentIndex(names.index(chosen) if chosen in names else 0)
        self.show_state()

    def show_tool(self) -> None:
        """Show whether a region is being drawn."""
        self.roi_button.setChecked(self._controller.tool == "roi")

    def show_state(self) -> None:
        """Show what was measured, and how far measuring is."""
        session, measuring = self._session, self._session.measuring
        there, running = measuring.measured is not None, measuring.activity is not None
        self.progress.show_activity(measuring.activity)
        self.measure_button.setEnabled(session.store is not None and not running)
        self.measure_button.setText("Measure again" if there else MEASURE.text)
        self.roi_button.setEnabled(session.store is not None and not session.store.read_only)
        self.stale.setVisible(measuring.is_stale and not running)
        several = self.place.count() > 1
        self.place.setVisible(several)
        self.roi_menu.setVisible(several)
        self.roi_menu.setEnabled(self.chosen != WHOLE)
        has_objects = session.task.kind == "objects"
        several_classes = there and session.task.n_classes > 1
        for widget in (self.summary, self.spread, self.objects):
            widget.setVisible(there)
        self.bars.setVisible(several_classes)
        self.amount.setVisible(several_classes and has_objects)
        if there:
            self.list.show_measured()
            assumed = session.store is not None and session.store.mpp_assumed
            self.summary.setText(place_html(self._place(), assumed=assumed))
            self._show_bars()

    def show_spread(self) -> None:
        """Show how a column of the rows listed is spread, and which class is listed alone."""
        column = MEASURES[max(self.column.currentIndex(), 0)]
        self.histogram.set_values(self.list.rows.shown_values(column.name), column.digits)
        self._show_bars()

    def _place(self) -> Place | None:
        """What was measured of the place that is chosen."""
        measured = self._session.measuring.measured
        places = () if measured is None else measured.places
        return next((place for place in places if place.name == self.chosen), None)

    def _show_bars(self) -> None:
        place, task = self._place(), self._session.task
        by_number = self.amount.currentIndex() == 1 and task.kind == "objects"
        specs = {spec.name: spec for spec in task.classes}
        bars = []
        for one in () if place is None else place.classes:
            if one.name in specs:
                spec, number = specs[one.name], one.objects or 0
                words = f"{number:,}" if by_number else f"{square_mm(one.area_mm2)} mm²"
                amount = float(number) if by_number else one.area_mm2
                bars.append(Bar(spec.value, spec.name, spec.color, amount, words))
        self.bars.set_bars(bars, self.list.rows.filter.value)

    def _on_place(self, _index: int) -> None:
        self.list.show_roi(None if self.chosen == WHOLE else self.chosen)
        self.show_state()

    def _on_bar(self, value: int) -> None:
        self.list.show_class(value)

    def _on_shown(self, _index: int) -> None:
        self.show_spread()

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        for words, run in (
            ("Go there", self.go_to_roi),
            ("Rename…", self.ask_name),
            ("Remove", self.remove),
        ):
            entry = QAction(words, menu)
            entry.triggered.connect(run)
            menu.addAction(entry)
        return menu

    def _lay_out(self) -> None:
        self.body.addLayout(row(self.measure_button, self.roi_button))
        self.body.addWidget(self.progress)
        self.body.addWidget(self.stale)
        self.body.addLayout(row(self.place, self.roi_menu))
        for widget in (self.summary, self.amount, self.bars):
            self.body.addWidget(widget)
        self.spread.body.addWidget(self.column)
        self.spread.body.addWidget(self.histogram)
        self.objects.body.addWidget(self.list)
        self.body.addWidget(self.objects)
        self.body.addWidget(self.spread)


def _nothing() -> None:
    """A button with a menu does nothing by itself."""
