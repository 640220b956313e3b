from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_genselfdiff.prediction.confidence import (
    UNSURE_BELOW,
    auroc,
    box_sum,
    calibrated,
    calibration_error,
    drawn_confidence,
    fit_temperature,
    nearby,
    reliability,
    temperature,
    unsure,
)
from napari_genselfdiff.registry.card import Calibration
from tests.prediction.synthetic import make_card

HEAT = 1.8


def too_sure(seed: int = 0, n: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Confidences whose logits are HEAT times too large, and whether each was right."""
    rng = np.random.default_rng(seed)
    honest = rng.uniform(0.5, 0.99, n)
    right = rng.random(n) < honest
    logit = HEAT * np.log(honest / (1 - honest))
    return 1 / (1 + np.exp(-logit)), right


def calibration(heat: float) -> Calibration:
    return Calibration(temperature={"1": heat}, ece_before=0.1, ece_after=0.01, images=3)


def test_the_temperature_is_found_and_makes_confidence_honest() -> None:
    confidence, right = too_sure()
    heat = fit_temperature(confidence, right)
    assert heat == pytest.approx(HEAT, rel=0.05)
    before = calibration_error(confidence, right)
    after = calibration_error(calibrated(confidence, heat), right)
    assert before > 0.05
    assert after < 0.01


def test_reliability_counts_every_pixel() -> None:
    confidence, right = np.array([0.05, 0.93, 0.99, 1.0]), np.array([False, True, False, True])
    found = reliability(confidence, right, bins=10)
    assert [n for *_, n in found] == [1, 3]
    assert found[1][1] == pytest.approx(2 / 3)


def test_auroc_is_the_share_of_well_ordered_pairs() -> None:
    confidence = np.array([0.9, 0.8, 0.6, 0.6, 0.5])
    right = np.array([True, False, True, False, False])
    pairs = [(r, w) for r in confidence[right] for w in confidence[~right]]
    expected = np.mean([(r > w) + 0.5 * (r == w) for r, w in pairs])
    assert auroc(confidence, right) == pytest.approx(expected)
    assert auroc(confidence, np.ones(5, bool)) is None


@given(heat=st.floats(0.3, 4), level=st.floats(0.01, 0.99))
def test_a_place_is_hatched_where_its_calibrated_confidence_is_low(
    heat: float, level: float
) -> None:
    card = make_card(calibration=calibration(heat))
    found = unsure(np.full((60, 60), level), card, 0.5, 1)
    sure = calibrated(np.array([level]), heat)[0]
    if abs(sure - UNSURE_BELOW) > 1e-6:
        assert found.all() == found.any() == (sure < UNSURE_BELOW)


def test_thin_rims_are_not_hatched_and_patches_are() -> None:
    confidence = np.ones((80, 80))
    confidence[:, 10:12] = 0.5  # 1 µm
    confidence[40:60, 40:60] = 0.5  # 10 µm
    found = unsure(confidence, make_card(), 0.5, 1)
    assert not found[:30].any()
    assert found[45:55, 45:55].all()


def test_a_model_without_calibration_is_taken_at_its_word() -> None:
    assert temperature(make_card(), 1) == 1
    assert temperature(make_card(calibration=calibration(1.5)), 1) == 1.5
    assert temperature(make_card(calibration=calibration(1.5)), 4) == 1


def test_calibration_does_not_make_another_model() -> None:
    plain, known = make_card(), make_card(calibration=calibration(1.5))
    assert plain.identity() == known.identity()


@given(side=st.integers(0, 12).map(lambda half: 2 * half + 1), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_box_sums_are_those_of_a_filter_and_the_same_in_a_part(side: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(40, 51)).astype(np.float32)
    found = box_sum(values, side)
    expected = ndimage.uniform_filter(values.astype(np.float64), side, mode="nearest") * side**2
    np.testing.assert_allclose(found, expected, atol=1e-3)
    half = side // 2
    part = box_sum(values[3:33, 5:47], side)
    inside = part[half : 30 - half, half : 42 - half]
    there = found[3:33, 5:47][half : 30 - half, half : 42 - half]
    assert inside.tobytes() == there.tobytes()


def test_where_the_network_hesitates_around_it_is_less_sure() -> None:
    card = make_card()
    sure, doubtful = np.full((40, 40), 0.97), np.full((40, 40), 0.6)
    sure[20, 20] = doubtful[20, 20] = 0.95
    classes = np.full((40, 40), 3, np.uint8)
    one, two = (drawn_confidence(p[None], classes, card, 0.25) for p in (sure, doubtful))
    assert one[20, 20] > 0.95 > two[20, 20] > 0.6
    # Beyond the reach of what is averaged nothing changes.
    far = 20 + nearby(0.25) + 1
    assert one[20, far] == pytest.approx(0.97, abs=1e-5)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_confidence_is_that_of_the_drawn_class(n_classes: int) -> None:
    card = make_card(n_classes=n_classes)
    probability = np.full((n_classes, 30, 30), 0.02)
    probability[0, :15] = 0.9
    classes = np.zeros((30, 30), np.uint8)
    classes[:15] = card.task.classes[0].value
    found = drawn_confidence(probability, classes, card, 0.5)
    assert found[5, 5] == pytest.approx(0.9, abs=1e-5)
    assert found[25, 5] == pytest.approx(1 - 0.02 * n_classes, abs=1e-5)
    wrong = drawn_confidence(probability, np.zeros_like(classes), card, 0.5)
    assert wrong[5, 5] == pytest.approx(1 - probability[:, 5, 5].sum(), abs=1e-5)
