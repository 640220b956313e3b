"""A first look at what Refine will learn: the head alone, on features computed once.

The network up to its last decoder level stays as it is, so its features of the corrected tiles are
computed a single time and a step costs little. What the head learns in a second or two is never
saved or used; it is shown when it is better than the model in use on corrections kept aside.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_genselfdiff.backbone.heads import SegmentationOutput
from napari_genselfdiff.learning.before_after import RefinePreview, most_changed
from napari_genselfdiff.learning.corrections import class_index, class_values, labels
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.first import is_untrained
from napari_genselfdiff.learning.gate import best_constant
from napari_genselfdiff.learning.growing import Growing
from napari_genselfdiff.learning.holdout import by_hand
from napari_genselfdiff.learning.loop import LoopConfig, TrainState, train
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.scoring import as_predicted, count, whole_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import OutputHead, Segmenter
    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.learning.lesson import Lesson
    from napari_genselfdiff.learning.objectives import Objective
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.card import TaskSpec


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """How the head learns alone; from a few trials on training-list images.

    It stops after ``budget_s``, but not before ``fewest_steps``.
    """

    budget_s: float = 1.5
    patch: int = 128
    batch: int = 4
    lr: float = 3e-3
    most_steps: int = 60
    fewest_steps: int = 0
    seed: int = 0


class Looked(NamedTuple):
    """A preview, and how long the network took for a pixel."""

    preview: RefinePreview
    s_per_pixel: float


class Cached(NamedTuple):
    """One tile as the head sees it, with what is known of it.

    ``packed`` (C + 3 r², h, w): features of the last decoder level, r times smaller than the
    image, and the image itself folded to the same size. ``classes``, ``distance`` and ``known``
    are (r h, r w). ``shape`` is the tile's, without the padding.
    """

    packed: Tensor
    classes: Tensor
    distance: Tensor
    known: Tensor
    shape: tuple[int, int]


class HeadAlone(nn.Module):
    """A segmenter's head that takes packed features; a copy, so the segmenter stays as it is."""

    def __init__(self, head: OutputHead, fold: int) -> None:
        super().__init__()
        self.head, self._fold = copy.deepcopy(head), fold

    def forward(self, packed: Tensor) -> SegmentationOutput:
        depth = 3 * self._fold**2
        image = F.pixel_shuffle(packed[:, -depth:], self._fold)
        channels = self.head(packed[:, :-depth], image)
        return SegmentationOutput(channels[:, :-1], channels[:, -1:])

    @torch.inference_mode()
    def classify(self, cached: Cached) -> NDArray[np.int64]:
        """Most probable channel of every pixel of a tile, ``(H, W)``, 0 = background."""
        height, width = cached.shape
        logits = self(cached.packed[None]).logits[0, :, :height, :width]
        return np.asarray(logits.argmax(0).cpu().numpy())


def first_look(
    lesson: Lesson,
    seed: int,
    profile: Profile,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Looked:
    """Teach the head of the model in use, and compare it with that model on what is kept aside."""
    task = lesson.task
    segmenter = lesson.in_use().to(profile.device)
    started = time.perf_counter()
    with as_predicted(profile):
        cached = [cache(segmenter, tile, task) for tile in lesson.taught]
    pixels = sum(tile.classes.size for tile in lesson.tiles)
    s_per_pixel = (time.perf_counter() - started) / pixels
    before = HeadAlone(segmenter.head, segmenter.config.patch)
    after = teach_head(
        segmenter, cached, PreviewConfig(seed=seed), objective(lesson), should_stop=should_stop
    )
    index, tiles, held = class_index(task), lesson.tiles, lesson.held
    answers_new = [after.classify(tile) for tile in cached]
    if is_untrained(lesson.current.card):
        answers_old = best_constant([index[tile.classes] for tile in tiles], held)
        shown_old = [np.zeros_like(answer) for answer in answers_old]
    else:
        shown_old = answers_old = [before.classify(tile) for tile in cached]
    judged = by_hand(tiles, held)
    old, new = (
        count(answers, tiles, judged, index, segmenter.n_classes, background=True)
        for answers in (answers_old, answers_new)
    )
    is_better = len(old.overlap) > 0 and new.mean_dice() > old.mean_dice()
    picture = most_changed(shown_old, answers_new, tiles, held, class_values(task))
    preview = RefinePreview(
        is_better, old.mean_dice(), new.mean_dice(), picture if is_better else None
    )
    return Looked(preview, s_per_pixel)


def objective(lesson: Lesson) -> Objective:
    """The method's loss; where the base knows fewer classes, older labels leave those open."""
    channels = lesson.channels
    return Growing(Segmentation(), channels) if channels else Segmentation()


def teach_head(
    segmenter: Segmenter,
    cached: Sequence[Cached],
    config: PreviewConfig,
    objective: Objective,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> HeadAlone:
    """Teach a copy of the segmenter's head what is known of the cached tiles.

    Same loop, objective and pixels as the rest of a refine; patches are turned and mirrored, which
    moves features and labels alike.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    head = HeadAlone(segmenter.head, segmenter.config.patch)
    taught = [tile for tile in cached if bool(tile.known.any())]
    loop = LoopConfig(
        total_images=config.most_steps * config.batch,
        batch=config.batch,
        lr=config.lr,
        warmup_images=2 * config.batch,
        weight_decay=0.0,
        ema_decay=0.8,
        seed=config.seed,
    )
    state = TrainState.create(head, loop)
    started = time.perf_counter()

    def elapsed() -> float:
        steps = state.images_seen / config.batch
        spent = (time.perf_counter() - started) / config.budget_s
        return min(spent, steps / config.fewest_steps) if config.fewest_steps else spent

    def batch(indices: Sequence[int]) -> Batch:
        return _batch(taught, indices, config, segmenter.config.patch)

    reports = train(
        state,
        batch,
        objective,
        loop,
        should_stop=lambda: should_stop() or elapsed() > 1,
        progress=elapsed,
    )
    for _ in reports:
        pass
    return cast("HeadAlone", state.ema.model)


def with_taught_head(lesson: Lesson, seed: int, profile: Profile) -> Segmenter:
    """The network to start from, whose head was shown the classes that it does not know.

    All weights together learn too slowly to make an output from nothing in half a minute. It also
    practises on the base's own tiles, so that what the other outputs say stays.
    """
    segmenter = lesson.start().to(profile.device)
    with as_predicted(profile):
        cached = [cache(segmenter, t, lesson.task) for t in (*lesson.taught, *lesson.replay)]
    config = PreviewConfig(budget_s=3.0, lr=1e-2, fewest_steps=40, seed=seed)
    head = teach_head(segmenter, cached, config, objective(lesson)).head
    segmenter.head.load_state_dict(head.state_dict())
    return segmenter


@torch.no_grad()
def cache(segmenter: Segmenter, tile: CorrectionTile, task: TaskSpec) -> Cached:
    """Features of a tile, as the head of the segmenter gets them, with what is known of it."""
    x = whole_input(segmenter, tile.image)
    features = segmenter.unet(x, segmenter.times(x)).float()
    packed = torch.cat([features, F.pixel_unshuffle(x, segmenter.config.patch)], dim=1)[0]
    height, width = tile.classes.shape
    pad = (0, x.shape[-1] - width, 0, x.shape[-2] - height)
    truth = labels(tile, task, tile.known)
    classes, distance, known = (
        F.pad(torch.from_numpy(values), pad).to(x.device)
        for values in (truth.classes, truth.distance, truth.known)
    )
    return Cached(packed, classes.long(), distance, known, (height, width))


def _batch(
    cached: Sequence[Cached], indices: Sequence[int], config: PreviewConfig, fold: int
) -> Batch:
    parts = [cut_patch(cached, index, config, fold) for index in indices]
    packed, classes, distance, known = (torch.stack(column) for column in zip(*parts, strict=True))
    return Batch(packed, tuple(indices), classes, distance, known)


def cut_patch(
    cached: Sequence[Cached], index: int, config: PreviewConfig, fold: int
) -> list[Tensor]:
    """A random square of a random tile, turned and mirrored; depends on (seed, index) alone."""
    rng = np.random.default_rng([config.seed, 31, index])
    tile = cached[int(rng.integers(len(cached)))]
    side = min(config.patch // fold, *tile.packed.shape[-2:])
    y, x = (int(rng.integers(size - side + 1)) for size in tile.packed.shape[-2:])
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    found = []
    for values, scale in ((tile.packed, 1), *((v, fold) for v in tile[1:4])):
        part = values[..., y * scale : (y + side) * scale, x * scale : (x + side) * scale]
        part = torch.rot90(part, turns, (-2, -1))
        found.append(part.flip(-1) if mirror else part)
    return found
