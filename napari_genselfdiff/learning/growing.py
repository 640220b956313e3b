"""A task that got more classes than its model knows: more outputs, and what older labels mean.

A label given before a class existed leaves open whether the pixel is of that class: it says "what
this class was called then, or this class" (as background does in Cermelli et al. 2020, "Modeling
the background for incremental learning").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from napari_genselfdiff.annotation.window import ACCEPTED
from napari_genselfdiff.backbone.heads import Segmenter
from napari_genselfdiff.errors import ConfigError, TrainingError
from napari_genselfdiff.learning.corrections import BEFORE, class_index, class_values
from napari_genselfdiff.learning.losses import at_least_fp32
from napari_genselfdiff.learning.scoring import classify
from napari_genselfdiff.registry.card import TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.data import Batch
    from napari_genselfdiff.learning.objectives import Segmentation

SHARE: Final = 0.25
"""Of what the model called a class's home, the new output begins with this part."""
_NEVER: Final = -1e4


def wanted_task(
    known: TaskSpec,
    asked: TaskSpec,
    merged: Mapping[int, int],
    tiles: Sequence[CorrectionTile],
) -> TaskSpec:
    """The task a refined model answers: the classes ``known`` to the model, and drawn new ones.

    Classes are called as they are now, in ``asked``. Those ``merged`` into others (by value) are
    gone; those nobody drew yet do not come in.

    Raises
    ------
    ConfigError
        If two classes would have one name, or there are more than can be taught.
    """
    now = {spec.value: spec for spec in asked.classes}
    stays = [now.get(c.value, c) for c in known.classes if c.value not in merged]
    have = {spec.value for spec in (*stays, *known.classes)}
    drawn = {int(v) for tile in tiles for v in np.unique(tile.classes[tile.known])}
    fresh = [c for c in asked.classes if c.value in drawn - have]
    keys: set[str] = set()
    classes = []
    for spec in (*stays, *fresh):
        classes.append({**spec.model_dump(), "key": "" if spec.key in keys else spec.key})
        keys.add(spec.key)
    if len(classes) >= BEFORE:
        raise ConfigError(f"a model learns {BEFORE - 1} classes at most, got {len(classes)}")
    return TaskSpec.parse({**known.model_dump(), "classes": classes})


def joined(known: TaskSpec, tasks: Sequence[TaskSpec]) -> TaskSpec:
    """The model's task with the classes that any of several annotations have; the first name wins.

    Raises
    ------
    ConfigError
        If annotations call a class the model does not know by different names.
    """
    classes = {spec.value: spec for spec in reversed([c for t in tasks for c in t.classes])}
    for value in added_values(known, known.model_copy(update={"classes": tuple(classes.values())})):
        names = {spec.name for task in tasks for spec in task.classes if spec.value == value}
        if len(names) > 1:
            raise ConfigError(
                f"the annotations mean different classes by number {value}: "
                f"{', '.join(sorted(names))}; refine with those of one kind at a time"
            )
    classes = {spec.value: spec for spec in known.classes} | classes
    return known.model_copy(update={"classes": tuple(classes.values())})


def find_homes(
    model: Segmenter, known: TaskSpec, task: TaskSpec, tiles: Sequence[CorrectionTile]
) -> dict[int, int]:
    """What the model called the classes of ``task`` that are not ``known``, by class value.

    The class, or background (0), that it answers most often where they were drawn.
    """
    fresh = added_values(known, task)
    votes = {value: np.zeros(256, np.int64) for value in fresh}
    for tile in tiles:
        drawn = {v: tile.known & (tile.classes == v) for v in fresh}
        if any(mask.any() for mask in drawn.values()):
            answer = class_values(known)[classify(model, tile.image)]
            for value, mask in drawn.items():
                votes[value] += np.bincount(answer[mask], minlength=256)
    there = {0, *(spec.value for spec in task.classes)}
    return {v: home if (home := int(count.argmax())) in there else 0 for v, count in votes.items()}


def added_values(known: TaskSpec, task: TaskSpec) -> list[int]:
    """Values of the classes of ``task`` that ``known`` does not have."""
    have = {spec.value for spec in known.classes}
    return [spec.value for spec in task.classes if spec.value not in have]


def left_open(tiles: Iterable[CorrectionTile], homes: Mapping[int, int]) -> list[CorrectionTile]:
    """Tiles that say which classes could not be told apart when they were checked.

    A tile in which none of the new classes was drawn says nothing about them where it was merely
    accepted; what was drawn by hand in it stays as it is.
    """
    if not homes:
        return list(tiles)
    return [
        tile if np.isin(tile.classes[tile.known], list(homes)).any() else replace(tile, open=homes)
        for tile in tiles
    ]


def older(tiles: Iterable[CorrectionTile], homes: Mapping[int, int]) -> list[CorrectionTile]:
    """Tiles from before the new classes, wherever their labels come from."""
    if not homes:
        return list(tiles)
    return [
        replace(tile, open=homes, provenance=np.minimum(tile.provenance, ACCEPTED))
        for tile in tiles
    ]


def grown(
    segmenter: Segmenter, known: TaskSpec, task: TaskSpec, homes: Mapping[int, int]
) -> Segmenter:
    """The network with an output for every class of ``task``; itself if that is what it has.

    A new output begins with a :data:`SHARE` of its home's probability, which gives it away: what is
    background stays background, and no class changes. Outputs of classes that are gone are left
    out; all else is the very same.
    """
    values = [spec.value for spec in known.classes]
    if values == [spec.value for spec in task.classes]:
        return segmenter
    index, fresh = class_index(known), added_values(known, task)
    rows = [
        0,
        *(int(index[homes.get(c.value, 0) if c.value in fresh else c.value]) for c in task.classes),
    ]
    parts = np.zeros(len(rows) + 1)
    for channel, spec in enumerate(task.classes, start=1):
        if spec.value in fresh:
            home = int(class_index(task)[homes.get(spec.value, 0)])
            parts[channel] += np.log(SHARE) + parts[home]
            parts[home] += np.log(1 - SHARE)
    rows.append(1 + known.n_classes)  # the distance cue
    wide = Segmenter(segmenter.config, task.n_classes, segmenter.timestep)
    state = segmenter.state_dict()
    weight, bias = (state[f"head.out.{name}"] for name in ("weight", "bias"))
    state["head.out.weight"] = weight[rows]
    state["head.out.bias"] = bias[rows] + torch.from_numpy(parts).to(bias)
    wide.load_state_dict(state)
    return wide.to(weight.device).train(segmenter.training)


@dataclass(frozen=True)
class Growing:
    """``objective`` in which older labels leave open what came later.

    ``homes`` are (channel of a new class, channel of what it was called before). Pixels whose
    class is :data:`~corrections.BEFORE` or more are older ones: the two channels are one there.
    """

    objective: Segmentation
    homes: tuple[tuple[int, int], ...]

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        if batch.classes is None:
            raise TrainingError("segmentation needs labelled patches, got unlabelled ones")
        earlier = batch.classes >= BEFORE
        output = model(batch.images)
        channels = list(at_least_fp32(output.logits).unbind(1))
        for new, home in self.homes:
            both = torch.logaddexp(channels[home], channels[new])
            channels[home] = torch.where(earlier, both, channels[home])
            channels[new] = channels[new].masked_fill(earlier, _NEVER)
        classes = torch.where(earlier, batch.classes - BEFORE, batch.classes)
        said = output._replace(logits=torch.stack(channels, 1))
        return self.objective.score(said, batch._replace(classes=classes))
