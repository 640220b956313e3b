from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from napari_genselfdiff.backbone.heads import Denoiser, Segmenter, build_segmenter
from napari_genselfdiff.backbone.init import initialise
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule, Prediction
from napari_genselfdiff.backbone.sampler import Network, ddim, ddpm_step
from napari_genselfdiff.backbone.unet import PRESETS, UNetConfig
from napari_genselfdiff.backbone.weights import read_weights, write_weights
from napari_genselfdiff.errors import ConfigError, ModelFileError
from tests.backbone.networks import TINY


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_card(name: str) -> None:
    assert UNetConfig.from_dict(PRESETS[name].to_dict()) == PRESETS[name]


def test_unknown_field_of_a_card_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        UNetConfig.from_dict({"depth": 3})


@pytest.mark.parametrize(
    "change",
    [
        {"dims": (8,), "attention": ("none",)},
        {"dims": (12, 20)},
        {"patch": 3},
        {"head": "none"},
        {"attention": ("linear",)},
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        UNetConfig.from_dict({**TINY.to_dict(), **change})


def test_fast_answers_at_the_resolution_of_the_image() -> None:
    out = build_segmenter(PRESETS["fast"], 3, 50)(image(2, 3, 64, 96))
    assert out.logits.shape == (2, 4, 64, 96)
    assert out.distance.shape == (2, 1, 64, 96)


def test_sides_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 4"):
        Segmenter(TINY, 1, 0)(image(1, 3, 30, 32))


def test_the_timestep_matters_and_is_the_configured_one() -> None:
    torch.manual_seed(0)
    early = build_segmenter(TINY, 1, 0)
    late = build_segmenter(TINY, 1, 900)
    late.load_state_dict(early.state_dict())
    x = image(1, 3, 32, 32)
    with torch.inference_mode():
        assert not torch.allclose(early(x).logits, late(x).logits)


def test_batched_equals_one_by_one() -> None:
    torch.manual_seed(0)
    model = build_segmenter(TINY, 2, 10).double()
    x = image(3, 3, 32, 32).double()
    with torch.inference_mode():
        together = model(x).logits
        apart = torch.cat([model(one[None]).logits for one in x])
    torch.testing.assert_close(together, apart, atol=1e-12, rtol=0)


def perfect(schedule: NoiseSchedule, x0: torch.Tensor, prediction: Prediction) -> Network:
    """A network that knows the clean image, answering in the given way."""

    def answer(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)
        noise = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        return schedule.target(x0, noise, t, prediction)

    return answer


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("start", [0, 400, 999])
def test_a_perfect_network_leads_back_to_the_image(prediction: Prediction, start: int) -> None:
    schedule = NoiseSchedule(NoiseConfig())
    x0 = image(2, 3, 8, 8).double()
    noise = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    x_t = schedule.add_noise(x0, noise, torch.full((2,), start))
    knows = perfect(schedule, x0, prediction)
    back = ddim(knows, schedule, x_t, start=start, steps=10, prediction=prediction)
    torch.testing.assert_close(back, x0, atol=1e-6, rtol=0)
    x = x_t
    for t in range(min(start, 20), -1, -1):
        x = ddpm_step(knows, schedule, x, t, torch.randn_like(x), prediction=prediction)
    torch.testing.assert_close(x, x0, atol=1e-6, rtol=0)


def test_a_ddpm_step_on_noise_is_algorithm_2() -> None:
    schedule = NoiseSchedule(NoiseConfig())
    x_t, answer, noise = (torch.randn(1, 3, 4, 4, dtype=torch.float64) for _ in range(3))
    for t in (1, 300, 999):
        beta, alpha_bar = schedule.betas[t], schedule.alpha_bar[t]
        mean = (x_t - beta / (1 - alpha_bar).sqrt() * answer) / (1 - beta).sqrt()
        wanted = mean + schedule.posterior_variance[t].sqrt() * noise
        step = ddpm_step(lambda _x, _t: answer, schedule, x_t, t, noise)
        torch.testing.assert_close(step, wanted, atol=1e-9, rtol=1e-9)


def test_the_released_network_never_looks_at_its_first_level_again() -> None:
    """The missing skip, and the preset that has it; small, and the same otherwise."""
    for name, reads in (("paper", False), ("paper_skip", True)):
        torch.manual_seed(0)
        config = replace(PRESETS[name], dims=(8, 16), attention=("none", "none"), init_dim=4)
        model = Denoiser(config)
        with torch.no_grad():
            next(model.unet.down[0].parameters()).zero_()
            a, b = (model(image(1, 3, 16, 16) * sign, torch.zeros(1)) for sign in (1, -1))
        assert torch.equal(a, b) is not reads


def test_the_released_initialisation_nearly_switches_every_block_off() -> None:
    torch.manual_seed(0)
    model = Denoiser(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    initialise(model, "default")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    initialise(model, "released")
    for name, part in model.named_modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm)):
            assert float(part.weight.detach().abs().max()) < 0.06, name
            assert not torch.equal(part.weight, before[f"{name}.weight"])
            if part.bias is not None:
                assert torch.equal(part.bias, before[f"{name}.bias"])
        elif isinstance(part, nn.Linear):
            assert torch.equal(part.weight, before[f"{name}.weight"])
    scales = [p.weight.detach() for p in model.modules() if isinstance(p, nn.GroupNorm)]
    assert float(torch.cat(scales).abs().mean()) == pytest.approx(0.008, rel=0.15)


class TestWeights:
    def test_round_trip(self, tmp_path: Path) -> None:
        model, other = Denoiser(TINY), Denoiser(TINY)
        write_weights(tmp_path / "w.safetensors", model)
        read_weights(tmp_path / "w.safetensors", other)
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_half_is_half_the_size_and_read_as_fp32(self, tmp_path: Path) -> None:
        model = Denoiser(TINY)
        write_weights(tmp_path / "full.safetensors", model)
        write_weights(tmp_path / "half.safetensors", model, half=True)
        sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "full")]
        assert sizes[0] < 0.7 * sizes[1]
        read_weights(tmp_path / "half.safetensors", model)
        assert all(p.dtype == torch.float32 for p in model.parameters())

    @pytest.mark.parametrize("damage", ["cut", "text", "empty", "missing", "header"])
    def test_damaged_files_are_refused(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "w.safetensors"
        model = Denoiser(TINY)
        write_weights(path, model)
        data = path.read_bytes()
        changed = {
            "cut": data[: len(data) // 2],
            "text": b"these are not weights",
            "empty": b"",
            "header": b"\xff" * 8 + data[8:],
        }
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(changed[damage])
        with pytest.raises(ModelFileError, match=r"w\.safetensors"):
            read_weights(path, model)

    def test_another_network_is_refused_by_name(self, tmp_path: Path) -> None:
        write_weights(tmp_path / "w.safetensors", Segmenter(TINY, 1, 0))
        with pytest.raises(ModelFileError, match=r"another network|shape"):
            read_weights(tmp_path / "w.safetensors", Segmenter(PRESETS["fast"], 1, 0))

    def test_values_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        model = Denoiser(TINY)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        write_weights(tmp_path / "w.safetensors", model)
        with pytest.raises(ModelFileError, match="not finite"):
            read_weights(tmp_path / "w.safetensors", Denoiser(TINY))
