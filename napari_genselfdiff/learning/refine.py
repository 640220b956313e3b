"""Refine: a few corrected tiles, some seconds, and a comparison with the model in use."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.augment import StainJitter
from napari_genselfdiff.learning.blend import Asides, blend
from napari_genselfdiff.learning.corrections import (
    CorrectionTile,
    class_index,
    class_values,
    merge_tiles,
    pack_tiles,
    read_tiles,
    to_source,
    without,
)
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from napari_genselfdiff.learning.first import first_fields, is_untrained, origin
from napari_genselfdiff.learning.gate import Verdict, best_constant, judge, judge_first
from napari_genselfdiff.learning.holdout import hold_out
from napari_genselfdiff.learning.loop import LoopConfig, TrainState, train
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.scoring import KEEP_BLOCK, classify, count, score
from napari_genselfdiff.registry.folder import read_model, with_card, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.folder import Model

CORRECTIONS, KEEP, REPLAY, RESERVE = "corrections", "keep", "replay", "reserve"

TUNING_SHARE = 0.15  # of what is not held out for the gate

# What a refined model says of itself; everything else of a card it takes from its parent.
_NOT_INHERITED = {
    "name",
    "architecture",
    "timestep",
    "recipe",
    "metrics",
    "created",
    "app_version",
    "weights_sha256",
    "files",
    "notes",
    "parent",
    "gate",
    "starter",
}


@dataclass(frozen=True)
class RefineRequest:
    """Which model to refine, with what.

    ``current`` is the folder of the model in use, ``base`` that of the shipped model its line
    began with: learning starts there, with the corrections of ``current`` and ``tiles``.
    """

    current: Path
    base: Path
    tiles: Sequence[CorrectionTile]
    out: Path
    name: str
    config: RefineConfig = field(default_factory=RefineConfig)


@dataclass(frozen=True)
class RefineProgress:
    """How far a refine is."""

    stage: Literal["preparing", "learning", "comparing"]
    done: float
    eta_s: float
    images_seen: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class BeforeAfter:
    """A held-out place as the old and the new model see it; class values, all ``(h, w)``."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    known: NDArray[np.bool_]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


@dataclass(frozen=True)
class RefineResult:
    """The refined model's folder, the verdict on it and a picture; not yet in use."""

    model: Path
    model_hash: str
    verdict: Verdict
    picture: BeforeAfter
    seconds: float
    images_seen: int
    n_tiles: int


def refine(
    request: RefineRequest,
    profile: Profile,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[RefineProgress | RefineResult]:
    """Refine, save and compare; the last item is a :class:`RefineResult`.

    Ends without a result when stopped; nothing is written then. Raises ConfigError when nothing
    is known, TrainingError when learning diverges; the model in use is never touched.
    """
    started = time.perf_counter()
    config = request.config
    yield RefineProgress("preparing", 0.0, config.budget_s)
    current, base = read_model(request.current), read_model(request.base)
    tiles = merge_tiles(read_tiles(current.path / CORRECTIONS), request.tiles)
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
    state, sampler, loop = _prepare(base, taught, config, profile)
    # The length was planned from two steps; a machine that gets busier must not double the wait.
    begun = time.perf_counter()

    def elapsed() -> float:
        return (time.perf_counter() - begun) / config.budget_s

    reports = train(
        state,
        sampler.batch,
        Segmentation(),
        loop,
        should_stop=lambda: should_stop() or elapsed() > 1,
        progress=elapsed,
    )
    for report in reports:
        done = max(report.images_seen / report.total_images, elapsed())
        eta = min(report.eta_s, (1 - elapsed()) * config.budget_s)
        yield RefineProgress(
            "learning", 0.9 * min(done, 1), max(eta, 0) + 2, report.images_seen, report.loss
        )
    if should_stop():
        return
    yield RefineProgress("comparing", 0.92, 2.0, state.images_seen)
    asides = Asides(rest, tuning, held)
    result = _save_and_compare(request, current, base, tiles, asides, state)
    yield replace(result, seconds=time.perf_counter() - started)


def _prepare(
    base: Model,
    tiles: Sequence[CorrectionTile],
    config: RefineConfig,
    profile: Profile,
) -> tuple[TrainState, PatchSampler, LoopConfig]:
    """Network, patches and a length that fits the time budget."""
    task = base.card.task
    # a tile counts more, the more of it a person changed
    taught = [
        to_source(tile, task, tile.known, 1.0 + 3.0 * float(tile.human.mean())) for tile in tiles
    ]
    replay = read_tiles(base.path / REPLAY)
    share = config.replay_share / (1 - config.replay_share)
    weight = share * sum(source.weight for source in taught) / max(len(replay), 1)
    sources = taught + [to_source(tile, task, tile.known, weight) for tile in replay]
    mpp = [source.mpp for source in sources if source.mpp is not None]
    patches = PatchConfig(
        size=config.patch,
        mpp_range=(0.85 * min(mpp), 1.15 * max(mpp)),
        skip_glass=False,
        stain=StainJitter(concentration=0.12, offset=0.02, basis=0.02, brightness=0.05),
    )
    sampler = PatchSampler(sources, patches, config.seed)
    model = base.load()
    loop = LoopConfig(
        total_images=config.batch,
        batch=config.batch,
        lr=config.lr,
        warmup_images=4 * config.batch,
        weight_decay=0.0,
        ema_decay=0.95,
        precision=profile.precision,
        seed=config.seed,
    )
    steps = _steps_in_budget(model, sampler, loop, config)
    loop = replace(loop, total_images=steps * config.batch)
    return TrainState.create(model, loop, profile.device), sampler, loop


def _steps_in_budget(
    model: Segmenter, sampler: PatchSampler, loop: LoopConfig, config: RefineConfig
) -> int:
    """How many steps fit the budget, from two steps taken on a copy that is thrown away."""
    trial = TrainState.create(copy.deepcopy(model), loop)
    # Two steps: the first pays for memory and kernel set-up.
    longer = replace(loop, total_images=2 * loop.batch)
    reports = train(trial, sampler.batch, Segmentation(), longer)
    times = [time.perf_counter() for _ in reports]
    step_s = times[1] - times[0]
    fits = int(0.85 * config.budget_s / step_s)
    return max(config.fewest_steps, min(config.most_steps, fits))


def _save_and_compare(
    request: RefineRequest,
    current: Model,
    base: Model,
    tiles: Sequence[CorrectionTile],
    asides: Asides,
    state: TrainState,
) -> RefineResult:
    """Write the candidate, read it back, and judge the file as it was read back.

    The card gets the verdict afterwards; until then it says that none was reached.
    """
    card, device = current.card, state.device
    # channels-last and the device are for training only
    trained = cast("Segmenter", state.ema.model.to("cpu"))
    reserve = read_tiles(base.path / RESERVE)
    index = class_index(card.task)
    share = blend(trained, base.load(), reserve, asides, index, request.config.blends)
    fields = {
        **card.model_dump(exclude=_NOT_INHERITED),
        "parent": current.hash,
        "notes": f"Refined from {card.name} with {len(tiles)} corrected tiles.",
        **(first_fields(card, tiles) if is_untrained(card) else {}),
        "name": request.name,
        "recipe": {
            "refine": asdict(request.config),
            "base": origin(card) if is_untrained(card) else base.hash,
            "device": str(device),
            "blend": share,
        },
        "gate": {"decision": "unjudged"},
        "starter": False,
    }
    extras = pack_tiles(CORRECTIONS, tiles)
    model = write_model(request.out, fields, trained, extras=extras)
    verdict, picture = compare(current, model, base, tiles, asides.held, request.config.seed)
    with_card(model, gate=asdict(verdict))
    return RefineResult(
        model.path, model.hash, verdict, picture, 0.0, state.images_seen, len(tiles)
    )


def compare(
    current: Model,
    candidate: Model,
    base: Model,
    tiles: Sequence[CorrectionTile],
    held: Sequence[NDArray[np.bool_]],
    seed: int,
) -> tuple[Verdict, BeforeAfter]:
    """Verdict on the candidate, and the held-out place where the two models differ most."""
    task = candidate.card.task
    index, names = class_index(task), [spec.name for spec in task.classes]
    after = candidate.load()
    answers_new = [classify(after, tile.image) for tile in tiles]
    new = count(answers_new, tiles, held, index, after.n_classes)
    if is_untrained(current.card):
        answers_old = best_constant([index[tile.classes] for tile in tiles], held)
        old = count(answers_old, tiles, held, index, after.n_classes)
        verdict = judge_first(old, new, names, seed=seed)
        answers_old = [np.zeros_like(answer) for answer in answers_new]  # there was no answer
    else:
        before = current.load()
        answers_old = [classify(before, tile.image) for tile in tiles]
        old = count(answers_old, tiles, held, index, before.n_classes)
        keep = read_tiles(base.path / KEEP)
        everywhere = [tile.known for tile in keep]
        kept_old = score(before, keep, everywhere, index, block=KEEP_BLOCK)
        kept_new = score(after, keep, everywhere, index, block=KEEP_BLOCK)
        verdict = judge(old, new, kept_old, kept_new, names, seed=seed)
    return verdict, _picture(answers_old, answers_new, tiles, held, class_values(task))


def _picture(
    before: Sequence[NDArray[np.int64]],
    after: Sequence[NDArray[np.int64]],
    tiles: Sequence[CorrectionTile],
    held: Sequence[NDArray[np.bool_]],
    values: NDArray[np.uint8],
) -> BeforeAfter:
    """The tile with the most held-out pixels on which the two models disagree."""
    changed = [int(((a != b) & m).sum()) for a, b, m in zip(before, after, held, strict=True)]
    best = int(np.argmax(changed))
    tile = tiles[best]
    return BeforeAfter(
        tile.image, tile.classes, held[best], values[before[best]], values[after[best]]
    )
