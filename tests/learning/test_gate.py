from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_genselfdiff.learning.gate import (
    Changed,
    Classes,
    Counts,
    Verdict,
    count_blocks,
    judge,
)
from napari_genselfdiff.learning.verdict_words import from_to

NAMES = Classes(["Nucleus"])


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


def test_better_says_if_nothing_else_was_compared() -> None:
    old, new, none = counts(0, 0.2), counts(0, 0.05), Counts.join([], 1)
    alone = judge(old, new, none, none, NAMES)
    assert alone.accepted
    assert "Nothing else was compared" in alone.sentence
    assert "Nothing else" not in judge(old, new, counts(1, 0.1), counts(1, 0.1), NAMES).sentence


def test_what_changes_much_where_nobody_looked_is_refused() -> None:
    old, new, none = counts(0, 0.2), counts(0, 0.05), Counts.join([], 1)
    little, much = (judge(old, new, none, none, NAMES, elsewhere=x) for x in (0.81, 0.79))
    assert little.accepted
    assert not little.strays
    assert "Dice 0.81 with the old model" in little.sentence
    assert "Nothing else" not in little.sentence
    assert much.decision == "not_better"
    assert much.strays
    assert "where nobody looked" in much.sentence
    assert not judge(new, old, none, none, NAMES, elsewhere=0.79).strays  # it gains nothing


def test_classes_that_were_hardly_anywhere_do_not_tell_how_alike_answers_are() -> None:
    """Worked by hand: 5 of 1,000 background pixels become class 1, none of which was there."""
    old, new = np.zeros((10, 100), np.int64), np.zeros((10, 100), np.int64)
    new[0, :5] = 1
    everywhere = np.ones(old.shape, bool)
    assert count_blocks(new + 1, old + 1, everywhere, 2).likeness() == pytest.approx(1990 / 1995)
    old[:, :20] = 1  # 200 pixels, of which 5 are still called so
    found = count_blocks(new + 1, old + 1, everywhere, 2).likeness()
    assert found == pytest.approx((10 / 205 + 1600 / 1795) / 2)
    assert Counts.join([], 2).likeness() == 1.0


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
    verdict = judge(*case, NAMES._replace(redefined=NAMES.names))
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


class TestNewClass:
    """A class the model in use does not know is compared with its absence."""

    NAMES = ("Nucleus", "Plasma cell")

    @staticmethod
    def two(other: float, found: float, blocks: int = 12, drawn: int = 100) -> Counts:
        """Counts of a class the model knows, at Dice ``other``, and a new one, at ``found``."""
        size = np.tile([100.0, float(drawn)], (blocks, 1))
        overlap = size * np.array([other, found])
        return Counts(overlap, size * np.array([1.0, float(found > 0)]), size)

    def judged(self, old: Counts, new: Counts, keep: float = 0.8) -> Verdict:
        kept = self.two(0.8, 0.0, drawn=0), self.two(keep, 0.0, drawn=0)
        return judge(old, new, *kept, Classes(self.NAMES, fresh=("Plasma cell",)))

    def test_finding_it_is_enough_if_the_others_stay(self) -> None:
        verdict = self.judged(self.two(0.7, 0.0), self.two(0.695, 0.6))
        assert verdict.decision == "better", verdict.sentence
        assert list(verdict.classes["Plasma cell"]) == pytest.approx([0.0, 0.6])
        assert [verdict.old, verdict.new] == pytest.approx([0.7, 0.695])
        assert "Plasma cell 0.60 (absent before)" in verdict.sentence

    def test_the_others_may_not_fall(self) -> None:
        assert self.judged(self.two(0.7, 0.0), self.two(0.68, 0.9)).decision == "not_better"

    def test_what_was_known_may_not_be_forgotten(self) -> None:
        old, new = self.two(0.7, 0.0), self.two(0.8, 0.9)
        assert self.judged(old, new, keep=0.7).decision == "not_better"

    def test_it_has_to_be_found(self) -> None:
        verdict = self.judged(self.two(0.7, 0.0), self.two(0.9, 0.02))
        assert verdict.decision == "not_better"
        assert "draw more Plasma cell" in verdict.sentence

    def test_one_that_could_not_be_kept_aside_is_not_judged(self) -> None:
        verdict = self.judged(self.two(0.7, 0.0, drawn=0), self.two(0.8, 0.0, drawn=0))
        assert verdict.decision == "too_little"
        assert "Plasma cell could not be kept aside" in verdict.sentence


class TestByHand:
    """What a person changed decides; what was merely accepted is the old model's own answer."""

    @staticmethod
    def both(dice: float) -> Counts:
        """Counts of background and a class, each at this Dice."""
        size = np.full((6, 2), 100.0)
        return Counts(size * dice, size, size)

    def judged(self, gain: float, corrected: float = 0.2, accepted: float = -0.02) -> Verdict:
        right = {"corrected": (0.3, 0.3 + corrected), "accepted": (1.0, 1.0 + accepted)}
        by = Changed(self.both(0.4), self.both(0.4 + gain), right)
        # the old model is the better one where all that was kept aside is counted
        return judge(counts(0, 0.02), counts(0, 0.05), counts(1, 0.1), counts(1, 0.1), NAMES, by=by)

    def test_more_of_what_was_corrected_is_better(self) -> None:
        verdict = self.judged(0.1)
        assert verdict.decision == "better"
        assert [verdict.old, verdict.new] == pytest.approx([0.4, 0.5])

    def test_less_than_a_point_is_chance(self) -> None:
        verdict = self.judged(0.005)
        assert verdict.decision == "not_better"
        assert "less than a point" in verdict.sentence

    def test_what_was_accepted_may_not_lose_more_than_is_gained(self) -> None:
        verdict = self.judged(0.1, corrected=0.05, accepted=-0.1)
        assert verdict.decision == "not_better"
        assert "what you accepted" in verdict.sentence

    @pytest.mark.parametrize(
        ("dice", "gain", "decision"),
        [
            (0.50, 0.02, "not_better"),  # labels beside their objects gain as much
            (0.50, 0.06, "better"),
            (0.65, 0.02, "better"),
        ],
    )
    def test_alone_they_have_to_be_met_better_than_by_chance(
        self, dice: float, gain: float, decision: str
    ) -> None:
        right = {"corrected": (dice, dice + gain)}
        by = Changed(self.both(dice), self.both(dice + gain), right)
        known = counts(1, 0.1)
        verdict = judge(counts(0, 0.02), counts(0, 0.05), known, known, NAMES, by=by)
        assert verdict.decision == decision
        assert ("chance" in verdict.sentence) == (decision == "not_better")


def test_kappa_is_agreement_beyond_chance() -> None:
    # 70 of 100 agree; with shares 0.5/0.5 and 0.6/0.4 half would by chance
    overlap, predicted, true = (
        np.array([row]) for row in ([40.0, 30.0], [60.0, 40.0], [50.0, 50.0])
    )
    assert Counts(overlap, predicted, true).kappa() == pytest.approx(0.4)
    assert Counts(true, true, true).kappa() == pytest.approx(1)
    nothing = np.zeros((0, 2))
    assert Counts(nothing, nothing, nothing).kappa() == 0
    one = np.array([[100.0, 0.0]])
    assert Counts(one, one, one).kappa() == 0
