"""Refine: teach the model what was checked, judge the result, use it or not, and go back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.before_after import RefinePreview
from napari_genselfdiff.session import wording
from napari_genselfdiff.session.events import Activity

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.engine.job import Job
    from napari_genselfdiff.learning.refine import RefineProgress, RefineResult
    from napari_genselfdiff.learning.refine_config import RefineConfig
    from napari_genselfdiff.learning.verdict_words import Decision
    from napari_genselfdiff.registry.folder import Backbone, Model
    from napari_genselfdiff.registry.unfinished import Scratch
    from napari_genselfdiff.session.events import Tone
    from napari_genselfdiff.session.session import Session

TILE = 256
BUDGET_S = 30.0
FIRST_LONGER = 2.0  # the first model of a task has everything to learn
_STAGES = {
    "preparing": "Preparing",
    "learning": "Learning from your corrections",
    "comparing": "Comparing with the model in use",
}


_SUMMARIES: dict[Decision, tuple[str, Tone]] = {
    "better": ("Better: the refined model is in use now; the old one is kept.", "good"),
    "not_better": ("Not better: the old model stays in use. The card shows why.", "warning"),
    "too_little": ("Too little to judge: look at the card and choose.", "warning"),
}


@dataclass(frozen=True)
class Plan:
    """What a click on Refine would do; ``ready`` is False while there is nothing to learn."""

    tiles: int
    seconds: float
    sentence: str
    ready: bool


@dataclass(frozen=True)
class Outcome:
    """A finished refine: what was found, the model before and after, and which is in use.

    ``old`` is None if there was no model for the task before.
    ``decided`` is False while the user has to choose.
    """

    result: RefineResult
    old: Model | None
    new: Model
    in_use: bool
    decided: bool


@dataclass
class _Running:
    job: Job
    old: Model | None
    scratch: Scratch
    concluding: bool = False


class Refining:
    """The refinement that runs, or the last one's outcome.

    Parameters
    ----------
    session
        Whose slide, annotations and model are used.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: _Running | None = None
        self.activity: Activity | None = None
        self.losses: list[tuple[int, float]] = []
        self.preview: RefinePreview | None = None
        self.outcome: Outcome | None = None
        self.budget_s = BUDGET_S

    def plan(self) -> Plan:
        """Say what Refine would learn from and how long it would take."""
        session = self._session
        store, model, name = session.store, session.model, session.task.name
        if store is None or name not in store.tasks:
            return Plan(0, 0.0, "Open a slide, predict and correct first.", ready=False)
        if model is None and session.models():
            return Plan(0, 0.0, session.model_problem, ready=False)
        tiles = len(store.known_regions(name, TILE))
        if not tiles:
            text = "Correct or accept a few places first; then the model learns from them."
            if model is None:
                text = (
                    f"There is no model for {name} yet. Draw a few {wording.things(session.task)}, "
                    "accept what you see, and Refine makes the first one."
                )
            return Plan(0, 0.0, text, ready=False)
        seconds = self.budget_s * (1 if model is not None else FIRST_LONGER)
        checked = wording.counted(tiles, "checked tile")
        does, kept = f"Learns from {checked}", " The old model is kept."
        if model is not None:
            does += self._news(model)
        else:
            does, kept = f"Makes the first model for {name} from {checked}", ""
        text = f"{does}, takes about {wording.duration(seconds)}.{kept}"
        return Plan(tiles, seconds, text, ready=True)

    def _news(self, model: Model) -> str:
        """What became of the classes since the model was made, as a part of a sentence."""
        _, store = self._session.readable_store()
        name, known = self._session.task.name, {c.value: c.name for c in model.card.task.classes}
        task, merged = store.tasks[name], store.merged_values(name)
        now = {spec.value: spec.name for spec in task.classes}
        drawn = store.summary(name)["classes"]
        fresh = [n for value, n in now.items() if value not in known and drawn[n]]
        gone = [f"{known[v]} as {now[merged[v]]}" for v in known if v in merged]
        added = "a new class" if len(fresh) == 1 else "new classes"
        news = [f"{' and '.join(fresh)} as {added}"] if fresh else []
        return "".join(f", with {part}" for part in [*news, *gone])

    def start(self) -> None:
        """Learn from everything checked on this slide; one can go on working meanwhile."""
        from napari_genselfdiff.learning.corrections import collect_tiles
        from napari_genselfdiff.learning.elsewhere import corrected_slide
        from napari_genselfdiff.learning.lesson import Asked
        from napari_genselfdiff.learning.refine import RefineRequest
        from napari_genselfdiff.learning.refine_config import RefineConfig

        session = self._session
        if self._running is not None:
            raise ConfigError("a refine is running; cancel it or wait")
        slide, store = session.open_store()
        plan, model = self.plan(), session.model
        if not plan.ready:
            raise ConfigError(plan.sentence)
        scratch = session.registry.scratch()
        begins = ""
        if model is None:
            backbone = session.registry.backbones.active()
            if not session.registry.backbones.is_shipped(backbone):
                begins = f", beginning with the backbone {backbone.path.name}"
            start, config = self._untrained(scratch.path / "start", backbone)
            wanted = session.task.name.lower().replace(" ", "-")
        else:
            start, config = model, RefineConfig(budget_s=self.budget_s)
            wanted = model.card.name
        request = RefineRequest(
            current=start.path,
            base=session.registry.base(start).path,
            tiles=collect_tiles(slide, store, start.card, tile=TILE),
            out=scratch.path / "model",
            name=session.registry.new_name(wanted),
            config=config,
            asked=Asked(session.task, store.merged_values(session.task.name)),
            slides=[corrected_slide(slide, store, start.card.task.name, tile=TILE)],
        )
        job = session.engine.refine(request, session.profile)
        self._running = _Running(job, model, scratch)
        self.outcome, self.preview, self.losses = None, None, []
        self._report(Activity(_STAGES["preparing"], 0.0, plan.seconds))
        tiles = wording.counted(plan.tiles, "checked tile")
        session.say(f"Learning from {tiles}{begins}; go on working.")

    def _untrained(self, folder: Path, backbone: Backbone) -> tuple[Model, RefineConfig]:
        """What the first model of a task begins with, and how it learns."""
        from napari_genselfdiff.learning.first import FIRST, write_untrained

        slide = self._session.slide
        colors = "stored" if slide is None else slide.colors
        start = write_untrained(folder, self._session.task, backbone.path, colors=colors)
        return start, replace(FIRST, budget_s=self.budget_s * FIRST_LONGER)

    def stop(self) -> None:
        """Learn no more and judge what was learnt so far; asked again, or too early, cancel."""
        running = self._running
        if running is None or running.concluding or not self.losses:
            self.cancel()
            return
        running.concluding = True
        running.job.conclude()
        self._session.say("Judging what was learnt so far; Cancel again to stop at once.")

    def cancel(self) -> bool:
        """Stop; the model in use stays. False if nothing ran."""
        if self._running is None:
            return False
        self._running.job.cancel()
        self._end()
        self._session.say("Refine cancelled; the model in use stays.")
        return True

    def forget(self) -> None:
        """Put the last outcome away."""
        self.outcome = None
        self._session.events.refining_changed.emit()

    def poll(self) -> None:
        """Take in progress and the result."""
        running = self._running
        if running is None:
            return
        for item in running.job.take_partials():
            self._on_progress(item)
        if not running.job.done:
            return
        try:
            self._on_result(running, running.job.value())
        finally:
            self._end()

    def use_new(self) -> None:
        """Use the refined model, also if it was not found to be better; that is recorded."""
        outcome = self._outcome()
        session = self._session
        why = "" if outcome.result.verdict.accepted else f"used anyway: {outcome.result.verdict}"
        session.registry.use(outcome.new, why=why[:500])
        self._settle(replace(outcome, in_use=True, decided=True))
        session.say(f"{outcome.new.card.name} is in use now; the old model is kept.", "good")

    def keep_old(self) -> None:
        """Keep the model that was in use; the refined one stays in the list."""
        outcome = self._outcome()
        if outcome.in_use:
            self.go_back()
            return
        self._settle(replace(outcome, decided=True))
        stays = (
            "No model is in use" if outcome.old is None else f"{outcome.old.card.name} stays in use"
        )
        self._session.say(f"{stays}; the new one stays in the list.")

    def go_back(self) -> None:
        """Use the model that was in use before, bit by bit the same."""
        session = self._session
        model = session.registry.rollback(session.task.name)
        if self.outcome is not None:
            self._settle(replace(self.outcome, in_use=False, decided=True))
        else:
            session.refresh_models()
        session.say(f"Back to {model.card.name}.", "good")

    def _outcome(self) -> Outcome:
        if self.outcome is None:
            raise ConfigError("there is no refined model to decide on; refine first")
        return self.outcome

    def _settle(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._session.refresh_models()
        self._session.events.refining_changed.emit()

    def _on_progress(self, item: RefineProgress | RefinePreview) -> None:
        if isinstance(item, RefinePreview):
            self.preview = item
            self._session.events.refining_changed.emit()
            return
        if item.loss is not None:
            self.losses.append((item.images_seen, item.loss))
        self._report(Activity(_STAGES.get(item.stage, item.stage), item.done, item.eta_s))

    def _on_result(self, running: _Running, result: RefineResult) -> None:
        """Take the candidate into the list of models; use it if it was found to be better."""
        registry, verdict = self._session.registry, result.verdict
        new = registry.add(result.model)
        if verdict.accepted:
            registry.use(new)
        undecided = verdict.decision == "too_little"
        self._settle(Outcome(result, running.old, new, verdict.accepted, not undecided))
        text, tone = _SUMMARIES[verdict.decision]
        if running.old is None and verdict.accepted:
            text = f"There is a model for {self._session.task.name} now. Press Predict to see it."
        self._session.say(text, tone)

    def _end(self) -> None:
        running, self._running = self._running, None
        self.preview = None
        if running is not None:
            running.scratch.remove()
        self._report(None)

    def _report(self, activity: Activity | None) -> None:
        self.activity = activity
        self._session.events.refining_changed.emit()
