from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval, crossed_interval
from napari_genselfdiff.learning.study.table import cases, difference, learning_curves, summary


def record(arm: str, subset: int, seed: int, dices: list[float | None], **more: Any) -> Any:
    scores = {f"image{i}": {"dice": value} for i, value in enumerate(dices)}
    base = {"row": "toy_n1", "config_hash": "a", "again": False}
    return {**base, "arm": arm, "subset": subset, "seed": seed, "scores": scores, **more}


RECORDS = [
    record("default", 0, 0, [0.8, 0.6]),
    record("default", 0, 1, [0.6, 0.6]),
    record("default", 1, 0, [0.9, 0.5]),
    record("scratch", 0, 0, [0.7, 0.4]),
    record("scratch", 1, 0, [0.6, 0.5]),
]


def test_seeds_are_averaged_before_subsets_and_images() -> None:
    found = summary(RECORDS, "toy_n1", "default")
    assert found is not None
    # subset 0: (0.7, 0.6), subset 1: (0.9, 0.5); a plain mean over runs would weigh subset 0 more
    assert found.value == pytest.approx((0.7 + 0.6 + 0.9 + 0.5) / 4)
    assert (found.subsets, found.seeds, found.images) == (2, 1, 2)
    assert 0.5 <= found.low < found.value < found.high <= 0.9


def test_differences_are_taken_between_equal_runs_only() -> None:
    found = difference(RECORDS, "toy_n1", "default")
    assert found is not None
    # subset 0 seed 0: 0.1, 0.2; subset 1 seed 0: 0.3, 0.0; default's seed 1 has no partner
    assert found.value == pytest.approx((0.1 + 0.2 + 0.3 + 0.0) / 4)
    assert difference(RECORDS, "toy_n1", "default", "official") is None
    assert summary(RECORDS, "toy_n3", "default") is None


def test_of_two_configurations_the_last_counts() -> None:
    later = [*RECORDS, record("default", 0, 0, [1.0, 1.0], config_hash="b", again=True)]
    found = summary(later, "toy_n1", "default")
    assert found is not None
    assert (found.value, found.subsets) == (1.0, 1)


def test_undefined_scores_are_left_out() -> None:
    found = summary([record("default", 0, 0, [None, 0.5])], "toy_n1", "default")
    assert found is not None
    assert found.value == 0.5


def test_cases_in_the_order_they_came() -> None:
    tuned = {**record("self", 0, 0, []), "scores": {}}
    del tuned["scores"]
    assert cases([*RECORDS, tuned]) == [("toy_n1", "default"), ("toy_n1", "scratch")]


def curved(arm: str, subset: int, first: float, aside: str = "a") -> Any:
    fields = {"case": f"toy_n1_{arm}", "curve": [[4, first], [8, 0.5]], "aside": {aside: 0.5}}
    return record(arm, subset, 0, [0.5], **fields)


def test_curves_are_means_over_runs_with_their_spread() -> None:
    records = [curved("default", 0, 0.2), curved("default", 1, 0.4)]
    (points,) = learning_curves(records).values()
    np.testing.assert_allclose(points, [(4, 30, 20, 40), (8, 50, 50, 50)])


def test_curves_compare_like_with_like() -> None:
    """Without the run on another image aside, and without the subset that one arm lacks."""
    records = [
        curved("default", 0, 0.9, aside="b"),
        *(curved("default", 1, 0.4), curved("default", 2, 0.8)),
        *(curved("scratch", 0, 0.1), curved("scratch", 1, 0.2)),
    ]
    found = learning_curves(records)
    assert [points[0].y for points in found.values()] == pytest.approx([40, 20])
    assert list(found) == ["toy_n1_default", "toy_n1_scratch"]


class TestCrossedInterval:
    def test_one_group_is_the_interval_over_images(self) -> None:
        scores = np.random.default_rng(0).uniform(0.5, 0.9, (1, 9))
        assert crossed_interval(scores) == pytest.approx(bootstrap_interval(scores[0]), abs=0.004)

    def test_equal_groups_add_nothing(self) -> None:
        one = np.random.default_rng(0).uniform(0.5, 0.9, (1, 9))
        assert crossed_interval(np.repeat(one, 4, axis=0)) == pytest.approx(
            crossed_interval(one), abs=0.004
        )

    def test_agrees_with_a_slow_version(self) -> None:
        rng = np.random.default_rng(1)
        table = rng.normal(0.7, 0.1, (5, 1)) + rng.normal(0, 0.05, (1, 8))
        table[2, 3] = np.nan
        slow = []
        for _ in range(4000):
            drawn = table[rng.integers(0, 5, 5)][:, rng.integers(0, 8, 8)]
            slow.append(np.nanmean(drawn))
        low, high = np.quantile(slow, [0.025, 0.975])
        assert crossed_interval(table) == pytest.approx((low, high), abs=0.006)

    def test_it_is_wider_than_treating_every_score_as_its_own(self) -> None:
        rng = np.random.default_rng(2)
        table = rng.normal(0.7, 0.1, (4, 1)) + np.zeros((1, 20))
        low, high = crossed_interval(table)
        naive = bootstrap_interval(table.ravel())
        assert high - low > 3 * (naive[1] - naive[0])

    def test_a_single_score_has_no_spread(self) -> None:
        assert np.isnan(crossed_interval(np.array([[0.5]]))).all()
        with pytest.raises(ConfigError, match="groups x images"):
            crossed_interval(np.zeros(3))
