from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation import bootstrap
from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval, mean_of, paired_difference

values = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@given(values=values)
def test_interval_is_ordered_and_repeatable(values: list[float]) -> None:
    low, high = bootstrap_interval(values, 3, rounds=200)
    slack = 1e-12
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert (low, high) == bootstrap_interval(values, 3, rounds=200)


def test_interval_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(0.7, 0.1, 400)
    low, high = bootstrap_interval(sample, 0)
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.1)
    assert low < sample.mean() < high


def test_undefined_values_are_left_out() -> None:
    assert bootstrap_interval([0.1, math.nan, 0.3]) == bootstrap_interval([0.1, 0.3])
    assert mean_of([0.1, math.nan, 0.3]) == pytest.approx(0.2)
    assert math.isnan(mean_of([math.nan]))


@pytest.mark.parametrize("few", [[], [0.5], [0.5, math.nan]])
def test_one_value_says_nothing_about_spread(few: list[float]) -> None:
    assert all(math.isnan(v) for v in bootstrap_interval(few))


def test_memory_is_bounded_without_changing_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = np.linspace(0, 1, 50)
    monkeypatch.setattr(bootstrap, "_CHUNK", 500)
    low, high = bootstrap_interval(sample, 1, rounds=2000)
    assert low < 0.5 < high


def test_paired_difference() -> None:
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.3, 0.9, 30)
    better = hard + 0.02 + rng.normal(0, 0.005, 30)
    result = paired_difference(better.tolist(), hard.tolist())
    assert result.n == 30
    assert 0.015 < result.low < result.value < result.high < 0.025
    assert result.p < 0.001
    same = paired_difference(hard.tolist(), hard.tolist())
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_paired_difference_drops_pairs_not_sides() -> None:
    result = paired_difference([0.5, math.nan, 0.7], [0.4, 0.9, 0.6])
    assert result.n == 2
    assert result.value == pytest.approx(0.1)
    assert math.isnan(paired_difference([math.nan], [0.1]).p)


def test_wrong_use() -> None:
    with pytest.raises(ConfigError, match="equally many"):
        paired_difference([0.1], [])
    with pytest.raises(ConfigError, match="share"):
        bootstrap_interval([0.1, 0.2], share=1.5)
