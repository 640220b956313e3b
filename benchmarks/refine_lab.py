"""What the benchmarks of Refine share: pictures, another stain, simulated corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kept import Values

from napari_genselfdiff.evaluation.folders import Pair, pair_folders, read_pair
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.simulation import (
    Picture,
    SimulationConfig,
    answers,
    correct_views,
    read_picture,
    refine_once,
    untouched_dice,
)
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.prediction.profile import Profile, default_profile
from napari_genselfdiff.registry.folder import Model, read_model
from napari_genselfdiff.registry.registry import Registry

MPP = 0.25
HAEMATOXYLIN, EOSIN = 0.3, 1.2  # the other stain: faded nuclei in strong pink


@dataclass(frozen=True)
class Lab:
    """What all cases share: data, the model, and how much is measured."""

    pairs: dict[str, Pair]
    names: list[str]
    model: Model
    profile: Profile
    runs: int
    refines: int
    budget_s: float
    folder: Path

    def picture(self, name: str) -> Picture:
        """A picture of the training list."""
        return read_picture(name, *read_pair(self.pairs[name]), MPP, self.model.card.task)

    def settings(self, seed: int) -> RefineConfig:
        """How a refine of this benchmark learns."""
        return RefineConfig(budget_s=self.budget_s, seed=seed)

    def place(self, *parts: object) -> Path:
        """A folder for one refined model."""
        return self.folder / "-".join(map(str, parts))

    def dice(self, pictures: Sequence[Picture], model: Model) -> float:
        """Dice of a model on the halves of pictures that nobody touches, 0-1."""
        return untouched_dice(answers(pictures, model, self.profile))


def labelled_lab(folder: Path, *, runs: int, refines: int = 1, budget_s: float = 30.0) -> Lab:
    """The pictures of the training list and the shipped model; new models go into ``folder``."""
    root = data_root("")
    data = root / "labelled" / "monuseg"
    return Lab(
        {pair.name: pair for pair in pair_folders(data / "images", data / "masks")},
        read_list(root / "splits" / "monuseg_train.txt"),
        Registry().resolve("default"),
        default_profile(),
        runs,
        refines,
        budget_s,
        folder,
    )


def restained(picture: Picture) -> Picture:
    """The same tissue as another laboratory would stain it."""
    from skimage.color import hed2rgb, rgb2hed

    stains = rgb2hed(picture.image) * np.array([HAEMATOXYLIN, EOSIN, 1.0])
    image = (255 * hed2rgb(stains)).round().clip(0, 255).astype(np.uint8)
    return picture._replace(name=f"{picture.name}-restained", image=image)


def shifted_pair(lab: Lab, number: int) -> tuple[Picture, Picture]:
    """A picture, and the same tissue in the other stain."""
    clean = lab.picture(lab.names[(7 * number) % len(lab.names)])
    return clean, restained(clean)


def corrections(
    lab: Lab, number: int, pictures: Sequence[Picture], views: int = 3
) -> list[CorrectionTile]:
    """Views of pictures as the simulated user corrects them; equal for equal numbers."""
    scenes = answers(pictures, lab.model, lab.profile)
    done = correct_views(scenes, views, SimulationConfig(), np.random.default_rng([number, 5]))
    return [corrected.tile for corrected in done]


def corrected_run(
    lab: Lab, number: int, pictures: Sequence[Picture], part: str, views: int = 3
) -> Values:
    """Correct views of pictures and refine once; Dice before, after, and in use, 0-1."""
    before = lab.dice(pictures, lab.model)
    tiles = corrections(lab, number, pictures, views)
    out = lab.place(part, number)
    result = refine_once(lab.model, lab.model, tiles, lab.profile, lab.settings(number), out)
    refined, decision = read_model(result.model), result.verdict.decision
    new = lab.dice(pictures, refined)
    return {
        "before": before,
        "new": new,
        # what the comparison cannot judge is taken
        "in_use": before if decision == "not_better" else new,
        "decision": decision,
        "seconds": result.seconds,
        "images": result.images_seen,
        "blend": refined.card.recipe["blend"],
        "keep": result.verdict.keep,
    }
