"""A verdict in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Decision = Literal["better", "not_better", "too_little"]
# It gains too little, and so on.
Problem = Literal["", "gains", "chance", "spoils", "forgets", "strays"]

FOUND = 0.1  # Dice from which a new class counts as found at all


def from_to(old: float, new: float) -> str:
    """Two Dice values with as many digits as tell them apart: "0.65 → 0.71", "0.645 → 0.650"."""
    digits = 2 if f"{old:.2f}" != f"{new:.2f}" else 3
    return f"{old:.{digits}f} → {new:.{digits}f}"


class Others(NamedTuple):
    """What else than corrections was compared, for the sentences."""

    kept: tuple[float, float, float] | None
    elsewhere: float | None

    @property
    def said(self) -> str:
        """What was found there."""
        if self.kept is not None:
            return f"; on tissue it knew before, {from_to(*self.kept[:2])}"
        if self.elsewhere is not None:
            return f"; elsewhere on the slide, Dice {self.elsewhere:.2f} with the old model"
        return ""

    @property
    def caution(self) -> str:
        """Corrections are often unlike other tissue: what is gained there may be lost elsewhere."""
        return "" if self.said else " Nothing else was compared; look at other places, too."


def sentence(
    decision: Decision,
    value: tuple[float, float],
    beside: Others,
    blocks: int,
    problem: Problem,
) -> str:
    """The verdict on ``value``, the Dice (old, new) on corrections kept aside."""
    aside = f"on corrections kept aside, Dice {from_to(*value)}"
    known = beside.said
    if decision == "too_little":
        return too_little(blocks, f"{aside}{known}")
    if decision == "better":
        return f"Better: {aside}{known}.{beside.caution}"
    if problem == "gains":
        few = " That is less than a point." if value[1] > value[0] else ""
        return f"Not better: {aside}{known}.{few} The old model stays; more corrections would help."
    if problem == "chance":
        return (
            f"Not better: {aside}{known}, but it agrees with the corrections hardly better than "
            "chance. Do they lie on what they name? The old model stays."
        )
    if problem == "spoils":
        return (
            f"Not better: {aside}, but as much of what you accepted gets wrong{known}. The old "
            "model stays; more corrections would help."
        )
    if problem == "strays":
        return (
            f"Not better: {aside}, but much changes where nobody looked{known}. The old model "
            "stays; correct or accept typical places, too."
        )
    return (
        f"Not better: {aside}, but it forgets{known}. The old model stays; corrections that are "
        "more alike, or a longer refine, would help."
    )


def sentence_of_new_classes(
    decision: Decision,
    others: tuple[float, float],
    beside: Others,
    found: Mapping[str, float],
    unseen: Sequence[str],
) -> str:
    """The verdict where there are classes the model in use does not know, with their Dice."""
    told = " and ".join(f"{name} {dice:.2f} (absent before)" for name, dice in found.items())
    aside = f"on corrections kept aside, Dice of {told}; of the others {from_to(*others)}"
    known = beside.said
    if unseen:
        return (
            f"Too little to judge: {' and '.join(unseen)} could not be kept aside anywhere "
            f"({aside}{known}). Draw a few more in other places, or decide by the picture."
        )
    if decision == "too_little":
        return (
            f"Too little to judge: too few places could be kept aside ({aside}{known}). "
            "Correct a few more places, or decide by the picture."
        )
    if decision == "better":
        return f"Better: {aside}{known}.{beside.caution}"
    missed = [name for name, dice in found.items() if dice < FOUND]
    why = f"draw more {' and '.join(missed)}" if missed else "more corrections would help"
    return f"Not better: {aside}{known}. The old model stays; {why}."


def too_little(blocks: int, found: str) -> str:
    """The verdict where too few places were kept aside; ``found`` is what they say."""
    return (
        f"Too little to judge: only {blocks} places could be kept aside ({found}). "
        "Correct a few more places, or decide by the picture."
    )
