"""Is the refined model better? A verdict in words, from counts on blocks never trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_genselfdiff.learning import verdict_words as words
from napari_genselfdiff.learning.holdout import BLOCK, block_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.learning.verdict_words import Decision, Problem

ALLOWED_LOSS = 0.01  # Dice on tissue the model knew before
LEAST_LIKENESS = 0.8  # Dice with the sure answers of the model in use, where nobody looked
HARDLY_ANY = 0.01  # of the pixels
FEWEST_BLOCKS = 3
LEAST_GAIN = 0.01  # Dice on what was corrected by hand; less is as good as chance
LEAST_AGREEMENT = 0.2  # kappa with corrections that nothing accepted stands beside
SURE_GAIN = 0.05  # Dice from which less agreement than that will do


@dataclass(frozen=True)
class Counts:
    """Pixels per block and class: agreed, predicted, true; each ``(blocks, classes)``."""

    overlap: NDArray[np.float64]
    predicted: NDArray[np.float64]
    true: NDArray[np.float64]

    @classmethod
    def join(cls, parts: Sequence[Counts], n_classes: int) -> Counts:
        """All blocks of several tiles."""
        empty = np.zeros((0, n_classes))
        return cls(
            np.concatenate([empty, *(part.overlap for part in parts)]),
            np.concatenate([empty, *(part.predicted for part in parts)]),
            np.concatenate([empty, *(part.true for part in parts)]),
        )

    def dice(self, draw: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Dice of every class over all, or the drawn, blocks; 1 where there is nothing at all."""
        parts = [v if draw is None else v[draw] for v in (self.overlap, self.predicted, self.true)]
        overlap, predicted, true = (part.sum(axis=0) for part in parts)
        size = predicted + true
        return np.where(size > 0, 2 * overlap / np.maximum(size, 1), 1.0)

    def kappa(self) -> float:
        """Agreement beyond chance, at most 1 (Cohen 1960); 0 where chance alone would agree.

        The classes have to be all there are, background included.
        """
        pixels = max(self.true.sum(), 1.0)
        agreed = self.overlap.sum() / pixels
        chance = (self.true.sum(axis=0) * self.predicted.sum(axis=0)).sum() / pixels**2
        return float((agreed - chance) / (1 - chance)) if chance < 1 else 0.0

    def mean_dice(self, draw: NDArray[np.int64] | None = None) -> float:
        """Mean Dice over the classes that occur in truth or prediction."""
        present = (self.predicted + self.true).sum(axis=0) > 0
        return float(self.dice(draw)[present].mean()) if present.any() else 1.0

    def likeness(self) -> float:
        """Mean Dice over the classes that make up :data:`HARDLY_ANY` of the truth, or more.

        With the background as a class: where the truth is what another model said, it may have
        found hardly anything else.
        """
        counts = self.true.sum(axis=0)
        there = counts >= max(HARDLY_ANY * counts.sum(), 1)
        return float(self.dice()[there].mean()) if there.any() else 1.0


class Classes(NamedTuple):
    """Names of a task's classes; those with a new meaning, and those the old model lacks."""

    names: Sequence[str]
    redefined: Sequence[str] = ()
    fresh: Sequence[str] = ()


class Changed(NamedTuple):
    """How two models answer what a person changed, of all that is kept aside.

    Counts with the background as the first class, and ``right`` as in :class:`Verdict`.
    """

    old: Counts
    new: Counts
    right: Mapping[str, tuple[float, float]]

    @property
    def net(self) -> float:
        """Share of pixels more right where people corrected, less that lost where they accepted."""
        return sum(new - old for old, new in self.right.values())

    @property
    def is_chance(self) -> bool:
        """Whether the new model agrees with what people did hardly better than chance.

        Labels beside their objects look like that: it learns how much of a class there is, and
        gains a little. Where people also accepted answers, :attr:`net` tells.
        """
        is_alone = "accepted" not in self.right
        has_classes = (self.new.true.sum(axis=0) > 0).sum() > 1
        return is_alone and has_classes and self.new.kappa() < LEAST_AGREEMENT


@dataclass(frozen=True)
class Verdict:
    """What the comparison found; Dice values are fractions, intervals 95 %.

    ``classes`` maps class names to (old, new); ``interval`` is that of the gain on corrections
    kept aside; ``keep`` is (old, new, lower bound of the change) on the keep-working set. ``right``
    has the shares (old, new) of pixels kept aside that are answered as the person said, apart for
    what was ``corrected`` by hand and what was ``accepted``. ``elsewhere`` is how like the sure
    answers of the model in use it answers where nobody looked (:meth:`Counts.likeness`), None if
    nothing is at hand there; ``strays`` whether it is refused for that.
    """

    decision: Decision
    sentence: str
    old: float
    new: float
    interval: tuple[float, float]
    classes: dict[str, tuple[float, float]]
    keep: tuple[float, float, float] | None
    blocks: int
    right: dict[str, tuple[float, float]] = field(default_factory=dict)
    elsewhere: float | None = None
    strays: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the new model may replace the old one by itself."""
        return self.decision == "better"


def count_blocks(
    predicted: NDArray[np.integer],
    true: NDArray[np.integer],
    scored: NDArray[np.bool_],
    n_classes: int,
    *,
    block: int = BLOCK,
) -> Counts:
    """Counts of every block with scored pixels; classes are channels 1..``n_classes``."""
    ids = block_ids(true.shape, block)[scored]
    _, blocks = np.unique(ids, return_inverse=True)
    n_blocks = int(blocks.max(initial=-1)) + 1
    p, t = predicted[scored], true[scored]

    def per_class(mask: NDArray[np.bool_], values: NDArray[np.integer]) -> NDArray[np.float64]:
        code = blocks[mask] * (n_classes + 1) + values[mask]
        counts = np.bincount(code, minlength=n_blocks * (n_classes + 1))
        return np.asarray(counts.reshape(n_blocks, n_classes + 1)[:, 1:], np.float64)

    everywhere = np.ones(len(p), bool)
    return Counts(per_class(p == t, t), per_class(everywhere, p), per_class(everywhere, t))


def judge(
    old: Counts,
    new: Counts,
    keep_old: Counts,
    keep_new: Counts,
    classes: Classes,
    *,
    by: Changed | None = None,
    elsewhere: float | None = None,
    seed: int = 0,
) -> Verdict:
    """Compare two models on the same held-out blocks and the same keep-working blocks.

    Better means: the Dice on held-out corrections rises, and the 95 % paired block bootstrap of
    the change on the keep-working set stays above -1 point, redefined classes left out.

    With ``by`` the Dice is that of what was changed by hand, background included, and has to rise
    by :data:`LEAST_GAIN`, more than what was merely accepted loses; by :data:`SURE_GAIN` where
    nothing was accepted and the new model agrees hardly better than chance.

    Fresh classes were absent before. Where there are any, each has to be found with a Dice of
    :data:`FOUND`, and that of the others may not fall by more than a point; old and new value
    and interval are those of the others.

    ``elsewhere``, as in :class:`Verdict`, has to be :data:`LEAST_LIKENESS`: a few corrections are
    no reason to call half a slide something else.
    """
    names, fresh = list(classes.names), classes.fresh
    by_class = _by_class(old, new, names)
    kept = _keep_change(keep_old, keep_new, names, (*classes.redefined, *fresh), seed)
    blocks = len(old.overlap)
    found = {name: by_class[name][1] for name in fresh}
    unseen = [name for name in fresh if old.true[:, names.index(name)].sum() == 0]
    judged, least = (old, new), 0.0
    if by is not None:
        judged, names, least = (by.old, by.new), ["", *names], LEAST_GAIN
    if fresh:
        judged = (_only(judged[0], names, without=fresh), _only(judged[1], names, without=fresh))
        least = -ALLOWED_LOSS
    gains = change_interval(*judged, seed)
    value = (judged[0].mean_dice(), judged[1].mean_dice())
    is_more = value[1] - value[0] > least if least else value[1] > value[0]
    problem: Problem = "" if is_more else "gains"
    if not problem and by is not None:
        problem = _unlike_corrections(by, value[1] - value[0])
    if not problem:
        problem = _unlike_before(kept, elsewhere)
    decision: Decision = "better"
    if blocks < FEWEST_BLOCKS or unseen:
        decision = "too_little"
    elif problem or any(dice < words.FOUND for dice in found.values()):
        decision = "not_better"
    beside = words.Others(kept, elsewhere)
    if fresh:
        sentence = words.sentence_of_new_classes(decision, value, beside, found, unseen)
    else:
        sentence = words.sentence(decision, value, beside, blocks, problem)
    strays = decision == "not_better" and problem == "strays"
    return Verdict(
        decision,
        sentence,
        *value,
        gains,
        by_class,
        kept,
        blocks,
        elsewhere=elsewhere,
        strays=strays,
    )


def _unlike_corrections(by: Changed, gain: float) -> Problem:
    if by.is_chance and gain < SURE_GAIN:
        return "chance"
    return "spoils" if by.net <= 0 else ""


def _unlike_before(kept: tuple[float, float, float] | None, elsewhere: float | None) -> Problem:
    if kept is not None and kept[2] <= -ALLOWED_LOSS:
        return "forgets"
    return "strays" if elsewhere is not None and elsewhere < LEAST_LIKENESS else ""


def best_constant(
    truths: Sequence[NDArray[np.int64]], scored: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.int64]]:
    """The same class, of those that are not background, for every pixel: what needs no learning.

    The most frequent one among the scored pixels.
    """
    values = np.concatenate([truth[mask] for truth, mask in zip(truths, scored, strict=True)])
    wanted = values[values > 0]
    most = int(np.bincount(wanted).argmax()) if wanted.size else 0
    return [np.full_like(truth, most) for truth in truths]


def judge_first(
    constant: Counts, new: Counts, class_names: Sequence[str], *, seed: int = 0
) -> Verdict:
    """Judge the first model of a task, which has no model to be compared with.

    Useful means: its Dice on held-out corrections is above that of an answer that is the same
    everywhere (see :func:`best_constant`).
    """
    value, blocks = (constant.mean_dice(), new.mean_dice()), len(new.overlap)
    classes = _by_class(constant, new, class_names)
    aside = f"on corrections kept aside, Dice {value[1]:.2f}"
    decision: Decision = "better"
    sentence = f"A first model: {aside} ({value[0]:.2f} if it called everything the same)."
    if blocks < FEWEST_BLOCKS:
        decision = "too_little"
        sentence = words.too_little(blocks, aside)
    elif value[1] <= value[0]:
        decision = "not_better"
        sentence = (
            f"Not useful yet: {aside}, and {value[0]:.2f} if it called everything the same. "
            "Correct or accept more places, background too."
        )
    gains = change_interval(constant, new, seed)
    return Verdict(decision, sentence, *value, gains, classes, None, blocks)


def _by_class(old: Counts, new: Counts, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    return {
        name: (float(a), float(b)) for name, a, b in zip(names, old.dice(), new.dice(), strict=True)
    }


def _keep_change(
    old: Counts, new: Counts, names: Sequence[str], redefined: Sequence[str], seed: int
) -> tuple[float, float, float] | None:
    if not len(old.overlap) or not set(names) - set(redefined):
        return None
    a, b = (_only(counts, names, without=redefined) for counts in (old, new))
    return a.mean_dice(), b.mean_dice(), change_interval(a, b, seed)[0]


def _only(counts: Counts, names: Sequence[str], *, without: Sequence[str]) -> Counts:
    stay = [i for i, name in enumerate(names) if name not in without]
    return Counts(counts.overlap[:, stay], counts.predicted[:, stay], counts.true[:, stay])


def change_interval(old: Counts, new: Counts, seed: int, rounds: int = 1000) -> tuple[float, float]:
    """95 % interval of the change of the mean Dice: paired bootstrap over the same blocks."""
    blocks = len(old.overlap)
    if blocks < 2:
        return (-1.0, 1.0)
    rng = np.random.default_rng([seed, 11])
    draws = rng.integers(0, blocks, (rounds, blocks))
    changes = [new.mean_dice(draw) - old.mean_dice(draw) for draw in draws]
    low, high = np.quantile(changes, [0.025, 0.975])
    return float(low), float(high)
