"""What Refine promises, what its outcome does, and the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from napari_genselfdiff.annotation.tasks import REGIONS
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.learning.before_after import RefinePreview
from napari_genselfdiff.learning.refine import RefineProgress, RefineRequest
from napari_genselfdiff.learning.verdict_words import Decision
from napari_genselfdiff.registry.folder import Model, read_model
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.registry.networks import make_backbone
from tests.session.parts import FakeEngine, make_model, refine_result

Opened = tuple[Session, FakeEngine]


def corrected(session: Session) -> None:
    """Two checked tiles of 256 pixels."""
    session.correcting.accept(Region(0, 0, 256, 512), 1.0)


def finish(session: Session, engine: FakeEngine, decision: Decision = "better") -> Model:
    """End the running job with a model of other weights."""
    request = engine.requests[-1][1]
    assert isinstance(request, RefineRequest)
    model = make_model(request.out, 5, name=request.name)
    engine.jobs[-1].on_end("done", refine_result(model, decision))
    session.poll()
    return model


def test_plan_counts_tiles_and_says_how_long(opened: Opened) -> None:
    session, _ = opened
    assert not session.refining.plan().ready
    with pytest.raises(ConfigError, match="accept a few places"):
        session.refining.start()
    corrected(session)
    plan = session.refining.plan()
    assert plan.ready
    assert plan.tiles == 2
    assert "2 checked tiles" in plan.sentence
    assert "old model is kept" in plan.sentence


def test_request_carries_the_checked_tiles_and_the_shipped_model(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    session.refining.start()
    request = engine.requests[-1][1]
    assert isinstance(request, RefineRequest)
    assert len(request.tiles) == 2
    assert request.tiles[0].known.any()
    (slide,) = request.slides
    assert session.slide is not None
    assert slide.path == session.slide.path
    assert len(slide.checked) == 2
    assert session.model is not None
    assert request.current == request.base == session.model.path
    assert request.name != "nuclei"
    with pytest.raises(ConfigError, match="running"):
        session.refining.start()


def test_progress_draws_the_curve(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    session.refining.start()
    engine.jobs[-1].on_partial(RefineProgress("preparing", 0.0, 30.0))
    engine.jobs[-1].on_partial(RefineProgress("learning", 0.4, 12.0, 80, 0.51))
    session.poll()
    assert session.refining.losses == [(80, 0.51)]
    activity = session.refining.activity
    assert activity is not None
    assert (activity.share, activity.eta_s) == (0.4, 12.0)


def test_better_model_is_used_by_itself_and_one_click_goes_back(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    old = session.model
    session.refining.start()
    made = finish(session, engine)
    outcome = session.refining.outcome
    assert outcome is not None
    assert outcome.in_use
    assert session.model is not None
    assert session.model.card.weights_sha256 != (old and old.card.weights_sha256)
    assert session.model.path.parent == session.registry.models_dir
    assert not made.path.exists()  # the run's folder is gone, the registry has its copy
    session.refining.go_back()
    assert session.model == old
    assert not session.refining.outcome.in_use  # type: ignore[union-attr]


def test_worse_model_is_kept_but_not_used_unless_asked(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    old = session.model
    session.refining.start()
    finish(session, engine, "not_better")
    assert session.model == old
    assert len(session.models()) == 2
    session.refining.use_new()
    assert session.model != old
    session.refining.keep_old()
    assert session.model == old


def test_too_little_to_judge_leaves_the_choice(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    session.refining.start()
    finish(session, engine, "too_little")
    outcome = session.refining.outcome
    assert outcome is not None
    assert not outcome.decided
    session.refining.keep_old()
    assert session.refining.outcome is not None
    assert session.refining.outcome.decided


def test_cancel_leaves_the_model_and_no_folder(opened: Opened) -> None:
    session, _engine = opened
    corrected(session)
    old = session.model
    session.refining.start()
    assert session.refining.cancel()
    session.poll()
    assert session.model == old
    assert session.refining.activity is None
    assert list(Path(session.registry.root / "runs").iterdir()) == []


def test_stop_while_learning_judges_what_was_learnt_and_a_second_one_cancels(
    opened: Opened,
) -> None:
    session, engine = opened
    corrected(session)
    session.refining.start()
    engine.jobs[-1].on_partial(RefineProgress("learning", 0.4, 12.0, 80, 0.51))
    session.poll()
    session.refining.stop()
    assert engine.concluded == [engine.jobs[-1]]
    assert not engine.jobs[-1].done  # it is judged now
    session.refining.stop()
    assert engine.jobs[-1].state == "cancelled"


def test_stop_before_anything_was_learnt_cancels(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    session.refining.start()
    session.refining.stop()
    assert engine.concluded == []
    assert engine.jobs[-1].state == "cancelled"


def test_failed_refine_is_one_line(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    session.refining.start()
    engine.jobs[-1].on_end("failed", error="not enough memory to learn; close other programs")
    session.poll()
    assert session.status.tone == "error"
    assert session.refining.activity is None
    assert session.refining.outcome is None


def test_refining_a_refined_model_starts_from_the_shipped_one(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    shipped = session.model
    assert shipped is not None
    session.refining.start()
    request = engine.requests[-1][1]
    model = make_model(request.out, 5, name=request.name, parent=shipped.hash)
    engine.jobs[-1].on_end("done", refine_result(model))
    session.poll()
    session.refining.start()
    second = engine.requests[-1][1]
    assert second.base == shipped.path
    assert second.current != shipped.path


def test_deciding_without_an_outcome_says_so(opened: Opened) -> None:
    session, _ = opened
    with pytest.raises(ConfigError, match="refine first"):
        session.refining.use_new()
    with pytest.raises(ConfigError, match="no earlier model"):
        session.refining.go_back()


def test_a_task_without_a_model_gets_its_first_one(opened: Opened) -> None:
    session, engine = opened
    session.choose_task("Regions")
    assert session.model is None
    assert "Refine makes the first one" in session.refining.plan().sentence
    session.correcting.accept(Region(0, 0, 512, 512), 1.0)
    plan = session.refining.plan()
    assert plan.ready
    assert "first model for Regions" in plan.sentence
    session.refining.start()
    request = engine.requests[-1][1]
    assert request.current == request.base
    assert request.name == "regions"
    assert read_model(request.current).card.task.name == "Regions"

    model = make_model(request.out, 5, name=request.name, task=REGIONS, classes=2)
    engine.jobs[-1].on_end("done", refine_result(model, "better"))
    session.poll()
    outcome = session.refining.outcome
    assert outcome is not None
    assert outcome.in_use
    assert outcome.old is None
    used = session.open_model()
    assert used.card.name == "regions"
    assert "Press Predict" in session.status.text
    assert session.registry.base(used).hash == used.hash


def test_a_first_model_begins_with_the_backbone_in_use(opened: Opened, tmp_path: Path) -> None:
    session, engine = opened
    backbones = session.registry.backbones
    mine = backbones.use(make_backbone(tmp_path / "scanner", 3))
    session.choose_task("Regions")
    session.correcting.accept(Region(0, 0, 512, 512), 1.0)
    session.refining.start()
    assert "beginning with the backbone scanner" in session.status.text
    start = read_model(engine.requests[-1][1].current)
    assert start.card.recipe["backbone"] == mine.hash
    unet = mine.load().unet.state_dict()
    begun = start.load().unet.state_dict()
    assert all(torch.equal(begun[name], unet[name]) for name in unet)


def test_a_backbone_in_use_that_is_gone_is_said_before_anything_runs(
    opened: Opened, tmp_path: Path
) -> None:
    session, engine = opened
    used = session.registry.backbones.use(make_backbone(tmp_path / "scanner", 3))
    shutil.rmtree(used.path)
    session.choose_task("Regions")
    session.correcting.accept(Region(0, 0, 512, 512), 1.0)
    before = len(engine.requests)
    with pytest.raises(ModelFileError, match="'scanner', is gone"):
        session.refining.start()
    assert len(engine.requests) == before
    assert session.refining.activity is None


def test_a_first_look_is_shown_while_it_learns_and_gone_afterwards(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    session.refining.start()
    look = RefinePreview(better=False, old=0.7, new=0.6, picture=None, seconds=2.0)
    engine.jobs[-1].on_partial(look)
    session.poll()
    assert session.refining.preview is look
    finish(session, engine)
    assert session.refining.preview is None


def test_a_class_drawn_that_the_model_does_not_know_is_announced_and_asked_for(
    opened: Opened,
) -> None:
    session, engine = opened
    corrected(session)
    added = session.tasking.add_class("Plasma cell", "#E69F00")
    assert "new class" not in session.refining.plan().sentence  # nobody drew one yet
    draw(session, added.value)
    assert "with Plasma cell as a new class" in session.refining.plan().sentence
    session.refining.start()
    request = engine.requests[-1][1]
    assert request.asked is not None
    assert [spec.name for spec in request.asked.task.classes] == ["Nucleus", "Plasma cell"]
    assert any((tile.classes == added.value).any() for tile in request.tiles)


def test_a_merged_class_is_announced_as_what_it_is_now(opened: Opened) -> None:
    session, engine = opened
    corrected(session)
    added = session.tasking.add_class("Plasma cell", "#E69F00")
    draw(session, added.value)
    session.refining.start()
    request = engine.requests[-1][1]
    both = request.asked.task
    model = make_model(request.out, 5, name=request.name, task=both, classes=2)
    engine.jobs[-1].on_end("done", refine_result(model, "better"))
    session.poll()
    assert "new class" not in session.refining.plan().sentence
    session.tasking.merge_classes(added.value, 1)
    assert "with Plasma cell as Nucleus" in session.refining.plan().sentence
    session.refining.start()
    assert dict(engine.requests[-1][1].asked.merged) == {added.value: 1}


def draw(session: Session, value: int) -> None:
    """A square of a class."""
    _, store = session.open_store()
    before = store.read("Nuclei", Region(0, 0, 64, 64))
    after = before.copy()
    after.classes[8:24, 8:24] = value
    after.ids[8:24, 8:24] = 1_000
    store.write_edit("Nuclei", before, after, what="Draw")
