from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_genselfdiff.engine import tasks
from napari_genselfdiff.engine.engine import Engine
from napari_genselfdiff.engine.tasks import Context
from napari_genselfdiff.errors import JobFailedError
from napari_genselfdiff.learning import refine as learning
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import (
    RegionDone,
    TileDone,
    segment_region,
)
from napari_genselfdiff.registry.card import ModelCard
from napari_genselfdiff.registry.folder import Model, read_model, write_model
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from tests.engine.slide_runs import balanced_model

PROFILE = Profile(threads=1)


@pytest.fixture(scope="module")
def slide_path(folder: Path, make_slide: Callable[..., Path]) -> Path:
    return make_slide(folder / "slide.tif", 620, 700, mpp=0.5)


@pytest.fixture(scope="module")
def model(folder: Path, make_tissue: Callable[..., Any]) -> Model:
    return balanced_model(folder / "tiny", make_tissue, foreground=0.5, tile=160)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


REGION = Region(90, 60, 200, 260)


def test_the_engine_gives_the_bytes_of_the_command_line(
    engine: Engine, slide_path: Path, model: Model
) -> None:
    """The plugin predicts in a worker, commands in their own process: equal labels."""
    job = engine.predict(slide_path, None, model.path, REGION, PROFILE)
    there = job.wait(300)
    with open_slide(slide_path) as slide:
        here = segment_region(slide, model, REGION, PROFILE)
    assert isinstance(there, RegionDone)
    assert here.objects is not None
    assert there.objects is not None
    assert 0.1 < (here.classes > 0).mean() < 0.9, "the test needs something to compare"
    assert here.classes.tobytes() == there.classes.tobytes()
    assert here.objects.tobytes() == there.objects.tobytes()
    assert here.confidence.tobytes() == there.confidence.tobytes()
    tiles = job.take_partials()
    assert len(tiles) == tiles[-1].total == 9
    assert all(isinstance(tile, TileDone) for tile in tiles)


def test_what_was_computed_before_does_not_change_the_bytes(
    engine: Engine, slide_path: Path, model: Model
) -> None:
    first = engine.predict(slide_path, None, model.path, REGION, PROFILE).wait(300)
    engine.predict(slide_path, None, model.path, Region(0, 0, 9, 5), Profile(threads=2)).wait(300)
    again = engine.predict(slide_path, None, model.path, REGION, PROFILE).wait(300)
    assert first.objects.tobytes() == again.objects.tobytes()
    assert first.confidence.tobytes() == again.confidence.tobytes()


def test_a_cancelled_prediction_stops_at_a_tile(
    engine: Engine, slide_path: Path, model: Model
) -> None:
    job = engine.predict(slide_path, None, model.path, Region(0, 0, 620, 700), PROFILE)
    while not job.partials:
        engine.poll()
    start = time.monotonic()
    job.cancel()
    assert job.wait(10) is None
    assert time.monotonic() - start < 1
    assert job.state in ("cancelled", "done")


def test_after_warming_up_nothing_is_left_to_open_or_load(
    slide_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*arguments: Any, **keywords: Any) -> Any:
        raise AssertionError("the first Predict must not wait for this")

    context = Context()
    assert list(tasks.warm_up(context, slide_path, None, model.path, PROFILE)) == []
    monkeypatch.setattr("napari_genselfdiff.slides.slide.open_slide", forbidden)
    monkeypatch.setattr("napari_genselfdiff.registry.folder.read_model", forbidden)
    place = (slide_path, None, model.path, Region(100, 100, 20, 20), PROFILE)
    assert any(isinstance(step, TileDone) for step in tasks.predict(context, *place))
    context.close()


def test_warming_up_runs_in_the_worker(engine: Engine, slide_path: Path, model: Model) -> None:
    assert engine.warm_up(slide_path, None, model.path, PROFILE).wait(300) is None


@pytest.mark.parametrize(
    ("slide_name", "model_name", "reason"),
    [("missing.svs", "tiny", "missing.svs"), ("slide.tif", "none", "not a model folder")],
)
def test_what_is_not_there_is_said_in_one_line(
    engine: Engine,
    folder: Path,
    slide_path: Path,
    model: Model,
    slide_name: str,
    model_name: str,
    reason: str,
) -> None:
    job = engine.predict(folder / slide_name, None, folder / model_name, REGION, PROFILE)
    with pytest.raises(JobFailedError, match=reason):
        job.wait(300)
    assert job.error is not None
    assert "\n" not in job.error
    assert job.log == "", "an expected error"


def test_a_context_opens_once_and_notices_changes(
    slide_path: Path, model: Model, tmp_path: Path
) -> None:
    context = Context()
    assert context.slide(slide_path, None) is context.slide(slide_path, None)
    assert context.slide(slide_path, 0.4).mpp == 0.4
    _, segmenter = context.model(model.path)
    assert context.model(model.path)[1] is segmenter
    other = write_model(tmp_path / "m", _fields(model.card), model.load())
    assert context.model(other.path)[0].hash == read_model(other.path).hash
    assert context.model(model.path)[1] is segmenter
    context.close()


def test_a_context_measures_the_machine_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_genselfdiff.prediction import profile as module

    monkeypatch.setattr(module, "calibrate", lambda: (Profile(threads=3), {}))
    context = Context()
    assert context.profile(None) is context.profile(None)
    assert context.profile(None) == Profile(threads=3)
    assert context.profile(PROFILE) is PROFILE


def test_refining_relays_progress_and_returns_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = learning.RefineProgress("learning", 0.5, 3.0)
    result = object.__new__(learning.RefineResult)
    asked: list[Any] = []

    def refine(
        request: Any,
        profile: Profile,
        *,
        should_stop: Callable[[], bool],
        should_conclude: Callable[[], bool],
    ) -> Iterator[Any]:
        asked.extend([request, profile, should_stop(), should_conclude(), torch.get_num_threads()])
        yield progress
        yield result

    monkeypatch.setattr(learning, "refine", refine)
    before = torch.get_num_threads()
    steps = tasks.refine(Context(), "request", Profile(threads=2))  # type: ignore[arg-type]
    assert next(steps) is progress
    with pytest.raises(StopIteration) as end:
        next(steps)
    torch.set_num_threads(before)
    assert end.value.value is result
    assert asked == ["request", Profile(threads=2), False, False, 2]


def _fields(card: ModelCard) -> dict[str, object]:
    names = ("task", "mpp_range", "tile", "halo", "min_object_um2")
    return {name: getattr(card, name) for name in names}
