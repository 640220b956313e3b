"""Refine: a few corrected tiles, some seconds, and a comparison with the model in use."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, cast

from napari_genselfdiff.learning.anchor import Anchored
from napari_genselfdiff.learning.blend import Asides, Limit, blend
from napari_genselfdiff.learning.compare import compare, known_now
from napari_genselfdiff.learning.corrections import (
    CorrectionTile,
    class_index,
    pack_tiles,
    to_source,
)
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from napari_genselfdiff.learning.first import first_fields, is_untrained, origin
from napari_genselfdiff.learning.gate import ALLOWED_LOSS
from napari_genselfdiff.learning.lesson import CORRECTIONS, prepare, with_elsewhere
from napari_genselfdiff.learning.loop import LoopConfig, TrainState, train
from napari_genselfdiff.learning.preview import first_look, objective, with_taught_head
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.scoring import as_predicted, on_known
from napari_genselfdiff.registry.folder import with_card, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.learning.before_after import BeforeAfter, RefinePreview
    from napari_genselfdiff.learning.elsewhere import CorrectedSlide
    from napari_genselfdiff.learning.gate import Counts, Verdict
    from napari_genselfdiff.learning.lesson import Asked, Lesson
    from napari_genselfdiff.learning.objectives import Objective
    from napari_genselfdiff.prediction.profile import Profile

_SAVING_S: Final = 0.5  # to write a model and read it back
_TRIES: Final = 3  # steps of which it is usually asked whether they forget
_WITH_HEAD: Final = 1.2  # times the time of features alone
_LEAST_SHARE: Final = 0.4  # of the budget is for learning, however long judging takes

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
    began with: learning starts there, with the corrections of ``current`` and ``tiles``. ``asked``
    is how the task is annotated now; classes drawn that ``current`` does not know become outputs of
    the refined model. ``slides`` are where the new tiles come from: a line without tiles of its own
    practises in other places there.
    """

    current: Path
    base: Path
    tiles: Sequence[CorrectionTile]
    out: Path
    name: str
    config: RefineConfig = field(default_factory=RefineConfig)
    asked: Asked | None = None
    slides: Sequence[CorrectedSlide] = ()


@dataclass(frozen=True)
class RefineProgress:
    """How far a refine is."""

    stage: Literal["preparing", "learning", "comparing"]
    done: float
    eta_s: float
    images_seen: int = 0
    loss: float | None = None


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
    should_conclude: Callable[[], bool] = lambda: False,
) -> Iterator[RefineProgress | RefinePreview | RefineResult]:
    """Refine, save and compare; the last item is a :class:`RefineResult`.

    A :class:`RefinePreview` comes after a moment. ``should_conclude`` ends learning early, and
    what was learnt until then is judged. Ends without a result when stopped; nothing is written
    then. Raises ConfigError when nothing is known, TrainingError when learning diverges; the
    model in use is never touched.
    """
    started, config = time.perf_counter(), request.config
    yield RefineProgress("preparing", 0.0, config.budget_s)
    lesson = prepare(request.current, request.base, request.tiles, config, request.asked)
    if config.practice == "generated":
        started = time.perf_counter()  # drawing it, once per machine, is not part of the budget
    looked = first_look(lesson, config.seed, profile, should_stop=should_stop)
    yield replace(looked.preview, seconds=time.perf_counter() - started)
    lesson = with_elsewhere(lesson, request.slides, config, profile)
    state, sampler, loop = _begin(lesson, config, profile)
    begun = time.perf_counter()
    judging_s = looked.s_per_pixel * _pixels_to_judge(lesson, len(config.blends)) + _SAVING_S
    left = config.budget_s - (begun - started) - judging_s
    learning_s = max(left, _LEAST_SHARE * config.budget_s)

    def elapsed() -> float:
        """Share of the time, or of the fewest steps, whichever is behind."""
        steps = state.images_seen / (config.batch * config.fewest_steps)
        return min((time.perf_counter() - begun) / learning_s, steps)

    def is_enough() -> bool:
        return should_conclude() and state.images_seen > 0

    reports = train(
        state,
        sampler.batch,
        _objective(state, lesson, config),
        loop,
        should_stop=lambda: should_stop() or elapsed() >= 1 or is_enough(),
        progress=elapsed,
    )
    for report in reports:
        done = max(report.images_seen / report.total_images, elapsed())
        eta = max(config.budget_s - (time.perf_counter() - started), 1.0)
        yield RefineProgress("learning", 0.9 * min(done, 1), eta, report.images_seen, report.loss)
    if should_stop():
        return
    eta = max(config.budget_s - (time.perf_counter() - started), 1.0)
    yield RefineProgress("comparing", 0.92, eta, state.images_seen)
    with as_predicted(profile):
        result = _save_and_compare(request, lesson, state)
    yield replace(result, seconds=time.perf_counter() - started)


def _begin(
    lesson: Lesson, config: RefineConfig, profile: Profile
) -> tuple[TrainState, PatchSampler, LoopConfig]:
    """Network, patches and settings of the loop; the clock, not the images, ends most runs."""
    task = lesson.task
    # a tile counts more, the more of it a person changed
    taught = [
        to_source(tile, task, tile.known, 1.0 + 3.0 * float(tile.human.mean()))
        for tile in lesson.taught
    ]
    share = config.replay_share / (1 - config.replay_share) if lesson.replay else 0.0
    weight = share * sum(source.weight for source in taught) / max(len(lesson.replay), 1)
    sources = taught + [to_source(tile, task, tile.known, weight) for tile in lesson.replay]
    mpp = [source.mpp for source in sources if source.mpp is not None]
    patches = PatchConfig(
        size=config.patch,
        mpp_range=(min(mpp) / config.zoom, max(mpp) * config.zoom),
        skip_glass=False,
        stain=config.stain,
    )
    loop = LoopConfig(
        total_images=config.most_steps * config.batch,
        batch=config.batch,
        lr=config.lr,
        warmup_images=4 * config.batch,
        weight_decay=0.0,
        layer_decay=config.layer_decay,
        ema_decay=0.95,
        precision=profile.precision,
        seed=config.seed,
    )
    start = with_taught_head(lesson, config.seed, profile) if lesson.homes else lesson.start()
    state = TrainState.create(start, loop, profile.device)
    return state, PatchSampler(sources, patches, config.seed), loop


def _objective(state: TrainState, lesson: Lesson, config: RefineConfig) -> Objective:
    """The method's loss, with a pull back to the present weights if the settings ask for one."""
    if not config.anchor:
        return objective(lesson)
    start = [weight.detach().clone() for weight in state.model.parameters()]
    return Anchored(objective(lesson), start, config.anchor)


def _pixels_to_judge(lesson: Lesson, shares: int) -> float:
    """Pixels of features that take as long as what is between learning and the verdict."""
    tiles, reserve, keep, elsewhere = (
        sum(tile.classes.size for tile in part)
        for part in (lesson.tiles, lesson.reserve, lesson.keep, lesson.elsewhere)
    )
    # the step is chosen by all shares on the tiles, and by some on what was known before
    chosen = shares * tiles + (1 + _TRIES) * reserve + (1 + _TRIES / 2) * keep
    return _WITH_HEAD * (chosen + 2 * tiles + keep + elsewhere)


def _limits(
    lesson: Lesson, start: Segmenter, index: NDArray[np.int64], known: Counts, seed: int
) -> list[Limit]:
    """What may be forgotten: half of what the comparison allows, on the reserve, and that itself.

    ``known`` are the counts of the model in use on the keep-working tiles.
    """
    reserve = on_known(start, lesson.reserve, index)
    return [
        Limit(lesson.reserve, reserve, ALLOWED_LOSS / 2),
        Limit(lesson.keep, known, ALLOWED_LOSS, seed),
    ]


def _save_and_compare(request: RefineRequest, lesson: Lesson, state: TrainState) -> RefineResult:
    """Write the candidate, read it back, and judge the file as it was read back.

    The card gets the verdict afterwards; until then it says that none was reached.
    """
    card, base, tiles = lesson.current.card, lesson.base, lesson.tiles
    learnt = cast("Segmenter", state.ema.model)
    asides = Asides(lesson.rest, lesson.tuning)
    start = lesson.start().to(state.device)
    index = class_index(lesson.task)
    known = None if is_untrained(card) else known_now(lesson, state.device)
    limits = _limits(lesson, start, index, known, request.config.seed) if known else []
    share = blend(learnt, start, limits, asides, index, request.config.blends)
    fields = {
        **card.model_dump(exclude=_NOT_INHERITED),
        "task": lesson.task,
        "parent": lesson.current.hash,
        "notes": f"Refined from {card.name} with {len(tiles)} corrected tiles.",
        **(first_fields(card, tiles) if is_untrained(card) else {}),
        "name": request.name,
        "recipe": {
            "refine": asdict(request.config),
            "base": origin(card) if is_untrained(card) else base.hash,
            "device": str(state.device),
            "blend": share,
        },
        "gate": {"decision": "unjudged"},
        "starter": False,
    }
    extras = pack_tiles(CORRECTIONS, tiles)
    model = write_model(request.out, fields, learnt.to("cpu"), extras=extras)
    verdict, picture = compare(lesson, model, request.config.seed, state.device, known)
    with_card(model, gate=asdict(verdict))
    return RefineResult(
        model.path, model.hash, verdict, picture, 0.0, state.images_seen, len(tiles)
    )
