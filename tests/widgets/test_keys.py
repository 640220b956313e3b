"""Keys one chooses: kept, refused, bound at once, shown on the buttons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDialogButtonBox

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.home import data_home
from napari_genselfdiff.widgets.commands import ACCEPT, TOOLS
from napari_genselfdiff.widgets.controller import Controller
from napari_genselfdiff.widgets.key_dialog import KeyDialog, relabel
from napari_genselfdiff.widgets.key_preferences import EDITABLE, KeyBook, normal_key
from napari_genselfdiff.widgets.keys import Keys, bindings
from napari_genselfdiff.widgets.look import Block, button
from napari_genselfdiff.widgets.tool_grid import ToolGrid

_TEST: Any = QTest  # PyQt's stubs take its static functions for methods


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "keys.json"


def test_the_usual_keys_fit_together(file: Path) -> None:
    book = KeyBook(file)
    assert book.problem == ""
    assert book.key("brush") == "B"
    assert book.key("redo") == "Ctrl+Shift+Z"
    used = [key for key in book.keys.values() if key]
    assert len(used) == len(set(used)) == len(EDITABLE)
    assert not file.exists()


def test_chosen_keys_are_kept_and_reset(file: Path) -> None:
    KeyBook(file).choose({"brush": "k", "erase": "", "cut": "Control-Shift-X"})
    assert json.loads(file.read_text()) == {
        "schema": 1,
        "keys": {"brush": "K", "erase": "", "cut": "Ctrl+Shift+X"},
    }
    again = KeyBook(file)
    assert (again.key("brush"), again.key("erase")) == ("K", "")
    again.reset()
    assert KeyBook(file).key("brush") == "B"
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_the_usual_place_is_among_the_users_data() -> None:
    KeyBook().choose({"fill": "J"})
    assert (data_home() / "keys.json").is_file()
    assert KeyBook().key("fill") == "J"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"brush": "E"}, "E is chosen for"),
        ({"brush": "3"}, "3 chooses a class"),
        ({"brush": "Space"}, "moves the slide"),
        ({"brush": "Escape"}, "puts the tool away"),
        ({"brush": "Foo"}, "not a key napari knows"),
        ({"brush": "Ctrl+"}, "not a key napari knows"),
        ({"brush": "Control-Shift"}, "not a key napari knows"),
        ({"brush": "Ctrl+K Ctrl+C"}, "not a key napari knows"),
    ],
)
def test_keys_that_cannot_be_are_refused_and_the_old_ones_hold(
    file: Path, chosen: dict[str, str], said: str
) -> None:
    book = KeyBook(file)
    with pytest.raises(ConfigError, match=said.replace("+", r"\+")):
        book.choose(chosen)
    assert book.key("brush") == "B"
    assert not file.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"schema": 2, "keys": {}}',
        b'{"schema": 1, "keys": []}',
        b'{"schema": 1, "keys": {"brush": 3}}',
        b'{"schema": 1, "keys": {"brush": "E"}}',
        b'{"schema": 1, "keys": {"brush": "\xff"}}',
        b"[" * 10_000,
        b" " * 100_000,
    ],
)
def test_a_damaged_file_is_named_and_the_usual_keys_hold(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    book = KeyBook(file)
    assert "keys.json" in book.problem
    assert book.key("brush") == "B"
    assert file.read_bytes() == content
    book.choose({"brush": "K"})
    assert KeyBook(file).problem == ""


def test_keys_of_another_version_are_passed_over(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"schema": 1, "keys": {"telepathy": "T", "brush": "K"}}))
    assert KeyBook(file).key("brush") == "K"


def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be kept"):
        KeyBook(tmp_path / "file" / "keys.json").choose({"brush": "K"})


def test_new_keys_are_bound_at_once_on_viewer_and_layers(
    controller: Controller, model: ViewerModel
) -> None:
    def theirs(_: Any) -> None:
        """Somebody else's binding."""

    model.bind_key("K", theirs)
    keys = Keys(model, controller)
    controller.pick_tool("brush")
    layer = controller.layers.edit
    assert layer is not None
    names = {str(key) for key in model.keymap}
    assert {"B", "G", "Enter", "Backspace", "Escape", "1", "9"} <= names
    controller.keys.choose({"brush": "K"})
    for keymap in (model.keymap, layer.keymap):
        assert len(keymap) == len(bindings(controller))
        by_name = {str(key): action for key, action in keymap.items()}
        assert "B" not in by_name
        assert by_name["K"] is not theirs
    keys.cleanup()
    assert list(model.keymap.values()) == [theirs]
    assert not layer.keymap


def test_every_tool_has_a_binding(controller: Controller) -> None:
    found = bindings(controller)
    for tool in TOOLS:
        found[normal_key(TOOLS[tool].key)](None)
        assert controller.tool == tool
        controller.leave()


@pytest.fixture
def grid(qapp: Any, controller: Controller) -> Iterator[ToolGrid]:
    grid = ToolGrid(controller.session, controller)
    yield grid
    grid.cleanup()
    grid.deleteLater()
    qapp.processEvents()


@pytest.mark.qt
def test_buttons_follow_the_keys_and_the_task(grid: ToolGrid, controller: Controller) -> None:
    assert set(grid.tools) == set(TOOLS)
    assert grid.tools["brush"].key == "B"
    controller.keys.choose({"brush": "Ctrl+Alt+B"})
    assert grid.tools["brush"].key == "Ctrl+Alt+B"
    assert "Ctrl+Alt+B" in grid.tools["brush"].toolTip()
    assert grid.tools["split"].isEnabled()
    assert not grid.protect.isVisibleTo(grid)
    controller.session.choose_task("Regions")
    assert not grid.tools["split"].isEnabled()
    assert grid.tools["brush"].isEnabled()
    assert grid.protect.isVisibleTo(grid)
    grid.protect.click()
    assert controller.protect
    controller.pick_tool("lasso")
    assert grid.tools["lasso"].isChecked()
    assert not grid.tools["brush"].isChecked()
    grid.done_button.click()
    assert controller.tool is None


@pytest.mark.qt
def test_other_buttons_are_relabelled(qapp: Any, file: Path) -> None:
    block = Block("Correct", 3)
    accept = button(ACCEPT, lambda: None)
    block.body.addWidget(accept)
    book = KeyBook(file)
    book.choose({"accept_view": "Shift+A"})
    relabel(block, book)
    assert accept.text() == "Accept view  (⇧+A)"
    assert "Shift+A" in accept.toolTip()
    block.deleteLater()


@pytest.mark.qt
def test_the_dialog_takes_pressed_keys_and_says_what_is_wrong(qapp: Any, file: Path) -> None:
    book = KeyBook(file)
    dialog = KeyDialog(book)
    ok = dialog.buttons.button(QDialogButtonBox.StandardButton.Ok)
    assert ok is not None
    field = dialog.fields["brush"]
    _TEST.keyClick(field, Qt.Key.Key_E)
    assert field.text() == "E"
    assert "E is chosen for" in dialog.problem.text()
    assert not ok.isEnabled()
    _TEST.keyClick(field, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    assert field.text() == "Ctrl+K"
    assert ok.isEnabled()
    _TEST.keyClick(dialog.fields["erase"], Qt.Key.Key_Backspace)
    _TEST.keyClick(dialog.fields["fill"], Qt.Key.Key_F5)
    dialog.accept()
    assert (book.key("brush"), book.key("erase"), book.key("fill")) == ("Ctrl+K", "", "F5")
    dialog.reset()
    dialog.accept()
    assert book.key("brush") == "B"
    dialog.deleteLater()
