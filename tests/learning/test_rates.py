"""Layer-wise learning rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser, build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS, UNetConfig
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from napari_genselfdiff.learning.loop import LoopConfig, TrainState, train
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.rates import depth, parameter_groups
from tests.backbone.networks import TINY
from tests.learning import tiny


@pytest.mark.parametrize("config", [TINY, PRESETS["fast"], PRESETS["paper"]])
def test_depth_grows_from_the_answer_to_the_image(config: UNetConfig) -> None:
    with torch.device("meta"):
        names = [name for name, _ in Denoiser(config).named_parameters()]
    levels = len(config.dims)
    found = {name: depth(name, levels) for name in names}
    assert {away for name, away in found.items() if name.startswith("head.")} == {0}
    assert max(found.values()) == 2 * levels + 1
    path = ["head.", "unet.join.", *(f"unet.decoder.{i}." for i in reversed(range(levels - 1)))]
    path += ["unet.middle", *(f"unet.encoder.{i}." for i in reversed(range(levels))), "unet.stem."]
    along = [max(found[n] for n in names if n.startswith(p)) for p in path if p in str(names)]
    assert along == sorted(along)
    assert set(found.values()) == set(range(2 * levels + 2))


def test_groups_hold_every_parameter_once_and_only_weights_decay() -> None:
    model = build_segmenter(TINY, 1, 0)
    for decay in (1.0, 0.5):
        groups = parameter_groups(model, decay, 0.01)
        held = [p for group in groups for p in group["params"]]
        assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))
        for group in groups:
            plain = {p.ndim <= 1 for p in group["params"]}
            assert plain == {group["weight_decay"] == 0.0}
        assert max(group["rate"] for group in groups) == 1
    assert len(parameter_groups(model, 1.0, 0.01)) == 2


def test_what_is_deep_moves_less() -> None:
    """Adam's first step is the learning rate times the gradient's sign, so moves tell rates."""
    config = LoopConfig(
        total_images=2, batch=2, lr=1e-2, layer_decay=0.5, warmup_images=0, weight_decay=0.0,
        lr_schedule="constant", clip=None, optimizer="adam",
    )  # fmt: skip
    torch.manual_seed(0)
    model = build_segmenter(TINY, 1, 0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = TrainState.create(model, config)
    sampler = PatchSampler([tiny.source(1)], PatchConfig(size=32), 0)
    (report,) = train(state, sampler.batch, Segmentation(), config)
    assert report.lr == 1e-2
    seen = set()
    for name, parameter in model.named_parameters():
        away = depth(name, len(TINY.dims))
        moved = float((parameter.detach() - before[name]).abs().max())
        if parameter.ndim > 1:  # a bias before a normalisation has no gradient but rounding
            assert moved == pytest.approx(1e-2 * 0.5**away, rel=0.05), name
            seen.add(away)
    assert seen == set(range(2 * len(TINY.dims) + 2))


def test_a_share_above_one_or_below_nothing_is_refused() -> None:
    for decay in (0.0, 1.1, -1.0):
        with pytest.raises(ConfigError, match="layer_decay must be above 0 and at most 1"):
            replace(LoopConfig(total_images=1), layer_decay=decay)
