"""The table of objects: sort, filter, go there, enlarge, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from psygnal import Signal
from qtpy.QtCore import QItemSelectionModel, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QFrame,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_genselfdiff.session.wording import counted
from napari_genselfdiff.widgets.look import plain_button, quiet_choice, row, swatch, text
from napari_genselfdiff.widgets.object_model import COLUMNS, Filter, ObjectModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QModelIndex

    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.widgets.picked import Picked

_ROW: Final = 20
_HEIGHT: Final = 230
_WIDTHS: Final = {"id": 46, "class": 84, "rois": 70}
_WIDTH: Final = 54
_CHECKS: Final = (("All", None), ("Checked", True), ("Not checked", False))


class ObjectView(QTableView):
    """A table of objects; a click on a row goes there.

    Parameters
    ----------
    model
        Its rows.
    go_to
        Called with the row that was clicked.
    """

    def __init__(self, model: ObjectModel, go_to: Callable[[int], object]) -> None:
        super().__init__()
        self._go_to = go_to
        header, rows = self.horizontalHeader(), self.verticalHeader()
        if header is not None:
            header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
            header.setMinimumSectionSize(24)
            header.setHighlightSections(False)
        self.setModel(model)
        self.setSortingEnabled(True)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet(
            "QTableView { background: rgba(124, 136, 148, 30); font-size: 11px; }"
            "QHeaderView::section { font-size: 10px; padding: 1px 2px; }"
        )
        for corner in self.findChildren(QAbstractButton):  # Qt's own, at the upper left
            corner.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            corner.setToolTip("A line an object")
        if rows is not None:
            rows.hide()
            rows.setDefaultSectionSize(_ROW)
        for place, column in enumerate(COLUMNS):
            self.setColumnWidth(place, _WIDTHS.get(column.name, _WIDTH))
        self.clicked.connect(self._on_click)

    def choose(self, at: int | None) -> None:
        """Select a row and bring it into sight, without going anywhere; None selects nothing."""
        selection, model = self.selectionModel(), self.model()
        if selection is None or model is None:
            return
        if at is None:
            selection.clearSelection()
            return
        index = model.index(at, 0)
        self.selectRow(at)
        selection.setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)
        self.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)

    def _on_click(self, index: QModelIndex) -> None:
        self._go_to(index.row())


class ObjectList(QWidget):
    """The table with its filters.

    Parameters
    ----------
    session
        Whose objects were measured.
    picked
        Goes to an object, and tells which one was clicked on the slide.
    """

    filtered = Signal()

    def __init__(self, session: Session, picked: Picked) -> None:
        super().__init__()
        self._session, self._picked = session, picked
        self.rows = ObjectModel()
        self.view = ObjectView(self.rows, self.go_to)
        self.view.setFixedHeight(_HEIGHT)
        tips = ("List one class only", "List what a person checked, or did not", "List one ROI")
        boxes = (quiet_choice(tip, self._on_filter, 6) for tip in tips)
        self.classes, self.checked, self.rois = boxes
        self.checked.addItems([words for words, _ in _CHECKS])
        self.about = text(small=True)
        self.export_button = plain_button(
            "Export list…", "Write the rows listed, in this order, as a table.", self.ask_export
        )
        self.enlarge_button = plain_button(
            "Enlarge", "Show the table in a window of its own.", self.enlarge
        )
        self.large: QDialog | None = None
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(4)
        outer.addLayout(row(self.classes, self.checked, self.rois))
        outer.addWidget(self.view)
        outer.addWidget(self.about)
        outer.addLayout(row(self.export_button, self.enlarge_button))
        picked.changed.connect(self.choose)

    def cleanup(self) -> None:
        """Let go of the slide."""
        self._picked.changed.disconnect(self.choose)
        if self.large is not None:
            self.large.close()

    def show_measured(self) -> None:
        """Show what was measured last."""
        measured, task = self._session.measuring.measured, self._session.task
        if measured is None or measured.table is self.rows.table:
            return
        self.rows.set_table(measured.table, task.classes)
        self.classes.clear()
        self.classes.addItem("All classes", None)
        for spec in task.classes:
            self.classes.addItem(swatch(spec.color, 10), spec.name, spec.value)
        self.rois.clear()
        self.rois.addItem("Whole slide", None)
        for name in measured.table.roi_names:
            self.rois.addItem(name, name)
        self.classes.setVisible(task.n_classes > 1)
        self.rois.setVisible(bool(measured.table.roi_names))
        self._show_filter()

    def show_class(self, value: int | None) -> None:
        """List only this class; None, or the same one again, lists all."""
        now = self.rows.filter
        wanted = None if value == now.value else value
        self._set_filter(Filter(wanted, now.checked, now.roi))

    def show_roi(self, name: str | None) -> None:
        """List only what lies in a region of interest; None is the whole slide."""
        now = self.rows.filter
        known = name if name in self.rows.table.roi_names else None
        self._set_filter(Filter(now.value, now.checked, known))

    def go_to(self, at: int) -> None:
        """Go to the object of a row."""
        table, place = self.rows.table, int(self.rows.rows[at])
        y0, x0 = (float(table.numbers[name][place]) for name in ("centroid_y", "centroid_x"))
        self._picked.fly_to(y0, x0, int(table.ids[place]))

    def choose(self, object_id: int) -> None:
        """Select the row of an object, if it is listed."""
        at = self.rows.row_of(object_id)
        self.view.choose(at)
        if at is None and object_id and len(self.rows.table):
            self._session.say("This object is not in the list: measure again, or list all.")

    def enlarge(self) -> None:
        """Show the table in a window of its own."""
        if self.large is None:
            self.large = QDialog(self.window())
            self.large.setWindowTitle("Objects")
            inside = QVBoxLayout(self.large)
            inside.addWidget(ObjectView(self.rows, self.go_to))
            self.large.resize(760, 620)
        self.large.show()
        self.large.raise_()

    def ask_export(self) -> None:
        """Ask for a name, and write the rows that are listed."""
        slide = self._session.slide
        if slide is None:
            return
        name = slide.path.with_name(f"{slide.path.stem}.{self._session.task.name}.csv")
        kinds = "Table for spreadsheets (*.csv);;Table as Parquet (*.parquet)"
        path, kind = QFileDialog.getSaveFileName(self, "Export list", str(name), kinds)
        if path:
            suffix = ".parquet" if "parquet" in kind else ".csv"
            self.export_to(path if Path(path).suffix else path + suffix)

    def export_to(self, path: str) -> None:
        """Write the rows that are listed, in this order."""
        with self._session.attempt():
            self._session.exporting.start_list(Path(path), self.rows.rows)

    def _on_filter(self, _index: int = 0) -> None:
        checked = _CHECKS[self.checked.currentIndex()][1]
        value, roi = self.classes.currentData(), self.rois.currentData()
        self._set_filter(Filter(value, checked, roi))

    def _set_filter(self, wanted: Filter) -> None:
        self.rows.set_filter(wanted)
        self._show_filter()

    def _show_filter(self) -> None:
        now, table = self.rows.filter, self.rows.table
        for box, value in ((self.classes, now.value), (self.rois, now.roi)):
            box.setCurrentIndex(max(box.findData(value), 0))
        self.checked.setCurrentIndex([check for _, check in _CHECKS].index(now.checked))
        listed = len(self.rows.rows)
        of = "" if listed == len(table) else f" of {len(table):,}"
        self.about.setText(f"{counted(listed, 'row')}{of}. Click one to go there.")
        self.export_button.setEnabled(bool(listed))
        self.filtered.emit()
