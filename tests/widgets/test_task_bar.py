"""One click switches the task; + asks for a new one and lets nothing wrong through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QMenu

from napari_genselfdiff.annotation.tasks import PALETTE
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import TaskSpec
from napari_genselfdiff.session.own_tasks import own_tasks_file, read_own_tasks, remember_task
from napari_genselfdiff.session.tasking import check_class_name, check_new_task
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.task_bar import _rows, _shares
from napari_genselfdiff.widgets.task_dialog import TaskDialog, about_sharpness

pytestmark = pytest.mark.qt
_TEST: Any = QTest


def test_a_click_switches_the_task(looking: Hand) -> None:
    panel = looking.panel
    assert list(panel.tasks.buttons) == ["Nuclei", "Glands", "Regions"]
    assert panel.tasks.buttons["Nuclei"].isChecked()
    looking.key("B")
    looking.drag([(200, 200), (200, 230)])
    looking.click(panel.tasks.buttons["Regions"])
    assert panel.session.task.name == "Regions"
    assert panel.tasks.buttons["Regions"].isChecked()
    assert not panel.tasks.buttons["Nuclei"].isChecked()
    assert panel.controller.tool is None
    store = panel.session.store
    assert store is not None
    assert sorted(store.tasks) == ["Nuclei", "Regions"]
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 1}  # what was drawn is saved


def test_a_task_of_ones_own(looking: Hand) -> None:
    panel = looking.panel
    looking.click(panel.tasks.new_button)
    dialog = panel.tasks.dialog
    assert dialog is not None
    assert dialog.isVisible()
    assert not dialog.ok_button.isEnabled()  # type: ignore[union-attr]
    _TEST.keyClicks(dialog.name, "Mitoses")
    _TEST.mouseClick(dialog.add_button, Qt.MouseButton.LeftButton)
    _TEST.keyClicks(dialog.lines[0].name, "Mitosis")
    _TEST.keyClicks(dialog.lines[1].name, "Apoptosis")
    dialog.sharpness.setCurrentIndex(0)
    assert "0.25 µm per pixel" in dialog.about.text()
    _TEST.mouseClick(
        dialog.buttons.button(QDialogButtonBox.StandardButton.Ok), Qt.MouseButton.LeftButton
    )
    looking.rest(0.2)
    assert panel.tasks.dialog is None
    task = panel.session.task
    assert (task.name, task.kind, task.mpp) == ("Mitoses", "objects", 0.25)
    assert [(spec.name, spec.key) for spec in task.classes] == [
        ("Mitosis", "1"),
        ("Apoptosis", "2"),
    ]
    assert len({spec.color for spec in task.classes}) == 2
    assert panel.tasks.buttons["Mitoses"].isChecked()
    assert panel.session.store is not None
    assert "Mitoses" in panel.session.store.tasks
    assert read_own_tasks() == [task]
    panel.session.tasking.rename_class(2, "Apoptotic cell")
    task = panel.session.task
    panel.session.close_slide()
    assert task in panel.session.tasks()  # also for the next slide
    assert task.classes[1].name == "Apoptotic cell"


def test_a_task_of_ones_own_is_forgotten_on_request(hand: Hand) -> None:
    task = TaskSpec.parse(
        {
            "name": "Mitoses",
            "kind": "objects",
            "classes": [{"value": 1, "name": "Mitosis", "color": PALETTE[0]}],
            "mpp": 0.25,
        }
    )
    remember_task(task)
    bar = hand.panel.tasks
    bar.show_tasks()
    bar._offer(task, bar.buttons["Mitoses"], bar.rect().center())
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    menu.actions()[0].trigger()
    menu.close()
    assert read_own_tasks() == []
    assert "Mitoses" not in bar.buttons
    bar._offer(hand.panel.session.task, bar.buttons["Nuclei"], bar.rect().center())
    assert QApplication.activePopupWidget() is None  # what everybody has stays


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "give the task a name"),
        ("nuclei", "there is a task Nuclei already"),
        ("M", "2 to 64 letters"),
        ("../up", "2 to 64 letters"),
        ("Drüsen", "without accents"),
    ],
)
def test_names_that_cannot_be(name: str, words: str, qapp: Any) -> None:
    with pytest.raises(ConfigError, match=words):
        check_new_task(name, ["Nuclei"])
    dialog = TaskDialog(["Nuclei"], None, None)
    dialog.name.setText(name)
    assert words.lower() in dialog.problem.text().lower()
    assert not dialog.ok_button.isEnabled()  # type: ignore[union-attr]
    dialog.name.setText("Lymph nodes")
    assert dialog.ok_button.isEnabled()  # type: ignore[union-attr]
    dialog.deleteLater()


def test_two_classes_need_two_names(qapp: Any) -> None:
    dialog = TaskDialog([], 0.5, None)
    dialog.name.setText("Tissue")
    dialog.areas.setChecked(True)
    assert dialog.kind == "areas"
    assert dialog.mpp == 1.0
    assert len(dialog.lines) == 2
    dialog.lines[0].name.setText("Tumour")
    dialog.lines[1].name.setText("tumour ")
    assert "class Tumour already" in dialog.problem.text()
    dialog._remove(dialog.lines[1])
    assert [spec.name for spec in dialog.task().classes] == ["Tumour"]
    assert not dialog.lines[0].remove_button.isEnabled()
    dialog.lines[0].set_color("#0072B2")
    assert dialog.task().classes[0].color == "#0072B2"
    dialog.deleteLater()
    with pytest.raises(ConfigError, match="64 at most"):
        check_class_name("x" * 65, [])


def test_what_a_resolution_means_for_the_slide() -> None:
    assert "kept at 1 µm" in about_sharpness(1.0, 0.25)
    assert "nothing finer" in about_sharpness(0.25, 0.5)
    assert "slide" not in about_sharpness(0.25, None)


@pytest.mark.parametrize("text", ["", "{", "[1, {}]", '{"name": 1}', "[" * 100_000])
def test_a_damaged_list_of_tasks_does_no_harm(text: str) -> None:
    own_tasks_file().parent.mkdir(parents=True, exist_ok=True)
    own_tasks_file().write_text(text)
    assert read_own_tasks() == []


def test_many_tasks_take_more_rows() -> None:
    assert _rows([100, 100, 100, 34]) == [[0, 1, 2], [3]]
    assert _rows([900]) == [[0]]
    assert _shares(3) == [8, 8, 8]
    assert sum(_shares(5)) == 24


def test_tasks_are_kept_in_order(home: Any) -> None:
    for name in ("Bb", "Aa"):
        values = {"value": 1, "name": "X", "color": PALETTE[0]}
        remember_task(
            TaskSpec.parse({"name": name, "kind": "areas", "classes": [values], "mpp": 1})
        )
    assert [task.name for task in read_own_tasks()] == ["Bb", "Aa"]
    assert len(json.loads(own_tasks_file().read_text())) == 2
