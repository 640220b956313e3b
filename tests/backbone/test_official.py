"""The ``paper`` preset against values of the released code."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.backbone.official import from_official, our_name
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.errors import ModelFileError

HERE = Path(__file__).parents[1]
SMALL = replace(PRESETS["paper"], dims=(16, 32, 64, 128), init_dim=10)


@pytest.fixture(scope="module")
def golden() -> Path:
    data = Path(os.environ.get("GENSELFDIFF_DATA", HERE.parents[1] / "shared" / "data"))
    folder = data.parent / "reference" / "golden"
    if not folder.is_dir():
        pytest.skip("the golden network values are not here")
    return folder


def parameters(file: Path) -> dict[str, torch.Tensor]:
    stored = np.load(file)
    names = [name for name in stored.files if name.startswith("param/")]
    return {name.removeprefix("param/"): torch.from_numpy(stored[name]) for name in names}


@pytest.mark.parametrize("t", [0, 50, 999])
def test_segmentation_parity(golden: Path, t: int) -> None:
    stored = np.load(golden / "segnet_dim16.npz")
    model = Denoiser(SMALL).eval()
    model.load_state_dict(from_official(parameters(golden / "segnet_dim16.npz")))
    with torch.inference_mode():
        out = model(torch.from_numpy(stored["x"]), torch.full((2,), t)).softmax(1)
    np.testing.assert_allclose(out.numpy(), stored[f"softmax_t{t}"], atol=1e-5)


def test_noise_parity(golden: Path) -> None:
    stored = np.load(golden / "noisenet_dim16.npz")
    state = parameters(golden / "segnet_dim16.npz") | parameters(golden / "noisenet_dim16.npz")
    model = Denoiser(SMALL).eval()
    model.load_state_dict(from_official(state))
    with torch.inference_mode():
        out = model(torch.from_numpy(stored["x"]), torch.from_numpy(stored["t"]))
    np.testing.assert_allclose(out.numpy(), stored["noise_pred"], atol=1e-5)


def test_full_size_has_the_official_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Denoiser(PRESETS["paper"])
    assert sum(p.numel() for p in model.parameters()) == 31_267_083


def test_foreign_name_is_refused() -> None:
    with pytest.raises(ModelFileError, match="not a parameter"):
        our_name("net.encoder.weight")


class TestSchedule:
    stored = np.load(HERE / "golden" / "losses_and_schedule.npz")
    schedule = NoiseSchedule(NoiseConfig(schedule="quadratic"))

    @pytest.mark.parametrize(
        ("name", "ours"),
        [
            ("betas", "betas"),
            ("alphas_cumprod", "alpha_bar"),
            ("posterior_variance", "posterior_variance"),
        ],
    )
    def test_values(self, name: str, ours: str) -> None:
        value = getattr(self.schedule, ours).numpy()
        # float32 cancels in 1 - ᾱ of the first steps: absolute there, relative everywhere else
        np.testing.assert_allclose(value, self.stored[name], rtol=2e-5, atol=2e-7)

    def test_forward_process(self) -> None:
        x0, noise, t = (torch.from_numpy(self.stored[name]) for name in ("x0", "noise", "t"))
        x_t = self.schedule.add_noise(x0, noise, t)
        np.testing.assert_allclose(x_t.numpy(), self.stored["x_t"], atol=1e-5)

    def test_p2_loss(self) -> None:
        noise, answer, t = (
            torch.from_numpy(self.stored[name]) for name in ("noise", "noise_pred", "t")
        )
        weight = self.schedule.weights("p2")[t]
        loss = ((noise - answer).square().mean(dim=(1, 2, 3)) * weight).sum()
        assert float(loss) == pytest.approx(float(self.stored["p2_loss_sum_over_batch"]), rel=1e-5)
