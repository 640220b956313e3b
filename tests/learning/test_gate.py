from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_genselfdiff.learning.gate import Counts, count_blocks, from_to, judge

NAMES = ["Nucleus"]


def scene(seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    truth = np.zeros((256, 256), np.int64)
    for y, x in rng.integers(10, 240, (60, 2)):
        truth[y : y + 9, x : x + 9] = 1
    return truth


def spoiled(truth: NDArray[np.int64], share: float, seed: int = 0) -> NDArray[np.int64]:
    flip = np.random.default_rng(seed).random(truth.shape) < share
    return np.where(flip, 1 - truth, truth)


def counts(seed: int, share: float, *, block: int = 64) -> Counts:
    truth = scene(seed)
    return count_blocks(spoiled(truth, share), truth, np.ones(truth.shape, bool), 1, block=block)


def test_dice_of_a_hand_worked_case() -> None:
    truth = np.array([[1, 1, 0, 2]])
    predicted = np.array([[1, 0, 0, 2]])
    scored = np.array([[True, True, True, True]])
    result = count_blocks(predicted, truth, scored, 2)
    assert result.dice().tolist() == [pytest.approx(2 / 3), 1.0]
    unseen = count_blocks(predicted, truth, np.array([[True, False, True, True]]), 2)
    assert unseen.dice().tolist() == [1.0, 1.0]


def test_an_absent_class_is_left_out_of_the_mean() -> None:
    empty = np.zeros((8, 8), np.int64)
    result = count_blocks(empty, empty, np.ones((8, 8), bool), 2)
    assert result.mean_dice() == 1.0


def test_better_is_accepted() -> None:
    verdict = judge(counts(0, 0.2), counts(0, 0.05), counts(1, 0.1), counts(1, 0.1), NAMES)
    assert verdict.decision == "better"
    assert verdict.accepted
    assert verdict.new > verdict.old
    assert verdict.interval[0] > 0
    assert verdict.sentence.startswith("Better")
    assert list(verdict.classes["Nucleus"]) == pytest.approx([verdict.old, verdict.new])


def test_worse_is_refused() -> None:
    verdict = judge(counts(0, 0.05), counts(0, 0.2), counts(1, 0.1), counts(1, 0.1), NAMES)
    assert verdict.decision == "not_better"
    assert "old model stays" in verdict.sentence


def test_unchanged_is_refused() -> None:
    same = counts(0, 0.1)
    assert judge(same, same, same, same, NAMES).decision == "not_better"


def test_forgetting_is_refused_however_good_the_corrections_look() -> None:
    verdict = judge(counts(0, 0.3), counts(0, 0.0), counts(1, 0.05), counts(1, 0.12), NAMES)
    assert verdict.decision == "not_better"
    assert "forgets" in verdict.sentence


def test_a_redefined_class_may_change_on_known_tissue() -> None:
    case = counts(0, 0.3), counts(0, 0.0), counts(1, 0.05), counts(1, 0.12)
    verdict = judge(*case, NAMES, redefined=NAMES)
    assert verdict.decision == "better"
    assert verdict.keep is None


def test_too_few_places_are_not_judged() -> None:
    old, new = counts(0, 0.2, block=256), counts(0, 0.0, block=256)
    verdict = judge(old, new, counts(1, 0.1), counts(1, 0.1), NAMES)
    assert verdict.decision == "too_little"
    assert not verdict.accepted


def test_without_a_keep_working_set_corrections_alone_decide() -> None:
    none = Counts.join([], 1)
    verdict = judge(counts(0, 0.2), counts(0, 0.05), none, none, NAMES)
    assert verdict.decision == "better"
    assert verdict.keep is None


def test_two_values_are_told_apart() -> None:
    assert from_to(0.65, 0.71) == "0.65 → 0.71"
    assert from_to(0.6454, 0.6498) == "0.645 → 0.650"
    assert from_to(0.5, 0.5) == "0.500 → 0.500"
