"""Simulated rounds: what is scored was never taught, and a stopped simulation goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import Mask
from napari_genselfdiff.learning import simulation
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.simulation import (
    Picture,
    SimulationConfig,
    answers,
    curve,
    halves,
    read_picture,
    simulate,
    simulate_all,
    untouched_dice,
)
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.folder import Model, write_model
from tests.learning import tiny
from tests.registry.networks import network

QUICK = RefineConfig(budget_s=1.0, patch=64, batch=2, most_steps=2, fewest_steps=2, blends=(1.0,))
CONFIG = SimulationConfig(views=(1, 2), size=64, refine=QUICK)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a model that has learned nothing."""
    fields = {"task": tiny.NUCLEI, "mpp_range": (0.25, 0.5), "tile": 64, "halo": 16}
    return write_model(tmp_path_factory.mktemp("models") / "new", fields, network())


def pictures(names: Sequence[str]) -> list[Picture]:
    found = []
    for name in names:
        image, ids = tiny.tissue(int(name), 128)
        mask = Mask("instances", ids.astype(np.uint16))
        found.append(read_picture(name, image, mask, 0.25, tiny.NUCLEI))
    return found


def test_one_run(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = simulation.refine_once

    def watched(*arguments: object) -> object:
        for tile in arguments[2]:  # type: ignore[attr-defined]
            name, _, place = tile.source.partition(":")
            y, x = map(int, place.split(","))
            # known pixels are those of the view, and the view is in the corrected half
            where = np.argwhere(tile.known)
            assert np.ptp(where, axis=0).tolist() == [63, 63]
            assert x + 64 <= halves((128, 128))[0].x1
            assert y + 64 <= 128
            seen.append(name)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(simulation, "refine_once", watched)
    config = replace(CONFIG, use="always")
    points = list(simulate(pictures(["1", "2"]), model, Profile(), config, tmp_path, seed=3))
    assert [point.views for point in points] == [0, 1, 2]
    assert sorted(set(seen)) == ["1", "2"]  # the second view is on the other picture
    assert points[0].dice == untouched_dice(answers(pictures(["1", "2"]), model, Profile()))
    for before, after in pairwise(points):
        assert after.actions > before.actions
        assert after.known_px > before.known_px
        assert after.seconds > before.seconds
    assert points[2].decision in ("better", "not_better", "too_little")
    assert points[2].dice == points[2].new_dice
    assert [point.model for point in points] == ["new", "0", "1"]
    assert (tmp_path / "1" / "model.json").exists()


def test_no_more_views_than_there_is_room(model: Model, tmp_path: Path) -> None:
    config = SimulationConfig(user="dense", views=(5, 9), size=64, refine=QUICK)
    points = list(simulate(pictures(["1"]), model, Profile(), config, tmp_path))
    assert [point.views for point in points] == [0, 2]
    assert points[1].human_px == points[1].known_px == 2 * 64 * 64


class TestAll:
    def test_goes_on_where_it_stopped(self, model: Model, tmp_path: Path) -> None:
        out = tmp_path / "new" / "report.json"
        config = replace(CONFIG, views=(1,))

        def run(seeds: int) -> list[str]:
            steps = simulate_all(
                pictures, ["1", "2", "3"], model, Profile(), config, out, seeds=seeds, group=2
            )
            return [report["runs"][-1]["key"] for report in steps]

        first = run(1)
        assert len(first) == 1
        assert run(1) == []
        second = run(2)
        assert [key[:2] for key in first + second] == ["0:", "1:"]
        report = json.loads(out.read_text())
        assert [run["key"] for run in report["runs"]] == first + second
        rows = curve(report)
        assert [(row["views"], row["runs"]) for row in rows] == [(0, 2), (1, 2)]
        dice = [run["points"][0]["dice"] for run in report["runs"]]
        assert rows[0]["dice"] == pytest.approx(sum(dice) / 2)
        assert min(dice) <= rows[0]["low"] <= rows[0]["dice"] <= rows[0]["high"] <= max(dice)

    def test_another_report_is_not_mixed_in(self, model: Model, tmp_path: Path) -> None:
        out = tmp_path / "report.json"
        config = replace(CONFIG, views=(1,))
        list(simulate_all(pictures, ["1"], model, Profile(), config, out, seeds=1))
        before = out.read_bytes()
        other = replace(config, user="dense")
        with pytest.raises(ConfigError, match="other settings"):
            list(simulate_all(pictures, ["1"], model, Profile(), other, out, seeds=1))
        assert out.read_bytes() == before
        out.write_text("{")
        with pytest.raises(ConfigError, match="no report"):
            list(simulate_all(pictures, ["1"], model, Profile(), config, out, seeds=1))


def test_masks_of_classes_and_of_objects() -> None:
    image, ids = tiny.tissue(1, 64)
    classes = Mask("classes", (ids > 0).astype(np.uint8))
    read = read_picture("a", image, classes, 0.25, tiny.NUCLEI)
    assert read.objects is not None
    np.testing.assert_array_equal(read.objects > 0, ids > 0)
    areas = tiny.NUCLEI.model_copy(update={"kind": "areas"})
    assert read_picture("a", image, classes, 0.25, areas).objects is None


@pytest.mark.parametrize("views", [(), (0, 1), (3, 1), (1, 1)])
def test_views_must_rise(views: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="views must rise"):
        SimulationConfig(views=views)


def test_nothing_to_score_is_said(model: Model) -> None:
    (picture,) = pictures(["1"])
    empty = picture._replace(classes=np.zeros_like(picture.classes))
    with pytest.raises(ConfigError, match="no object to score"):
        untouched_dice(answers([empty], model, Profile()))
