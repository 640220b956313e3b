"""Which class is which: only what the task does not know is asked."""

from __future__ import annotations

from typing import Any

from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.widgets.class_mapping import LEAVE_OUT, ClassMapping, unknown_classes
from tests.annotation.builders import CELLS


def test_only_unknown_classes_are_asked_for() -> None:
    found = {"lymphocyte": 3, "TIL": 2, "": 1, "Tumour": 5}
    assert unknown_classes(found, CELLS) == ["Tumour", "TIL", ""]
    assert unknown_classes({"": 4, "nucleus": 1}, NUCLEI) == []


def test_answers_become_a_mapping(qtbot: Any) -> None:
    dialog = ClassMapping({"TIL": 2, "Tumour": 5, "Ink": 1}, CELLS, None)
    qtbot.addWidget(dialog)
    assert dialog.mapping() == {"Tumour": None, "TIL": None, "Ink": None}
    dialog.choices["TIL"].setCurrentText("Lymphocyte")
    dialog.choices["Tumour"].setCurrentIndex(0)
    assert dialog.choices["Ink"].currentText() == LEAVE_OUT
    assert dialog.mapping() == {"Tumour": "Tumour cell", "TIL": "Lymphocyte", "Ink": None}
