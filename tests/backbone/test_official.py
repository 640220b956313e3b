"""The ``paper`` preset against values of the released code."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.backbone.official import from_official, our_name
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.errors import ModelFileError, TrainingError
from napari_genselfdiff.learning import losses, released_losses
from napari_genselfdiff.learning.objectives import Damaged, Denoising

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


def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers in [-1, 1) that depend on the name alone; how the small golden file was made."""
    raw = np.random.PCG64(crc32(name.encode())).random_raw(math.prod(shape))
    return torch.from_numpy((raw >> np.uint64(11)) * 2.0**-52 - 1).reshape(shape)


def drawn_parameter(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Weights of a size that keeps every block alive: their scale is part of the golden values."""
    values = drawn(name, shape)
    if len(shape) == 1:
        return values * 0.1 + float("norm" in name and name.endswith("weight"))
    return values * math.sqrt(3 / math.prod(shape[1:]))


def test_noise_parity_of_a_net_small_enough_to_ship() -> None:
    stored = np.load(HERE / "golden" / "noisenet_dim8.npz")
    model = Denoiser(replace(PRESETS["paper"], dims=(8, 16, 32, 64), init_dim=4)).eval()
    model.load_state_dict(
        {k: drawn_parameter(k, tuple(v.shape)).float() for k, v in model.state_dict().items()}
    )
    with torch.inference_mode():
        out = model(drawn("x", (2, 3, 16, 16)).float(), torch.from_numpy(stored["t"]))
    np.testing.assert_allclose(out.numpy(), stored["noise_pred"], atol=2e-5)


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

    def test_p2_loss_of_the_objective(self) -> None:
        x0, noise, answer, t = (
            torch.from_numpy(self.stored[name]) for name in ("x0", "noise", "noise_pred", "t")
        )
        weight = self.schedule.weight_at(t, "p2", "epsilon")
        damaged = Damaged(self.schedule.add_noise(x0, noise, t), t, noise, weight)
        loss, _ = Denoising(self.schedule).score(answer, damaged)
        wanted = float(self.stored["p2_loss_sum_over_batch"])
        assert float(loss.sum()) == pytest.approx(wanted, rel=1e-5)


class TestSegmentationLosses:
    """The released losses, defects included, are what the switches turn on."""

    stored = np.load(HERE / "golden" / "losses_and_schedule.npz")
    logits = torch.from_numpy(stored["softmax"]).log()
    classes = torch.from_numpy(stored["labels"])
    known = torch.ones_like(classes, dtype=torch.bool)

    @pytest.mark.parametrize(("name", "gamma"), [("focal_gamma2", 2.0), ("ce", 0.0)])
    def test_focal(self, name: str, gamma: float) -> None:
        loss = released_losses.focal(self.logits, self.classes, self.known, gamma=gamma)
        assert float(loss.mean()) == pytest.approx(float(self.stored[name]), rel=1e-5)

    def test_structural(self) -> None:
        loss = released_losses.structural_similarity(self.logits, self.classes, self.known)
        assert float(loss.mean()) == pytest.approx(float(self.stored["ss_beta01_C001"]), rel=1e-5)

    def test_ours_equals_the_released_focal_loss_where_that_is_finite(self) -> None:
        ours = losses.focal(self.logits, self.classes, self.known)
        assert float(ours.mean()) == pytest.approx(float(self.stored["focal_gamma2"]), rel=1e-5)

    def test_a_sure_and_right_pixel_breaks_only_the_released_loss(self) -> None:
        logits = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1)
        classes, known = torch.zeros(1, 1, 1).long(), torch.ones(1, 1, 1).bool()
        assert bool(released_losses.focal(logits, classes, known).isnan())
        assert float(losses.focal(logits, classes, known)) == 0

    def test_unknown_pixels_are_refused(self) -> None:
        with pytest.raises(TrainingError, match="every pixel labelled"):
            released_losses.focal(self.logits, self.classes, ~self.known)
