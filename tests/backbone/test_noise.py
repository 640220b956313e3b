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

    @pytest.mark.parametrize("timesteps", [2, 3, 10, 333, 4000])
    def test_signal_falls_whatever_the_length(self, timesteps: int) -> None:
        alpha_bar = NoiseSchedule(NoiseConfig(schedule=self.name, timesteps=timesteps)).alpha_bar
        assert alpha_bar.shape == (timesteps,)
        assert bool((alpha_bar.diff() < 0).all())
        assert bool(((alpha_bar > 0) & (alpha_bar < 1)).all())

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


@given(
    t=st.integers(0, 999),
    seed=st.integers(0, 2**31),
    prediction=st.sampled_from(get_args(Prediction)),
    name=st.sampled_from(get_args(Schedule)),
)
def test_to_x0_undoes_add_noise_at_every_timestep(
    t: int, seed: int, prediction: Prediction, name: Schedule
) -> None:
    schedule = NoiseSchedule(NoiseConfig(schedule=name))
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(1, 3, 2, 2, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(1, 3, 2, 2, generator=generator, dtype=torch.float64)
    times = torch.tensor([t])
    answer = schedule.target(x0, noise, times, prediction)
    back = schedule.to_x0(schedule.add_noise(x0, noise, times), answer, times, prediction)
    # the last steps of the cosine schedule keep 1e-5 of the signal, and as many digits
    torch.testing.assert_close(back, x0, atol=1e-8, rtol=0)


def test_min_snr_is_the_formula_of_its_paper_for_every_prediction() -> None:
    schedule = NoiseSchedule(NoiseConfig())
    least = schedule.snr.clamp(max=5)
    torch.testing.assert_close(schedule.weights("min_snr", "sample"), least)
    torch.testing.assert_close(schedule.weights("min_snr", "epsilon"), least / schedule.snr)
    torch.testing.assert_close(schedule.weights("min_snr", "v"), least / (schedule.snr + 1))


def test_hardly_any_of_the_papers_loss_falls_on_the_step_it_fine_tunes_at() -> None:
    """What P2 with k = γ = 1 means: the network is later used where it was hardly taught."""
    share = NoiseSchedule(NoiseConfig()).weights("p2")
    share = share / share.sum()
    assert float(share[:50].sum()) == pytest.approx(0.00033, rel=0.02)
    assert float(share[:250].sum()) == pytest.approx(0.026, rel=0.02)


@pytest.mark.parametrize(("timesteps", "schedule"), [(1, "linear"), (10, "steep")])
def test_bad_config_is_refused(timesteps: int, schedule: Schedule) -> None:
    with pytest.raises(ConfigError, match="got"):
        NoiseConfig(timesteps=timesteps, schedule=schedule)
