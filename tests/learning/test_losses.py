from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.backbone.heads import SegmentationOutput
from napari_genselfdiff.learning import losses
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.objectives import Segmentation

LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "focal": losses.focal,
    "structural": losses.structural_similarity,
    "dice": losses.soft_dice,
}


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 16, 16, generator=generator)
    classes = torch.randint(0, 4, (3, 16, 16), generator=generator)
    known = torch.rand(3, 16, 16, generator=generator) < 0.5
    return logits, classes, known


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 50))
def test_unknown_pixels_get_exactly_no_gradient(name: str, seed: int) -> None:
    logits, classes, known = batch(seed)
    logits.requires_grad_(True)
    LOSSES[name](logits, classes, known).sum().backward()
    assert logits.grad is not None
    per_pixel = logits.grad.abs().sum(dim=1)
    assert float(per_pixel[~known].max()) == 0.0
    assert float(per_pixel[known].sum()) > 0


def test_unknown_pixels_teach_no_part_of_the_objective() -> None:
    """Classes and distance together, as the loop sees them, with three classes."""
    logits, classes, known = batch(6)
    answer = torch.cat([logits, torch.randn(3, 1, 16, 16)], dim=1).requires_grad_(True)
    distance = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    patches = Batch(torch.zeros(3, 3, 16, 16), (0, 1, 2), classes, distance, known)
    output = SegmentationOutput(answer[:, :-1], answer[:, -1:])
    loss, parts = Segmentation().score(output, patches)
    assert all(float(part.min()) > 0 for part in parts.values())
    loss.sum().backward()
    assert answer.grad is not None
    unknown = answer.grad.movedim(1, -1)[~known]
    assert unknown.shape == (int((~known).sum()), 5)
    assert float(unknown.abs().max()) == 0.0
    assert bool((answer.grad.movedim(1, -1)[known].abs().sum(0) > 0).all())


@pytest.mark.parametrize("name", LOSSES)
def test_what_stands_at_unknown_pixels_changes_nothing(name: str) -> None:
    logits, classes, known = batch(1)
    other_logits = torch.where(known[:, None], logits, torch.full_like(logits, 7.0))
    other_classes = torch.where(known, classes, 3 - classes)
    torch.testing.assert_close(
        LOSSES[name](logits, classes, known), LOSSES[name](other_logits, other_classes, known)
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_answer_costs_less_and_saturation_stays_finite(name: str) -> None:
    logits, classes, known = batch(2)
    right = F.one_hot(classes, 4).movedim(-1, 1) * 200.0
    best = LOSSES[name](right, classes, known)
    assert bool(torch.isfinite(best).all())
    assert bool((best < LOSSES[name](logits, classes, known)).all())
    assert bool((best < 0.02).all())
    assert bool(torch.isfinite(LOSSES[name](-right, classes, known)).all())


@pytest.mark.parametrize("name", LOSSES)
def test_samples_do_not_see_each_other(name: str) -> None:
    logits, classes, known = batch(3)
    together = LOSSES[name](logits, classes, known)
    apart = [
        LOSSES[name](logits[i : i + 1], classes[i : i + 1], known[i : i + 1]) for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(apart))


def test_nothing_known_costs_nothing() -> None:
    logits, classes, known = batch(4)
    for loss in LOSSES.values():
        assert float(loss(logits, classes, torch.zeros_like(known)).abs().sum()) == 0.0


def test_focal_with_gamma_zero_is_cross_entropy() -> None:
    logits, classes, _ = batch(5)
    everywhere = torch.ones_like(classes, dtype=torch.bool)
    expected = F.cross_entropy(logits, classes, reduction="none").mean(dim=(1, 2))
    torch.testing.assert_close(losses.focal(logits, classes, everywhere, gamma=0), expected)


def test_distance_loss_is_zero_at_its_target_only() -> None:
    target = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    everywhere = torch.ones(2, 8, 8, dtype=torch.bool)
    perfect = torch.logit(target)[:, None]
    torch.testing.assert_close(
        losses.distance_loss(perfect, target, everywhere), torch.zeros(2), atol=1e-6, rtol=0
    )
    assert bool((losses.distance_loss(perfect + 1, target, everywhere) > 0.01).all())


def test_half_precision_does_not_drown_the_structure() -> None:
    """A local deviation is a small difference of two means; in bfloat16 it would be rounding."""
    logits, classes, known = batch(3)
    plain = losses.structural_similarity(logits, classes, known)
    with torch.autocast("cpu", torch.bfloat16):
        half = losses.structural_similarity(logits, classes, known)
    torch.testing.assert_close(half, plain)
