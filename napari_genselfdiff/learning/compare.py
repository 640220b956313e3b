"""The refined model beside the one in use, on what was kept aside: numbers, verdict, picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.learning.before_after import BeforeAfter, most_changed
from napari_genselfdiff.learning.corrections import CorrectionTile, class_index, class_values
from napari_genselfdiff.learning.gate import (
    Changed,
    Classes,
    Verdict,
    best_constant,
    judge,
    judge_first,
)
from napari_genselfdiff.learning.holdout import by_hand
from napari_genselfdiff.learning.scoring import (
    classify,
    count,
    on_known,
    share_right,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from napari_genselfdiff.learning.gate import Counts
    from napari_genselfdiff.learning.lesson import Lesson
    from napari_genselfdiff.registry.folder import Model


def known_now(lesson: Lesson, device: torch.device) -> Counts:
    """Counts of the model in use on the keep-working tiles."""
    in_use = lesson.current.load().to(device)
    return on_known(in_use, lesson.keep, class_index(lesson.task), lesson.old_channels())


def compare(
    lesson: Lesson,
    candidate: Model,
    seed: int,
    device: torch.device,
    known_before: Counts | None,
) -> tuple[Verdict, BeforeAfter]:
    """Verdict on the candidate, and the held-out place where the two models differ most.

    Where it is refused for what changes elsewhere, the place is one of those.

    ``known_before`` are the counts of :func:`known_now`, or None where there is no model in use.
    """
    task, tiles, held = lesson.task, lesson.tiles, lesson.held
    index, names = class_index(task), [spec.name for spec in task.classes]
    after = candidate.load().to(device)
    answers_new = [classify(after, tile.image) for tile in tiles]
    others = lesson.elsewhere
    known_others = [tile.known for tile in others]
    answers_others = [classify(after, tile.image) for tile in others]
    new = count(answers_new, tiles, held, index, after.n_classes)
    if known_before is None:
        constant = best_constant([index[tile.classes] for tile in tiles], held)
        old = count(constant, tiles, held, index, after.n_classes)
        verdict = judge_first(old, new, names, seed=seed)
        answers_old = [np.zeros_like(answer) for answer in answers_new]  # there was no answer
        right = _right(answers_old, answers_new, tiles, held, index)
    else:
        before, channels = lesson.current.load().to(device), lesson.old_channels()
        answers_old = [channels[classify(before, tile.image)] for tile in tiles]
        old = count(answers_old, tiles, held, index, after.n_classes)
        kept_new = on_known(after, lesson.keep, index)
        changed = by_hand(tiles, held)
        gained = [
            count(answers, tiles, changed, index, after.n_classes, background=True)
            for answers in (answers_old, answers_new)
        ]
        right = _right(answers_old, answers_new, tiles, held, index)
        classes = Classes(names, fresh=lesson.fresh)
        by = Changed(gained[0], gained[1], right)
        alike = None
        if others:
            seen = count(
                answers_others, others, known_others, index, after.n_classes, background=True
            )
            alike = seen.likeness()
        verdict = judge(
            old, new, known_before, kept_new, classes, by=by, elsewhere=alike, seed=seed
        )
    verdict = replace(verdict, right=right)
    if verdict.strays:
        tiles, held = others, known_others
        answers_old, answers_new = [index[tile.classes] for tile in others], answers_others
    return verdict, most_changed(answers_old, answers_new, tiles, held, class_values(task))


def _right(
    before: Sequence[NDArray[np.int64]],
    after: Sequence[NDArray[np.int64]],
    tiles: Sequence[CorrectionTile],
    held: Sequence[NDArray[np.bool_]],
    index: NDArray[np.int64],
) -> dict[str, tuple[float, float]]:
    """Shares of pixels answered right, old and new, where one corrected and where one accepted."""
    human = [tile.human & mask for tile, mask in zip(tiles, held, strict=True)]
    accepted = [mask & ~drawn for mask, drawn in zip(held, human, strict=True)]
    found = {}
    for name, scored in (("corrected", human), ("accepted", accepted)):
        old, new = (share_right(answers, tiles, scored, index) for answers in (before, after))
        if old is not None and new is not None:
            found[name] = (old, new)
    return found
