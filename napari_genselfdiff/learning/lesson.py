"""What a refine learns from and is judged by: corrected tiles, split, and the base's own tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.answered import answered
from napari_genselfdiff.learning.corrections import (
    class_index,
    class_values,
    merge_tiles,
    read_tiles,
    relabelled,
    without,
)
from napari_genselfdiff.learning.elsewhere import read_elsewhere
from napari_genselfdiff.learning.first import is_untrained
from napari_genselfdiff.learning.generated import generated_tiles
from napari_genselfdiff.learning.growing import (
    added_values,
    find_homes,
    grown,
    left_open,
    older,
    wanted_task,
)
from napari_genselfdiff.learning.holdout import hold_out
from napari_genselfdiff.learning.scoring import as_predicted
from napari_genselfdiff.registry.folder import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.elsewhere import CorrectedSlide
    from napari_genselfdiff.learning.refine_config import Practice, RefineConfig
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.registry.folder import Model

CORRECTIONS, KEEP, REPLAY, RESERVE = "corrections", "keep", "replay", "reserve"

TUNING_SHARE: Final = 0.15  # of what is not held out for the gate
_SURE: Final = 0.8  # probability from which an answer is worth keeping
_ASIDE: Final = 3  # every third place elsewhere is only compared on


@dataclass(frozen=True)
class Lesson:
    """Everything a refine reads before it begins.

    ``held`` and ``tuning`` are known pixels of ``tiles``, ``(h, w)`` bool each, that nobody trains
    on: those the gate judges by, and those the share of the way is chosen by. ``rest`` are the
    tiles without ``held``, ``taught`` also without ``tuning``. ``replay``, ``reserve`` and
    ``keep`` are the base's own tiles: to practise, to choose by, and to be judged by. A base
    without any practises on the sure answers of the model in use in other places of the same
    slides; ``elsewhere`` are more of those, to be compared on (:func:`with_elsewhere`).

    ``task`` is what the refined model answers. ``homes`` are the values of its classes that the
    base does not know, each with the value the base calls it by.
    """

    current: Model
    base: Model
    tiles: Sequence[CorrectionTile]
    held: Sequence[NDArray[np.bool_]]
    tuning: Sequence[NDArray[np.bool_]]
    rest: Sequence[CorrectionTile]
    taught: Sequence[CorrectionTile]
    replay: Sequence[CorrectionTile]
    reserve: Sequence[CorrectionTile]
    keep: Sequence[CorrectionTile]
    task: TaskSpec
    merged: Mapping[int, int]
    homes: Mapping[int, int]
    elsewhere: Sequence[CorrectionTile] = ()

    @property
    def fresh(self) -> list[str]:
        """Names of the classes that the model in use does not know."""
        values = added_values(self.current.card.task, self.task)
        return [spec.name for spec in self.task.classes if spec.value in values]

    @property
    def channels(self) -> tuple[tuple[int, int], ...]:
        """Output of each class the base does not know, and of what it was called before."""
        index = class_index(self.task)
        return tuple((int(index[new]), int(index[home])) for new, home in self.homes.items())

    def start(self) -> Segmenter:
        """The base's network with an output for every class of the task; a new one each time."""
        return grown(self.base.load(), self.base.card.task, self.task, self.homes)

    def in_use(self) -> Segmenter:
        """The model in use, likewise; its answers are what they were."""
        known = self.current.card.task
        return grown(self.current.load(), known, self.task, self.homes)

    def old_channels(self) -> NDArray[np.int64]:
        """Output of the task for each output of the model in use, ``(1 + its classes,)``."""
        values = class_values(self.current.card.task)
        now = [self.merged.get(int(value), int(value)) for value in values]
        return class_index(self.task)[now]


class Asked(NamedTuple):
    """How a task is annotated now: its classes, and which values were merged into which."""

    task: TaskSpec
    merged: Mapping[int, int]


def prepare(
    current_folder: Path,
    base_folder: Path,
    new_tiles: Sequence[CorrectionTile],
    config: RefineConfig,
    asked: Asked | None = None,
) -> Lesson:
    """Read models and tiles, and keep some corrections aside.

    ``asked`` None means the classes that the model in use knows.

    Raises
    ------
    ConfigError
        If nothing is known, or a first model would see nothing but background.
    ModelFileError
        If a model or its tiles cannot be read.
    """
    current, base = read_model(current_folder), read_model(base_folder)
    known, merged = asked or Asked(current.card.task, {})
    earlier = relabelled(read_tiles(current.path / CORRECTIONS), merged)
    tiles = merge_tiles(earlier, new_tiles)
    if not any(tile.known.any() for tile in tiles):
        raise ConfigError(
            "there is nothing to learn from yet; correct something or press Accept view first"
        )
    if is_untrained(base.card) and not any((tile.classes[tile.known] > 0).any() for tile in tiles):
        raise ConfigError(
            f"nothing was drawn for {base.card.task.name} yet, only background; draw a few first"
        )
    task = wanted_task(current.card.task, known, merged, tiles)
    homes = {}
    if added := added_values(base.card.task, task):
        homes = find_homes(base.load(), base.card.task, task, tiles)
    tiles = left_open(tiles, homes)
    held = hold_out(tiles, seed=config.seed, apart=added)
    rest = [without(tile, mask) for tile, mask in zip(tiles, held, strict=True)]
    tuning = hold_out(rest, share=TUNING_SHARE, seed=config.seed + 1, apart=added)
    taught = [without(tile, mask) for tile, mask in zip(rest, tuning, strict=True)]
    own = (practice_tiles(base, config.practice), *_own_tiles(base))
    replay, reserve, keep = (older(relabelled(part, merged), homes) for part in own)
    return Lesson(
        current, base, tiles, held, tuning, rest, taught, replay, reserve, keep, task, merged, homes
    )


def with_elsewhere(
    lesson: Lesson, slides: Sequence[CorrectedSlide], config: RefineConfig, profile: Profile
) -> Lesson:
    """The lesson, with what the model in use surely says of other places of the slides.

    Only where the base has no tiles of its own to practise on, and a model is in use at all.
    SlideError if a slide cannot be read.
    """
    card = lesson.current.card
    if not slides or config.practice != "stored" or lesson.replay or is_untrained(card):
        return lesson
    pictures = read_elsewhere(slides, card, seed=config.seed)
    segmenter = lesson.current.load().to(profile.device)
    with as_predicted(profile):
        said = answered(pictures, segmenter, card.task, sure=_SURE)
    tiles = older(relabelled(said, lesson.merged), lesson.homes)
    replay = [tile for number, tile in enumerate(tiles, start=1) if number % _ASIDE]
    return replace(lesson, replay=replay, elsewhere=tiles[_ASIDE - 1 :: _ASIDE])


def _own_tiles(base: Model) -> tuple[list[CorrectionTile], list[CorrectionTile]]:
    return read_tiles(base.path / RESERVE), read_tiles(base.path / KEEP)


def practice_tiles(base: Model, practice: Practice) -> list[CorrectionTile]:
    """Tiles that keep what the base knows in mind."""
    if practice == "stored":
        return read_tiles(base.path / REPLAY)
    return [] if practice == "none" else generated_tiles(base)
