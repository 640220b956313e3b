"""The history: newest on top, equal steps together, read as one scrolls, gone to with a click."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_genselfdiff.annotation.window import Operation
from napari_genselfdiff.errors import StoreCorruptError
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.history_steps import (
    BEGINNING,
    DAMAGED,
    PAGE,
    STEP,
    HistoryModel,
    spoken_time,
)
from tests.session.parts import FakeEngine, predict

pytestmark = pytest.mark.qt
_TEST: Any = QTest


class Long(Sequence[Operation]):
    """A history that notes which operations were looked at."""

    def __init__(self, names: list[str], done: int, damaged: int = -1) -> None:
        self.names, self.done, self.damaged = names, done, damaged
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, at: Any) -> Any:
        self.read.append(at)
        if at == self.damaged:
            raise StoreCorruptError("an undo step is damaged")
        what = self.names[at]
        when = "2024-03-05T10:52:00+00:00"
        box = Region(0, 0, 1, 1)
        return Operation(at + 1, what, "anna", when, "Nuclei", box, at >= self.done)


def shown(names: list[str], done: int | None = None, **more: Any) -> tuple[HistoryModel, Long]:
    history = Long(names, len(names) if done is None else done, **more)
    model = HistoryModel()
    model.set_history(history, history.done)
    return model, history


def titles(model: HistoryModel) -> list[str]:
    return [model.step(row).title for row in range(model.rowCount())]


def test_newest_on_top_and_equal_steps_together(qapp: Any) -> None:
    model, _ = shown(["Predict", "Predict", "Brush", "Predict", "Predict", "Predict"])
    assert titles(model) == ["Predict × 3", "Brush", "Predict × 2", BEGINNING]
    assert [model.step(row).op for row in range(4)] == [6, 3, 2, None]
    assert [model.step(row).is_current for row in range(4)] == [True, False, False, False]
    model.toggle(0)
    assert titles(model)[:4] == ["Predict × 3", "Predict", "Predict", "Predict"]
    assert [model.step(row).op for row in range(1, 4)] == [6, 5, 4]
    model.toggle(2)
    assert titles(model)[0] == "Predict × 3"
    assert model.rowCount() == 4


def test_undone_steps_stand_above_and_are_no_group_with_done_ones(qapp: Any) -> None:
    model, _ = shown(["Brush", "Brush", "Brush"], done=1)
    assert titles(model) == ["Brush × 2", "Brush", BEGINNING]
    assert [model.step(row).undone for row in range(3)] == [True, False, False]
    assert [model.step(row).is_current for row in range(3)] == [False, True, False]
    model, _ = shown(["Brush"], done=0)
    assert [model.step(row).is_current for row in range(2)] == [False, True]


def test_a_thousand_steps_are_read_as_one_scrolls(qapp: Any) -> None:
    names = [f"{'Brush' if at % 3 else 'Predict'}" for at in range(1000)]
    model, history = shown(names)
    assert len(history.read) == PAGE
    assert min(history.read) == 1000 - PAGE
    while model.canFetchMore():
        before = model.rowCount()
        model.fetchMore()
        assert model.rowCount() > before
    assert sorted(set(history.read)) == list(range(1000))
    steps = [model.step(row) for row in range(model.rowCount())]
    assert sum(step.count for step in steps[:-1]) == 1000
    assert steps[-1].title == BEGINNING
    index = model.index(5, 0)
    assert model.data(index, STEP) == steps[5]
    assert "anna" in model.data(index, Qt.ItemDataRole.DisplayRole)


def test_a_group_that_goes_on_beyond_a_page_stays_one_line(qapp: Any) -> None:
    model, _ = shown(["Brush"] + ["Predict"] * 200)
    while model.canFetchMore():
        model.fetchMore()
    assert titles(model) == ["Predict × 200", "Brush", BEGINNING]


def test_what_was_scrolled_to_stays_after_a_step(qapp: Any) -> None:
    names = [f"Step {at}" for at in range(300)]
    model, history = shown(names)
    model.fetchMore()
    history.read.clear()
    model.set_history(history, 250)
    assert model.rowCount() == 2 * PAGE


def test_a_damaged_step_ends_the_list(qapp: Any) -> None:
    model, _ = shown(["Brush", "Erase", "Fill"], damaged=0)
    assert titles(model) == ["Fill", "Erase", DAMAGED]
    assert not model.step(2).can_go
    assert not model.canFetchMore()


def test_times_are_spoken() -> None:
    now = datetime.now(UTC)
    assert spoken_time(now.isoformat()) == f"{now.astimezone():%H:%M}"
    old = spoken_time("2024-03-05T12:00:00+00:00", with_day=True)
    assert "Mar 2024" in old
    assert "Mar" in spoken_time("2024-03-05T12:00:00+00:00")
    assert spoken_time("yesterday") == "yesterday"


def click_row(hand: Hand, row: int, x: int = 60) -> None:
    view = hand.panel.correct.history.view
    index = view.steps.index(row, 0)
    at = QPoint(view.visualRect(index).left() + x, view.visualRect(index).center().y())
    viewport = view.viewport()
    assert viewport is not None
    _TEST.mouseClick(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)
    hand.rest(0.1)


def test_a_click_goes_back_and_forth(looking: Hand, closed: tuple[Session, FakeEngine]) -> None:
    session, engine = closed
    history = looking.panel.correct.history
    assert not history.is_open  # folded at first, and nothing is read
    for x in (130, 180, 230):
        predict(session, engine, Region(120, x, 60, 60), (150, x + 25, 12))
    looking.key("A")
    assert "4 steps" in history.head.text()
    looking.click(history.head)
    steps = history.view.steps
    assert titles(steps) == ["Accept view", "Predict × 3", BEGINNING]
    store = session.store
    assert store is not None
    click_row(looking, 1)
    assert store.summary("Nuclei")["pixels"]["accepted"] == 0
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 3}
    assert steps.step(0).undone
    assert steps.step(1).is_current
    click_row(looking, 1, x=8)  # the arrow: each of the group
    assert titles(steps) == ["Accept view", "Predict × 3", *["Predict"] * 3, BEGINNING]
    click_row(looking, 4)
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 1}
    click_row(looking, steps.rowCount() - 1)
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 0}
    click_row(looking, 0)
    assert store.summary("Nuclei")["pixels"]["accepted"] > 0
    assert store.summary("Nuclei")["objects"] == {"Nucleus": 3}
    assert "again: 4 steps" in looking.panel.foot.line.text()
