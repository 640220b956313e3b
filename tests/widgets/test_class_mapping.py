"""Which class is which: only what the task does not know is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.widgets.class_mapping import LEAVE_OUT, ClassMapping, unknown_classes
from napari_genselfdiff.widgets.hand import Hand
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


@pytest.mark.qt
def test_an_import_asks_and_takes_the_answers(
    looking: Hand, tmp_path: Path, monkeypatch: Any
) -> None:
    session = looking.panel.session
    asked: list[str] = []
    session.choose_task("Regions")
    ring = [[120, 120], [200, 120], [200, 200], [120, 200], [120, 120]]
    shapes = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[x + dx, y] for x, y in ring]]},
            "properties": {"classification": {"name": name}},
        }
        for name, dx in (("Invasive front", 0), ("Ink", 100))
    ]
    file = tmp_path / "theirs.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": shapes}))

    def answer(dialog: ClassMapping) -> int:
        asked.extend(dialog.choices)
        dialog.choices["Invasive front"].setCurrentIndex(0)
        return 1

    monkeypatch.setattr(ClassMapping, "exec", lambda _dialog: 0)
    looking.panel.slide.import_from(str(file))  # cancelled: nothing happens
    assert session.store is not None
    assert not any(session.store.summary("Regions")["classes"].values())
    monkeypatch.setattr(ClassMapping, "exec", answer)
    looking.panel.slide.import_from(str(file))
    assert sorted(asked) == ["Ink", "Invasive front"]
    areas = session.store.summary("Regions")["classes"]
    assert areas[session.task.classes[0].name] == 20 * 20  # 80 pixels on a grid of every fourth
    assert sum(areas.values()) == 20 * 20  # what was left out is not there
    session.correcting.undo()
    assert not any(session.store.summary("Regions")["classes"].values())
