"""What every pretext keeps, whatever it does to the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import (
    NoiseConfig,
    NoiseSchedule,
    Prediction,
    Schedule,
    Weighting,
)
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning import losses
from napari_genselfdiff.learning.data import Batch, PatchConfig, PatchSampler
from napari_genselfdiff.learning.masking import MaskConfig, Masking
from napari_genselfdiff.learning.objectives import Denoising, Pretext
from tests.backbone.networks import TINY
from tests.learning import tiny

SIDE = 16
INDICES = st.lists(st.integers(0, 2**41), min_size=1, max_size=4, unique=True)
SCHEDULE = NoiseSchedule(NoiseConfig())
Make = Callable[[int], Pretext]


def images(indices: list[int], side: int = SIDE) -> Tensor:
    """One picture in [-1, 1] per index, the same whatever else is asked for."""
    drawn = [
        torch.rand(3, side, side, generator=torch.Generator().manual_seed(index)) * 2 - 1
        for index in indices
    ]
    return torch.stack(drawn)


def network() -> Denoiser:
    torch.manual_seed(5)
    return Denoiser(TINY)


def schedule(name: Schedule) -> NoiseSchedule:
    return NoiseSchedule(NoiseConfig(schedule=name))


# A new pretext is one more line here: how to make it for a seed.
PRETEXTS: dict[str, Make] = {
    "the method's own": lambda seed: Denoising(SCHEDULE, "p2", "epsilon", seed),
    "clean image": lambda seed: Denoising(schedule("cosine"), "min_snr", "sample", seed),
    "velocity": lambda seed: Denoising(schedule("sigmoid"), "uniform", "v", seed),
    "masked, similarity": lambda seed: Masking(MaskConfig(patch=2), seed),
    "masked, l2": lambda seed: Masking(MaskConfig(patch=4, timesteps=50, loss="l2"), seed),
}


@pytest.mark.parametrize("make", PRETEXTS.values(), ids=PRETEXTS)
class TestEveryPretext:
    @given(indices=INDICES, seed=st.integers(0, 2**31))
    @settings(max_examples=20)
    def test_one_finite_loss_per_sample(self, make: Make, indices: list[int], seed: int) -> None:
        pretext = make(seed)
        damaged = pretext.damage(images(indices), indices)
        assert damaged.images.shape == damaged.target.shape == (len(indices), 3, SIDE, SIDE)
        assert damaged.t.shape == damaged.weight.shape == (len(indices),)
        assert bool((damaged.t >= 0).all())
        loss, parts = pretext.score(torch.zeros_like(damaged.target), damaged)
        for values in (loss, *parts.values()):
            assert values.shape == (len(indices),)
            assert bool(torch.isfinite(values).all())
            assert bool((values >= 0).all())

    @given(indices=INDICES, seed=st.integers(0, 2**31))
    @settings(max_examples=20)
    def test_a_sample_does_not_depend_on_its_batch(
        self, make: Make, indices: list[int], seed: int
    ) -> None:
        pretext = make(seed)
        together = pretext.damage(images(indices), indices)
        for place, index in enumerate(indices):
            alone = make(seed).damage(images([index]), [index])
            for one, many in zip(alone, together, strict=True):
                assert torch.equal(one[0], many[place])

    def test_seed_and_index_both_matter(self, make: Make) -> None:
        picture = images([3])
        base = make(0).damage(picture, [3]).images
        assert not torch.equal(base, make(1).damage(picture, [3]).images)
        assert not torch.equal(base, make(0).damage(picture, [4]).images)

    @given(indices=INDICES)
    @settings(max_examples=20)
    def test_a_perfect_answer_costs_nothing(self, make: Make, indices: list[int]) -> None:
        pretext = make(0)
        damaged = pretext.damage(images(indices), indices)
        loss, _ = pretext.score(damaged.target.clone(), damaged)
        assert float(loss.max()) < 1e-6

    def test_a_worse_answer_costs_more(self, make: Make) -> None:
        pretext = make(0)
        damaged = pretext.damage(images([1, 2]), [1, 2])
        noise = torch.randn_like(damaged.target)
        costs = [
            float(pretext.score(damaged.target + size * noise, damaged)[0].sum())
            for size in (0, 0.1, 0.5)
        ]
        assert costs == sorted(set(costs))

    def test_every_weight_of_the_network_gets_a_gradient(self, make: Make) -> None:
        pretext, model = make(0), network()
        indices = (1, 2)
        loss, _ = pretext(model, Batch(images(list(indices)), indices))
        loss.sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert bool(torch.isfinite(parameter.grad).all()), name
            assert bool((parameter.grad != 0).any()), name

    def test_a_batch_costs_what_its_samples_cost(self, make: Make) -> None:
        pretext, model = make(0), network().double()
        indices = (5, 6)
        batch = Batch(images(list(indices)).double(), indices)
        whole, _ = pretext(model, batch)
        parts = [pretext(model, batch.part(i, i + 1))[0] for i in range(2)]
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-9, atol=0)

    def test_a_network_learns_it(self, make: Make) -> None:
        pretext, model = make(0), network()
        optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
        sampler = PatchSampler([tiny.source(1)], PatchConfig(size=SIDE, skip_glass=False), 0)
        costs = []
        for step in range(40):
            loss, _ = pretext(model, sampler.batch(range(8 * step, 8 * step + 8)))
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            costs.append(float(loss.detach().mean()))
        assert np.mean(costs[-10:]) < 0.8 * np.mean(costs[:5])

    def test_half_precision_changes_little(self, make: Make) -> None:
        pretext, model = make(0), network()
        batch = Batch(images([1, 2]), (1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            half, _ = pretext(model, batch)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, pretext(model, batch)[0], rtol=0.05, atol=0.01)

    def test_pictures_of_what_it_does(self, make: Make) -> None:
        pretext, model = make(0), network()
        clean = images([1, 2])
        changed = []
        for share in (0.0, 0.25, 0.9):
            damaged, restored = pretext.restore(model, clean, [1, 2], share=share)
            assert damaged.shape == restored.shape == clean.shape
            assert not restored.requires_grad
            changed.append(float((damaged - clean).square().mean()))
        assert changed == sorted(set(changed))
        made = pretext.generate(model, [8, 9, 10], (3, 8, 8))
        if made is not None:
            assert made.shape == (3, 3, 8, 8)
            assert float(made.abs().max()) <= 1
            again = pretext.generate(model, [9], (3, 8, 8))
            assert again is not None
            torch.testing.assert_close(again[0], made[1], atol=1e-4, rtol=0)


@given(t=st.integers(0, 999), size=st.floats(0.01, 1), weighting=st.sampled_from(["p2", "min_snr"]))
def test_the_same_mistake_costs_the_same_in_every_prediction(
    t: int, size: float, weighting: Weighting
) -> None:
    """One wrong clean image, said as noise, as clean image and as v."""
    x0 = images([1]).double()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
    times = torch.tensor([t])
    x_t = SCHEDULE.add_noise(x0, noise, times)
    wrong = x0 + size
    alpha_bar = SCHEDULE.alpha_bar[t]
    implied_noise = (x_t - alpha_bar.sqrt() * wrong) / (1 - alpha_bar).sqrt()
    predictions: tuple[Prediction, ...] = ("epsilon", "sample", "v")
    costs = []
    for prediction in predictions:
        error = SCHEDULE.target(wrong, implied_noise, times, prediction) - SCHEDULE.target(
            x0, noise, times, prediction
        )
        weight = SCHEDULE.weight_at(times, weighting, prediction)
        costs.append(error.square().mean() * weight[0])
    torch.testing.assert_close(costs[1], costs[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(costs[2], costs[0], rtol=1e-6, atol=0)


class TestMasks:
    @given(t=st.integers(0, 99), index=st.integers(0, 1000))
    def test_the_timestep_is_the_share_hidden(self, t: int, index: int) -> None:
        pretext = Masking(MaskConfig(patch=2, timesteps=100))
        clean = torch.ones(1, 3, SIDE, SIDE)
        shown, _ = pretext.restore(lambda x, t: x, clean, [index], share=t / 99)  # type: ignore[arg-type]
        patches = shown[0, 0].unfold(0, 2, 2).unfold(1, 2, 2).sum(dim=(2, 3))
        assert set(patches.unique().tolist()) <= {0.0, 4.0}
        assert int((patches > 0).sum()) == int(64 * (100 - t) / 100)
        assert torch.equal(shown[0, 0], shown[0, 2])

    def test_patches_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="do not fit images of 20 × 20"):
            Masking(MaskConfig(patch=8)).damage(images([1], side=20), [1])

    @pytest.mark.parametrize("change", [{"patch": 0}, {"timesteps": 1}, {"loss": "vlb"}])
    def test_bad_settings_are_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match="got"):
            replace(MaskConfig(), **change)  # type: ignore[arg-type]


class TestDissimilarity:
    def test_it_is_equation_13_window_by_window(self) -> None:
        one, other = images([1]).double(), images([2]).double()
        ours = losses.similarity(one, 0.7 * one + 0.3 * other)[0].numpy()
        a, b = one[0].numpy(), (0.7 * one + 0.3 * other)[0].numpy()
        offsets = np.arange(-2, 3)
        window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
        window /= window.sum()
        for channel, y, x in [(0, 2, 2), (1, 7, 9), (2, 13, 5)]:
            at = np.s_[channel, y - 2 : y + 3, x - 2 : x + 3]
            mean_a, mean_b = (window * a[at]).sum(), (window * b[at]).sum()
            var_a = (window * (a[at] - mean_a) ** 2).sum()
            var_b = (window * (b[at] - mean_b) ** 2).sum()
            both = (window * (a[at] - mean_a) * (b[at] - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 4e-4) / (mean_a**2 + mean_b**2 + 4e-4)
            structure = (2 * both + 3.6e-3) / (var_a + var_b + 3.6e-3)
            assert ours[channel, y, x] == pytest.approx(luminance * structure, abs=1e-9)

    @given(shift=st.floats(-0.5, 0.5))
    def test_it_lies_between_0_and_1(self, shift: float) -> None:
        a, b = images([1, 2]), images([3, 4]) + shift
        value = losses.dissimilarity(a, b)
        assert bool(((value >= 0) & (value <= 1)).all())
        torch.testing.assert_close(value, losses.dissimilarity(b, a))
