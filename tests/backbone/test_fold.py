from __future__ import annotations

import copy

import pytest
import torch

from napari_genselfdiff.backbone.fold import fold_time
from napari_genselfdiff.backbone.heads import build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS


@pytest.mark.parametrize("timestep", [0, 50, 700])
def test_folded_answers_as_before(timestep: int) -> None:
    torch.manual_seed(timestep)
    whole = build_segmenter(PRESETS["fast"], 2, timestep).double()
    folded = fold_time(copy.deepcopy(whole))
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        for a, b in zip(whole(x), folded(x), strict=True):
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_folding_twice_changes_nothing() -> None:
    model = fold_time(build_segmenter(PRESETS["fast"], 1, 50))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in fold_time(model).state_dict().items():
        assert torch.equal(value, before[name])


def test_additive_time_is_left_alone() -> None:
    model = build_segmenter(PRESETS["paper"], 1, 50)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in fold_time(model).state_dict().items():
        assert torch.equal(value, before[name])
