"""After a crash a card says what was recovered; keep, discard, compare. Nothing waits for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.annotation.window import Operation
from napari_genselfdiff.errors import StoreError
from napari_genselfdiff.session.recovering import LARGEST, recovered_places
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.recovery_card import named_steps
from tests.session.parts import FakeEngine, predict

pytestmark = pytest.mark.qt
Opened = tuple[Session, FakeEngine]


def crash(session: Session, slide_path: Path) -> None:
    """Leave the annotations as a process that was killed leaves them."""
    assert session.store is not None
    note = session.store.path / "owner.json"
    text = note.read_bytes()
    session.close_slide()
    note.write_bytes(text)


@pytest.fixture
def lost(closed: Opened, slide_path: Path) -> Path:
    """A slide with one step of a session that was closed, and two of one that was killed."""
    session = closed[0]
    session.open_slide(slide_path)
    predict(*closed, Region(100, 100, 200, 240), (150, 150, 12))
    session.close_slide()
    session.open_slide(slide_path)
    predict(*closed, Region(100, 100, 200, 240), (220, 220, 12))
    session.correcting.accept(Region(400, 500, 100, 100), 1.0)
    crash(session, slide_path)
    return slide_path


@pytest.fixture
def crashed(lost: Path, hand: Hand) -> Hand:
    """That slide opened again."""
    hand.panel.controller.open_slide(str(lost))
    hand.rest(0.3)
    return hand


def test_nothing_is_said_where_nothing_was_lost(looking: Hand) -> None:
    assert not looking.panel.recovery.isVisible()


def test_what_was_recovered_is_named_and_kept(crashed: Hand) -> None:
    card, session = crashed.panel.recovery, crashed.panel.session
    assert card.isVisible()
    assert "2 steps were made" in card.words.text()
    assert "Accept view in Nuclei" in card.steps.text()
    crashed.click(card.keep_button)
    assert not card.isVisible()
    assert session.store is not None
    assert session.store.summary("Nuclei")["pixels"]["accepted"] == 10_000
    assert session.status.text.startswith("Kept")


def test_discard_goes_back_and_redo_brings_it_again(crashed: Hand) -> None:
    card, session = crashed.panel.recovery, crashed.panel.session
    crashed.click(card.discard_button)
    assert not card.isVisible()
    assert session.store is not None
    assert session.store.summary("Nuclei")["pixels"]["accepted"] == 0
    assert session.store.read("Nuclei", Region(150, 150, 1, 1)).ids[0, 0]
    assert not session.store.read("Nuclei", Region(220, 220, 1, 1)).ids[0, 0]
    crashed.panel.controller.redo()
    crashed.panel.controller.redo()
    assert session.store.summary("Nuclei")["pixels"]["accepted"] == 10_000


def test_one_goes_on_working_meanwhile(crashed: Hand) -> None:
    card = crashed.panel.recovery
    crashed.panel.controller.clear_view()
    crashed.rest(0.1)
    assert card.isVisible()
    assert "also takes back 1 step made since" in card.steps.text()


def test_places_are_compared_side_by_side(crashed: Hand) -> None:
    card = crashed.panel.recovery
    crashed.click(card.compare_button)
    dialog = card.comparison
    assert dialog is not None
    assert dialog.isVisible()
    assert "place 1 of 2" in dialog.title.text()
    assert not dialog.back_button.isEnabled()
    crashed.click(dialog.next_button)
    assert "place 2 of 2" in dialog.title.text()
    assert not dialog.next_button.isEnabled()
    shown = [label.pixmap() for label in dialog.pictures.values()]
    before, after = (picture.toImage() for picture in shown if picture is not None)
    assert before != after
    visible = crashed.panel.controller.visible()
    assert visible is not None
    assert visible.contains(Region(145, 145, 70, 70))
    crashed.click(card.keep_button)
    crashed.rest(0.1)
    assert card.comparison is None


def test_places_are_what_changed(crashed: Hand) -> None:
    accepted, predicted = recovered_places(crashed.panel.session)
    assert accepted.changed == 0  # only who stands behind it is different
    assert predicted.region0.contains(Region(210, 210, 20, 20))
    assert predicted.changed > 2 * 400
    assert predicted.image.shape[:2] == predicted.before.shape == predicted.after.shape
    outside = np.ones(predicted.before.shape, bool)
    outside[predicted.inside] = False
    np.testing.assert_array_equal(predicted.before[outside], predicted.after[outside])
    assert max(predicted.region0.shape) <= LARGEST


def test_a_place_inside_another_one_is_shown_once(crashed: Hand, slide_path: Path) -> None:
    session = crashed.panel.session
    for region in (Region(400, 500, 50, 50), Region(450, 500, 100, 100)):
        session.correcting.accept(region, 1.0)
    crash(session, slide_path)
    session.open_slide(slide_path)
    shown = {place.region0 for place in recovered_places(session)}
    assert Region(400, 500, 50, 50) not in shown
    assert len(shown) == 3


def test_only_the_newest_steps_are_named() -> None:
    box = Region(0, 0, 1, 1)
    steps = [
        Operation(n, f"Step {n}", "anna", "2026-01-01T00:00:00+00:00", "Nuclei", box)
        for n in range(1, 7)
    ]
    words = named_steps(steps, 5)
    assert words.splitlines()[0].startswith("Step 5 in Nuclei")
    assert "and 2 steps before" in words
    assert "takes back 1 step made since" in words


def test_work_kept_aside_is_told_and_brought_back(
    looking: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, session = looking.panel.aside, looking.panel.session
    store = session.store
    assert store is not None
    assert not card.isVisible()
    monkeypatch.setattr(type(store), "kept_aside", tmp_path)
    looking.rest(0.1)
    assert card.isVisible()
    assert "kept safe on this computer" in card.words.text()
    tries: list[int] = []

    def fails(_store: object) -> bool:
        tries.append(1)
        raise StoreError("cannot save the annotations: the disk is full")

    monkeypatch.setattr(type(store), "return_home", fails)
    looking.click(card.button)
    assert tries == [1]
    assert "disk is full" in session.status.text
    assert card.isVisible()
    monkeypatch.undo()
    looking.click(card.button)
    assert not card.isVisible()
    assert "back in its own folder" in session.status.text
