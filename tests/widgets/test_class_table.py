"""The table of classes, with real clicks: choose, hide, rename, recolour, add, merge, undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QLineEdit, QMenu

from napari_genselfdiff.annotation.tasks import PALETTE
from napari_genselfdiff.session.class_rows import ClassRow, spoken_area, square_millimetres
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.class_dialogs import MergeDialog, NewClass, consequences
from napari_genselfdiff.widgets.class_model import CHECKED, EYE, KEY, NAME, OBJECTS
from napari_genselfdiff.widgets.class_table import ClassTable
from napari_genselfdiff.widgets.colors import NAMES
from napari_genselfdiff.widgets.hand import Hand
from tests.session.parts import FakeEngine, predict

pytestmark = pytest.mark.qt
_TEST: Any = QTest
Opened = tuple[Session, FakeEngine]


@pytest.fixture
def regions(looking: Hand) -> Hand:
    """The task with two classes."""
    looking.click(looking.panel.tasks.buttons["Regions"])
    return looking


def table(hand: Hand) -> ClassTable:
    return hand.panel.correct.classes


def cell(hand: Hand, row: int, column: int) -> Any:
    model = table(hand).rows
    return model.data(model.index(row, column))


def at(hand: Hand, row: int, column: int, x: int = 40) -> tuple[Any, QPoint]:
    view = table(hand).view
    area = view.visualRect(table(hand).rows.index(row, column))
    return view.viewport(), QPoint(area.left() + min(x, area.width() - 3), area.center().y())


def click(hand: Hand, row: int, column: int, x: int = 40) -> None:
    viewport, point = at(hand, row, column, x)
    _TEST.mouseClick(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, point)
    hand.rest(0.1)


def edit(hand: Hand, row: int, column: int, text: str) -> None:
    viewport, point = at(hand, row, column)
    for act in (_TEST.mouseClick, _TEST.mouseDClick):
        act(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, point)
    hand.rest(0.05)
    editor = viewport.findChild(QLineEdit)
    assert editor is not None
    editor.selectAll()
    _TEST.keyClicks(editor, text)
    _TEST.keyClick(editor, Qt.Key.Key_Return)
    hand.rest(0.1)


def ok(dialog: Any) -> None:
    box = dialog.findChild(QDialogButtonBox)
    _TEST.mouseClick(box.button(QDialogButtonBox.StandardButton.Ok), Qt.MouseButton.LeftButton)


def test_lines_add_up_to_the_slide(looking: Hand, closed: Opened) -> None:
    predict(*closed, Region(100, 100, 200, 240), (150, 150, 12), (250, 300, 15))
    looking.key("A")
    looking.until(lambda: cell(looking, 0, CHECKED) == "100 %", "counting", 10)
    assert [cell(looking, row, NAME) for row in range(3)] == ["Nucleus", "Background", "Unknown"]
    assert cell(looking, 0, OBJECTS) == "2"
    assert cell(looking, 0, KEY) == "1"
    assert cell(looking, 1, CHECKED) == "100 %"
    assert cell(looking, 2, CHECKED) == ""
    rows = table(looking).rows.rows
    assert sum(row.pixels for row in rows) == 600 * 800
    store = closed[0].store
    assert store is not None
    assert rows[0].pixels == store.summary("Nuclei")["classes"]["Nucleus"]


def test_what_only_the_model_said_is_not_checked(looking: Hand, closed: Opened) -> None:
    predict(*closed, Region(0, 0, 600, 800), (150, 150, 12), (550, 700, 12))
    looking.key("A")
    looking.until(lambda: cell(looking, 0, CHECKED) == "50 %", "counting", 10)
    assert cell(looking, 1, CHECKED) not in {"", "0 %", "100 %"}
    looking.key("Ctrl+Z")
    looking.until(lambda: cell(looking, 0, CHECKED) == "0 %", "counting", 10)


def test_a_click_chooses_and_an_eye_hides(regions: Hand) -> None:
    controller, layers = regions.panel.controller, regions.panel.controller.layers
    click(regions, 1, NAME)
    assert controller.class_value == 2
    assert table(regions).rows.chosen == 2
    assert layers.shown is not None
    assert layers.checked is not None
    steps = len(regions.panel.session.store.history)  # type: ignore[union-attr]
    click(regions, 0, EYE, 8)
    assert layers.shown.get_color(1)[3] == 0
    assert layers.shown.get_color(2)[3] == 1
    click(regions, 0, EYE, 8)
    assert layers.shown.get_color(1)[3] == 1
    click(regions, 3, EYE, 8)  # unknown
    assert layers.checked.get_color(1)[3] > 0
    click(regions, 2, EYE, 8)  # background: the lines around what was checked
    assert layers.checked.get_color(3)[3] == 0
    assert len(regions.panel.session.store.history) == steps  # type: ignore[union-attr]


def test_rename_and_key_by_double_click(regions: Hand) -> None:
    session = regions.panel.session
    edit(regions, 0, NAME, "Carcinoma")
    assert session.task.classes[0].name == "Carcinoma"
    edit(regions, 0, NAME, "Stroma")
    assert session.task.classes[0].name == "Carcinoma"
    assert "already" in session.status.text
    assert session.status.tone == "error"
    edit(regions, 1, KEY, "7")
    assert session.task.classes[1].key == "7"
    regions.key("7")
    assert regions.panel.controller.class_value == 2
    for _ in range(2):
        regions.key("Ctrl+Z")
    assert [spec.name for spec in session.task.classes] == ["Tumour", "Stroma"]
    assert session.task.classes[1].key == "2"


def test_a_colour_from_the_palette(regions: Hand) -> None:
    session = regions.panel.session
    click(regions, 0, NAME, 8)
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    assert [entry.text() for entry in menu.actions()] == list(NAMES.values())
    menu.actions()[1].trigger()
    menu.close()
    regions.rest(0.1)
    assert session.task.classes[0].color == PALETTE[1]
    shown = regions.panel.controller.layers.shown
    assert shown is not None
    assert shown.get_color(1)[1] == pytest.approx(0x9E / 255, abs=0.01)


def test_a_new_class_is_in_hand(regions: Hand) -> None:
    session = regions.panel.session
    regions.click(table(regions).add_button)
    dialog = table(regions).dialog
    assert isinstance(dialog, NewClass)
    _TEST.keyClicks(dialog.line.name, "Necrosis")
    ok(dialog)
    regions.rest(0.2)
    spec = session.task.classes[-1]
    assert (spec.name, spec.key) == ("Necrosis", "3")
    assert spec.color not in {one.color for one in session.task.classes[:-1]}
    assert regions.panel.controller.class_value == spec.value
    assert cell(regions, 2, NAME) == "Necrosis"
    regions.key("Ctrl+Z")
    assert cell(regions, 2, NAME) == "Background"


def test_merging_says_what_it_does_and_is_undone(regions: Hand) -> None:
    session = regions.panel.session
    store = session.store
    assert store is not None
    for value, y in ((1, 10), (2, 40)):
        before = store.read("Regions", Region(y, 10, 20, 20))
        after = before.copy()
        after.classes[...] = value
        store.write_edit("Regions", before, after, what="Brush")
    regions.rest(0.7)
    regions.click(table(regions).merge_button)
    dialog = table(regions).dialog
    assert isinstance(dialog, MergeDialog)
    assert dialog.choice() == (1, 2)
    assert "400 pixels" in dialog.words.text()
    assert "become Stroma" in dialog.words.text()
    dialog.gone.setCurrentIndex(1)
    assert dialog.choice() == (2, 1)
    assert "become Tumour" in dialog.words.text()
    ok(dialog)
    regions.rest(0.2)
    assert [spec.name for spec in session.task.classes] == ["Tumour"]
    assert store.summary("Regions")["classes"] == {"Tumour": 800}
    assert not table(regions).merge_button.isEnabled()
    regions.key("Ctrl+Z")
    assert store.summary("Regions")["classes"] == {"Tumour": 400, "Stroma": 400}


def test_a_menu_offers_everything(regions: Hand) -> None:
    view = table(regions).view
    _, point = at(regions, 0, NAME)
    table(regions)._offer(point)
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    entries = [entry.text() for entry in menu.actions()]
    assert entries == ["Hide", "Rename…", "Colour", "Merge into…"]
    menu.actions()[0].trigger()
    menu.close()
    assert regions.panel.controller.layers.hidden_classes == {1}
    table(regions)._offer(view.visualRect(table(regions).rows.index(2, NAME)).center())
    assert QApplication.activePopupWidget() is None


def test_nothing_can_be_changed_that_is_only_looked_at(hand: Hand, opened_twice: Path) -> None:
    hand.panel.controller.open_slide(str(opened_twice))
    hand.rest(0.2)
    assert hand.panel.session.store is not None
    assert hand.panel.session.store.read_only
    assert not table(hand).add_button.isEnabled()
    model = table(hand).rows
    assert not model.flags(model.index(0, NAME)) & Qt.ItemFlag.ItemIsEditable


@pytest.fixture
def opened_twice(slide_path: Path) -> Any:
    """A slide whose annotations another window owns."""
    from napari_genselfdiff.annotation.store import default_store_path
    from napari_genselfdiff.annotation.tasks import NUCLEI
    from napari_genselfdiff.slides.slide import open_slide
    from tests.annotation.builders import store_of

    with open_slide(slide_path) as slide:
        store = store_of(slide, default_store_path(slide_path))
    store.add_task(NUCLEI)
    yield slide_path
    store.close()


def test_words_for_areas_and_merging() -> None:
    assert spoken_area(812.4) == "812 µm²"
    assert spoken_area(520_000) == "0.520 mm²"
    assert [square_millimetres(area) for area in (0, 5, 2300, 3.4e6, 6.12e8)] == [
        "0",
        "<0.001",
        "0.002",
        "3.40",
        "612",
    ]
    row = ClassRow("class", "Stroma", None, 0, 0.0, None, None)
    assert "only the class goes" in consequences(row, "Tumour")
    row = ClassRow("class", "Cell", None, 4000, 250.0, 12, 0.25)
    words = consequences(row, "Tumour")
    assert "12 objects, 4,000 pixels (250 µm²), of Cell become Tumour" in words
    assert "25 % of it stays checked" in words
