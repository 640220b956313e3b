"""What a refine learns from and is judged by: corrected tiles, split, and the base's own tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.corrections import merge_tiles, read_tiles, without
from napari_genselfdiff.learning.first import is_untrained
from napari_genselfdiff.learning.generated import generated_tiles
from napari_genselfdiff.learning.holdout import hold_out
from napari_genselfdiff.registry.folder import read_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.refine_config import Practice, RefineConfig
    from napari_genselfdiff.registry.folder import Model

CORRECTIONS, KEEP, REPLAY, RESERVE = "corrections", "keep", "replay", "reserve"

TUNING_SHARE: Final = 0.15  # of what is not held out for the gate


@dataclass(frozen=True)
class Lesson:
    """Everything a refine reads before it begins.

    ``held`` and ``tuning`` are known pixels of ``tiles``, ``(h, w)`` bool each, that nobody trains
    on: those the gate judges by, and those the share of the way is chosen by. ``rest`` are the
    tiles without ``held``, ``taught`` also without ``tuning``. ``replay``, ``reserve`` and
    ``keep`` are the base's own tiles: to practise, to choose by, and to be judged by.
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


def prepare(
    current_folder: Path,
    base_folder: Path,
    new_tiles: Sequence[CorrectionTile],
    config: RefineConfig,
) -> Lesson:
    """Read models and tiles, and keep some corrections aside.

    Raises
    ------
    ConfigError
        If nothing is known, or a first model would see nothing but background.
    ModelFileError
        If a model or its tiles cannot be read.
    """
    current, base = read_model(current_folder), read_model(base_folder)
    tiles = merge_tiles(read_tiles(current.path / CORRECTIONS), new_tiles)
    if not any(tile.known.any() for tile in tiles):
        raise ConfigError(
            "there is nothing to learn from yet; correct something or press Accept view first"
        )
    if is_untrained(base.card) and not any((tile.classes[tile.known] > 0).any() for tile in tiles):
        raise ConfigError(
            f"nothing was drawn for {base.card.task.name} yet, only background; draw a few first"
        )
    held = hold_out(tiles, seed=config.seed)
    rest = [without(tile, mask) for tile, mask in zip(tiles, held, strict=True)]
    tuning = hold_out(rest, share=TUNING_SHARE, seed=config.seed + 1)
    taught = [without(tile, mask) for tile, mask in zip(rest, tuning, strict=True)]
    replay = practice_tiles(base, config.practice)
    reserve, keep = (read_tiles(base.path / part) for part in (RESERVE, KEEP))
    return Lesson(current, base, tiles, held, tuning, rest, taught, replay, reserve, keep)


def practice_tiles(base: Model, practice: Practice) -> list[CorrectionTile]:
    """Tiles that keep what the base knows in mind."""
    if practice == "stored":
        return read_tiles(base.path / REPLAY)
    return [] if practice == "none" else generated_tiles(base)
