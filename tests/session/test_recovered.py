"""What the session does with annotations that changed on their own terms: recovery, notices."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import ClassSpec
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.faults import refusing
from tests.session.parts import FakeEngine, predict

Opened = tuple[Session, FakeEngine]
VIEW = Region(100, 120, 200, 240)


def test_a_lost_session_is_told_at_the_next_start(opened: Opened, slide_path: Path) -> None:
    session, _ = opened
    session.correcting.accept(VIEW, 1.0)
    assert session.store is not None
    note = (session.store.path / "owner.json").read_bytes()
    session.close_slide()
    (slide_path.with_name("case.tif.gsd.zarr") / "owner.json").write_bytes(note)  # as after a crash
    session.open_slide(slide_path)
    assert session.status.tone == "warning"
    assert "1 step was made since" in session.status.text
    assert session.store is not None
    recovery = session.store.recovery
    assert recovery is not None
    assert [op.what for op in recovery.operations] == ["Accept view"]
    recovery.discard()
    assert session.store.summary("Nuclei")["pixels"]["accepted"] == 0


def test_a_notice_is_not_hidden_by_what_a_verb_says(opened: Opened) -> None:
    session, _ = opened
    session.correcting.accept(VIEW, 1.0)
    assert session.store is not None
    session.store.quota = 0
    session.correcting.accept(VIEW.shifted(0, 300), 1.0)
    session.poll()
    assert session.status.tone == "warning"
    assert "can no longer be undone" in session.status.text
    session.correcting.undo()
    session.poll()
    assert session.status.text.startswith("Undone")


def test_the_task_follows_its_classes(opened: Opened) -> None:
    session, _ = opened
    heard: list[str] = []
    session.events.task_changed.connect(lambda: heard.append(session.task.classes[-1].name))
    assert session.store is not None
    session.store.add_class("Nuclei", "Mitosis", "#009E73")
    assert session.task.classes[-1].name == "Mitosis"
    session.correcting.undo()
    assert heard == ["Mitosis", "Nucleus"]


def test_a_model_still_predicts_after_a_class_was_added_or_merged(opened: Opened) -> None:
    session, engine = opened
    assert session.store is not None
    new = session.store.add_class("Nuclei", "Mitosis", "#009E73").value
    session.store.merge_classes("Nuclei", 1, new)
    predict(session, engine, VIEW, (200, 220, 20))
    assert session.store.summary("Nuclei")["objects"]["Mitosis"] > 0


def test_a_model_with_other_classes_is_refused_before_it_runs(opened: Opened) -> None:
    """One that the task does not have, and cannot get: there is another class of that name."""
    session, engine = opened
    assert session.model is not None
    task = session.model.card.task
    foreign = ClassSpec(value=9, name=task.classes[0].name, color="#009E73")
    task = task.model_copy(update={"classes": (foreign,)})
    card = session.model.card.model_copy(update={"task": task})
    object.__setattr__(session.model, "card", card)
    runs = len(engine.requests)
    with pytest.raises(ConfigError, match="cannot be used here"):
        session.predicting.start(VIEW)
    assert len(engine.requests) == runs


def test_a_full_disk_is_told_at_once_and_the_work_goes_on(opened: Opened, slide_path: Path) -> None:
    session, _ = opened
    assert session.store is not None
    with refusing(session.store.path, errno.ENOSPC):
        assert session.correcting.accept(VIEW, 1.0) == VIEW.area
        session.poll()
        assert session.status.tone == "warning"
        assert "disk is full" in session.status.text
        assert "kept safe on this computer" in session.status.text
        session.close_slide()
        session.open_slide(slide_path)
        assert session.status.tone == "warning"
        assert "kept safe on this computer" in session.status.text
        assert session.store.summary("Nuclei")["pixels"]["accepted"] == VIEW.area
    session.close_slide()  # there is room again
    session.open_slide(slide_path)
    assert session.store.kept_aside is None
    assert session.store.summary("Nuclei")["pixels"]["accepted"] == VIEW.area
