"""The objects that were measured, for Qt: sorted and filtered without copying them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from qtpy.QtCore import QModelIndex, Qt

from napari_genselfdiff.annotation.object_table import ObjectTable, joined
from napari_genselfdiff.widgets.flat_table import RIGHT, FlatTable
from napari_genselfdiff.widgets.look import swatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import ClassSpec

_ROLE: Final = Qt.ItemDataRole
CHECKED: Final = "checked"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in the table, its title, what it is, and its digits after the point."""

    name: str
    title: str
    tip: str
    digits: int = 2


COLUMNS: Final = (
    Column("id", "No.", "Number of the object, the same in every export", 0),
    Column("class", "Class", "Class of the object"),
    Column("area_um2", "µm²", "Area in µm²", 1),
    Column("confidence", "Sure", "How sure the model was, 0 to 1; empty for what a person drew"),
    Column(CHECKED, "Checked", "Share of its pixels a person accepted or drew"),
    Column("perimeter_um", "Around µm", "Length of the outline in µm", 1),
    Column("circularity", "Round", "Circularity, 4π area / perimeter²: 1 for a circle"),
    Column("eccentricity", "Long", "Eccentricity: 0 for a circle, towards 1 for a line"),
    Column("haematoxylin_od", "H", "Mean optical density of haematoxylin"),
    Column("eosin_od", "E", "Mean optical density of eosin"),
    Column("rois", "ROI", "Regions of interest that hold its centre"),
)
MEASURES: Final = tuple(column for column in COLUMNS if column.name not in {"id", "class", "rois"})
"""Columns whose spread can be looked at."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are shown; None is no restriction.

    ``checked`` asks for objects a person stands behind at least partly, or not at all.
    """

    value: int | None = None
    checked: bool | None = None
    roi: str | None = None


class ObjectModel(FlatTable):
    """Rows of a table that was measured, in the order they are shown."""

    def __init__(self) -> None:
        super().__init__([column.title for column in COLUMNS])
        self.table: ObjectTable = joined([])
        self.rows: NDArray[np.intp] = np.empty(0, np.intp)
        self.filter = Filter()
        self._specs: Mapping[int, ClassSpec] = {}
        self._sorted: tuple[int, bool] | None = None

    def set_table(self, table: ObjectTable, classes: tuple[ClassSpec, ...]) -> None:
        """Show another table, with the same order and filter where they still fit."""
        self._specs = {spec.value: spec for spec in classes}
        self.table = table
        if self.filter.roi is not None and self.filter.roi not in table.roi_names:
            self.filter = Filter(self.filter.value, self.filter.checked)
        self._arrange()

    def set_filter(self, wanted: Filter) -> None:
        """Show only some of the rows."""
        if wanted != self.filter:
            self.filter = wanted
            self._arrange()

    def row_of(self, object_id: int) -> int | None:
        """Row in which an object is shown, if it is."""
        found = np.flatnonzero(self.table.ids[self.rows] == object_id)
        return int(found[0]) if object_id and len(found) else None

    def values(self, name: str) -> NDArray[np.float64]:
        """Numbers of a column, of all rows of the table."""
        if name == CHECKED:
            return self.table.numbers["accepted_share"] + self.table.numbers["human_share"]
        return self.table.numbers[name]

    def shown_values(self, name: str) -> NDArray[np.float64]:
        """Numbers of a column, of the rows that are shown, where they are known."""
        values = self.values(name)[self.rows]
        return values[~np.isnan(values)]

    def _arrange(self) -> None:
        self.beginResetModel()
        keep = np.ones(len(self.table), bool)
        if self.filter.value is not None:
            keep &= self.table.values == self.filter.value
        if self.filter.checked is not None:
            keep &= (self.values(CHECKED) > 0) == self.filter.checked
        if self.filter.roi is not None:
            keep &= self.table.in_roi(self.filter.roi)
        self.rows = np.flatnonzero(keep)
        if self._sorted is not None:
            self.rows = self._in_order(*self._sorted)
        self.endResetModel()

    def _in_order(self, column: int, descending: bool) -> NDArray[np.intp]:
        """Rows sorted by a column; what is not known comes last either way."""
        keys = self._keys(COLUMNS[column].name)[self.rows]
        order = np.argsort(-keys if descending else keys, kind="stable")
        return self.rows[order]

    def _keys(self, name: str) -> NDArray[np.float64]:
        if name == "id":
            return self.table.ids.astype(np.float64)
        if name == "class":
            by_name = sorted(self._specs.values(), key=lambda spec: spec.name.casefold())
            places = np.full(256, 256.0)
            for place, spec in enumerate(by_name):
                places[spec.value] = place
            return places[self.table.values]
        if name == "rois":
            some = self.table.inside.any(axis=1)
            first = self.table.inside.argmax(axis=1) if self.table.roi_names else 0
            return np.where(some, first, np.nan)
        return self.values(name)

    # -- Qt's names -----------------------------------------------------------------------------

    def about(self, column: int, role: int) -> Any:
        """What a column is."""
        return f"{COLUMNS[column].tip}. Click to sort." if role == _ROLE.ToolTipRole else None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column (Qt's name for it); -1 is the order in which they were measured."""
        descending = order == Qt.SortOrder.DescendingOrder
        self._sorted = (column, descending) if column >= 0 else None
        self._arrange()

    def data(self, index: QModelIndex, role: int = _ROLE.DisplayRole) -> Any:
        """Text of a cell, with the colour of its class."""
        if not index.isValid():
            return None
        row, column = int(self.rows[index.row()]), COLUMNS[index.column()]
        if role == _ROLE.DisplayRole:
            return self._text(row, column)
        if role == _ROLE.TextAlignmentRole:
            return None if column.name in {"class", "rois"} else RIGHT
        if role == _ROLE.DecorationRole and column.name == "class":
            spec = self._specs.get(int(self.table.values[row]))
            return None if spec is None else swatch(spec.color, 10)
        if role == _ROLE.ToolTipRole:
            return f"{column.tip}. Click to go there."
        return None

    def _text(self, row: int, column: Column) -> str:
        if column.name == "id":
            return f"{self.table.ids[row]}" if self.table.ids[row] else ""
        if column.name == "class":
            spec = self._specs.get(int(self.table.values[row]))
            return "" if spec is None else spec.name
        if column.name == "rois":
            held = zip(self.table.roi_names, self.table.inside[row].tolist(), strict=True)
            return "; ".join(name for name, inside in held if inside)
        if column.name == CHECKED:
            value = self._checked(row)
        else:
            value = float(self.table.numbers[column.name][row])
        return "" if np.isnan(value) else f"{value:,.{column.digits}f}"

    def _checked(self, row: int) -> float:
        """Without adding up two whole columns for one cell."""
        numbers = self.table.numbers
        return float(numbers["accepted_share"][row] + numbers["human_share"][row])
