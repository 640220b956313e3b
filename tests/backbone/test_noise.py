from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.backbone.noise import (
    NoiseConfig,
    NoiseSchedule,
    Prediction,
    Schedule,
    Weighting,
)
from napari_genselfdiff.errors import ConfigError


class ScheduleContract:
    """What every schedule keeps."""

    name: Schedule

    @pytest.fixture
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(NoiseConfig(schedule=self.name))

    def test_signal_falls_from_nearly_all_to_nearly_none(self, schedule: NoiseSchedule) -> None:
        alpha_bar = schedule.alpha_bar
        assert alpha_bar.dtype == torch.float64
        assert bool((alpha_bar.diff() < 0).all())
        assert alpha_bar[0] > 0.999
        assert alpha_bar[-1] < 0.01

    @pytest.mark.parametrize("prediction", get_args(Prediction))
    def test_a_perfect_answer_gives_the_image_back(
        self, schedule: NoiseSchedule, prediction: Prediction
    ) -> None:
        generator = torch.Generator().manual_seed(3)
        x0 = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
        noise = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
        t = torch.tensor([0, 100, 500, 900])
        answer = schedule.target(x0, noise, t, prediction)
        back = schedule.to_x0(schedule.add_noise(x0, noise, t), answer, t, prediction)
        torch.testing.assert_close(back, x0, atol=1e-9, rtol=1e-9)

    @pytest.mark.parametrize("weighting", get_args(Weighting))
    def test_weights_are_finite_and_not_negative(
        self, schedule: NoiseSchedule, weighting: Weighting
    ) -> None:
        for prediction in get_args(Prediction):
            weights = schedule.weights(weighting, prediction)
            assert bool(torch.isfinite(weights).all())
            assert bool((weights >= 0).all())


class TestQuadratic(ScheduleContract):
    name = "quadratic"


class TestLinear(ScheduleContract):
    name = "linear"


class TestCosine(ScheduleContract):
    name = "cosine"


class TestSigmoid(ScheduleContract):
    name = "sigmoid"


def test_p2_weight_is_one_minus_alpha_bar() -> None:
    schedule = NoiseSchedule(NoiseConfig())
    torch.testing.assert_close(schedule.weights("p2"), 1 - schedule.alpha_bar)


@given(snr_limited=st.sampled_from(["epsilon", "v"]))
def test_min_snr_weights_agree_across_predictions(snr_limited: Prediction) -> None:
    """An error in ε or v implies an error in x0; its weight must come out the same."""
    schedule = NoiseSchedule(NoiseConfig())
    weights = schedule.weights("min_snr", snr_limited)
    on_x0 = schedule.weights("min_snr", "sample")
    ratio = schedule.snr if snr_limited == "epsilon" else schedule.snr + 1
    torch.testing.assert_close(weights * ratio, on_x0)


@pytest.mark.parametrize(("timesteps", "schedule"), [(1, "linear"), (10, "steep")])
def test_bad_config_is_refused(timesteps: int, schedule: Schedule) -> None:
    with pytest.raises(ConfigError, match="got"):
        NoiseConfig(timesteps=timesteps, schedule=schedule)
