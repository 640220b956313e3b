from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.heads import Segmenter, build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.prediction import network as network_module
from napari_genselfdiff.prediction.network import Network
from napari_genselfdiff.prediction.packed import PackedConv2d, packed
from napari_genselfdiff.prediction.profile import Profile

CONFIG = replace(
    PRESETS["fast"], dims=(8, 16, 24), init_dim=8, attention=("none", "linear", "none")
)
SIZE = (2, 3, 64, 64)


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter(CONFIG, 1, 0)


def tiles() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)


def convolutions(segmenter: Segmenter) -> int:
    return sum(isinstance(module, PackedConv2d) for module in segmenter.modules())


STEP = 2.0**-11  # of the half precision that answers near 0.5 to 1 are rounded to


@pytest.mark.parametrize(("precision", "most"), [("fp32", STEP), ("bf16", 2e-2)])
def test_packed_weights_give_the_same_answers(
    precision: str, most: float, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Profile(precision=precision, batch=2)  # type: ignore[arg-type]
    found = Network(segmenter, profile)(tiles())
    again = Network(segmenter, profile)(tiles())
    monkeypatch.setattr(network_module, "packed", lambda plain, *_: plain)
    expected = Network(segmenter, profile)(tiles())
    for one, two, plain in zip(found, again, expected, strict=True):
        assert one.tobytes() == two.tobytes()
        assert np.abs(one - plain).max() <= most


def test_what_is_rounded_is_the_same_to_the_last_digits(segmenter: Segmenter) -> None:
    x = torch.randn(SIZE).contiguous(memory_format=torch.channels_last)
    segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        plain, found = segmenter(x), packed(segmenter, torch.float32, SIZE)(x)
    torch.testing.assert_close(found.logits, plain.logits, rtol=0, atol=1e-6)


def test_every_convolution_is_packed_once_and_the_model_left_alone(segmenter: Segmenter) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    plain = sum(isinstance(module, torch.nn.Conv2d) for module in segmenter.modules())
    twin = packed(segmenter, torch.float32, SIZE)
    assert convolutions(twin) == plain
    assert packed(segmenter, torch.float32, SIZE) is twin
    assert packed(segmenter, torch.float32, (1, *SIZE[1:])) is not twin
    assert convolutions(segmenter) == 0
    for name, value in segmenter.state_dict().items():
        assert torch.equal(value, before[name])


def test_changed_weights_are_packed_again(segmenter: Segmenter) -> None:
    profile = Profile(batch=2)
    before = Network(segmenter, profile)(tiles())
    with torch.no_grad():
        bias = segmenter.get_parameter("head.out.bias")
        bias.add_(torch.tensor([0.0, 2.0, 0.0]))
    after = Network(segmenter, profile)(tiles())
    assert (after.classes[:, 1] > before.classes[:, 1]).all()


def test_a_torch_that_cannot_pack_computes_as_ever(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(PackedConv2d, "forward", missing)
    assert packed(segmenter, torch.float32, SIZE) is segmenter
