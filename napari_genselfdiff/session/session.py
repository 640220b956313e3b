"""The session: which slide, task and model are open, and the verbs a user has."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import EmitLoopError

from napari_genselfdiff.annotation.store import AnnotationStore, default_store_path
from napari_genselfdiff.annotation.tasks import NUCLEI, TASKS
from napari_genselfdiff.errors import (
    ConfigError,
    GenSelfDiffError,
    ModelFileError,
    StoreError,
    StoreLockedError,
)
from napari_genselfdiff.registry.pixel_sizes import recall, remember
from napari_genselfdiff.session import wording
from napari_genselfdiff.session.coloring import recolored
from napari_genselfdiff.session.correcting import Correcting
from napari_genselfdiff.session.events import SessionEvents, Status, Tone
from napari_genselfdiff.session.exporting import Exporting
from napari_genselfdiff.session.measuring import Measuring
from napari_genselfdiff.session.own_tasks import read_own_tasks
from napari_genselfdiff.session.predicting import Predicting
from napari_genselfdiff.session.refining import Refining
from napari_genselfdiff.session.tasking import Tasking
from napari_genselfdiff.session.whole_slide import SlideSegmenting
from napari_genselfdiff.slides.slide import Slide, open_slide

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from napari_genselfdiff.engine.engine import Engine
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.registry.registry import Registry
    from napari_genselfdiff.slides.geometry import Region


class Session:
    """State and verbs of one window; tells what happened through ``events``.

    Every verb raises a :class:`GenSelfDiffError` in one line when it cannot be done, and leaves
    everything as it was; ``attempt`` turns that into a status instead.

    Parameters
    ----------
    registry
        Where models live; None opens the user's own.
    make_engine
        Starts the worker processes; called once, when a slide opens.
    profile
        Speed settings; None is this machine's own, measured by the worker.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        make_engine: Callable[[], Engine] | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.events = SessionEvents()
        self.slide: Slide | None = None
        self.store: AnnotationStore | None = None
        self.store_problem: str | None = None
        self.task: TaskSpec = NUCLEI
        self.model: Model | None = None
        self.model_problem = ""
        self.status = Status("Open a slide to begin.")
        self._notices: list[str] = []
        self._registry, self._make_engine = registry, make_engine
        self._engine: Engine | None = None
        self.profile = profile
        self.tasking = Tasking(self)
        self.correcting = Correcting(self)
        self.predicting = Predicting(self)
        self.refining = Refining(self)
        self.whole_slide = SlideSegmenting(self)
        self.measuring = Measuring(self)
        self.exporting = Exporting(self)

    # -- saying what happened -------------------------------------------------------------------

    def say(self, text: str, tone: Tone = "plain") -> None:
        """Put a sentence on the status line."""
        self.status = Status(" ".join(text.split()), tone)
        self.events.status_changed.emit(self.status)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Turn errors made on purpose, and the disk's, into one line of status."""
        try:
            yield
        except EmitLoopError as err:  # a listener failed; what it raised is the cause
            if not isinstance(err.__cause__, GenSelfDiffError):
                raise
            self.say(wording.sentence(str(err.__cause__)), "error")
        except GenSelfDiffError as err:
            self.say(wording.sentence(str(err)), "error")
        except OSError as err:
            self.say(
                wording.sentence(f"{err.strerror or err}: {err.filename or 'the disk'}"), "error"
            )

    # -- what the verbs need --------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """Where models live."""
        if self._registry is None:
            from napari_genselfdiff.registry.registry import Registry

            self._registry = Registry()
            self._registry.clean()
        return self._registry

    @property
    def engine(self) -> Engine:
        """Worker processes; started when first asked for."""
        if self._engine is None:
            if self._make_engine is None:
                from napari_genselfdiff.engine.engine import Engine

                self._make_engine = Engine
            self._engine = self._make_engine()
        return self._engine

    def open_store(self) -> tuple[Slide, AnnotationStore]:
        """Slide and annotations, or the reason why there are none to write to."""
        slide, store = self.readable_store()
        if store.read_only:
            raise StoreLockedError(
                self.store_problem or "the annotations are open elsewhere and can only be looked at"
            )
        return slide, store

    def readable_store(self) -> tuple[Slide, AnnotationStore]:
        """Slide and annotations, perhaps only to look at, or the reason why there are none."""
        if self.slide is None:
            raise ConfigError("no slide is open; open one first")
        if self.slide.mpp is None:
            raise ConfigError("the size of a pixel is not known; choose µm/px in the Slide block")
        if self.store is None:
            raise StoreError(self.store_problem or "the annotations of this slide are not open")
        return self.slide, self.store

    def open_model(self) -> Model:
        """Model in use for the task, or the reason why there is none."""
        if self.model is None:
            raise ModelFileError(self.model_problem or "open a slide first")
        return self.model

    def poll(self) -> None:
        """Take in what the workers report; call every 20-50 ms."""
        if self._engine is not None:
            self._engine.poll()
        with self.attempt():
            self.predicting.poll()
        with self.attempt():
            self.refining.poll()
        with self.attempt():
            self.whole_slide.poll()
        with self.attempt():
            self.measuring.poll()
        with self.attempt():
            self.exporting.poll()
        if self._notices:  # again: what a verb said of itself must not hide a warning
            self.say(" ".join(dict.fromkeys(self._notices)), "warning")
            self._notices.clear()

    # -- slide ----------------------------------------------------------------------------------

    def open_slide(self, path: str | os.PathLike[str], *, mpp: float | None = None) -> Slide:
        """Open a slide and its annotations; the old slide stays open if that fails."""
        slide = open_slide(Path(path), mpp=mpp)
        slide = recolored(slide)
        self.close_slide()
        self.slide = slide
        if slide.mpp is None:
            self._remember_mpp(slide)
        problem = self._open_store() if slide.mpp is not None else None
        self.choose_task(self.task.name)
        self.events.slide_changed.emit()
        self._warm_up()
        self._say_opened(slide, problem)
        return slide

    def _warm_up(self) -> None:
        """Let the worker do beforehand what the first Predict would wait for."""
        if self.slide is not None and self.slide.mpp is not None and self.model is not None:
            self.engine.warm_up(self.slide.path, self.slide.mpp, self.model.path, self.profile)

    def _say_opened(self, slide: Slide, problem: str | None) -> None:
        if slide.mpp is None:
            self.say(
                f"{slide.path.name} does not say how large a pixel is: choose µm/px.", "warning"
            )
        elif problem is not None:
            self.say(problem, "warning" if self.store is not None else "error")
        elif self.store is not None and self.store.recovered:
            self.say(f"Opened {slide.path.name}. {self.store.recovered}", "warning")
        elif slide.warnings:
            self.say(f"Opened {slide.path.name}: {slide.warnings[0]}.", "warning")
        else:
            self.say(f"Opened {slide.path.name}. Zoom to tissue and press Predict.", "good")

    def assume_mpp(self, mpp: float) -> None:
        """Set the size of a pixel the slide does not state; it is marked as assumed everywhere."""
        if self.slide is None:
            raise ConfigError("no slide is open; open one first")
        if self.store is not None:
            raise ConfigError("annotations were made at the present µm/px; it cannot change now")
        self.slide.assume_mpp(mpp)
        with self.attempt():
            remember(self.slide.hash, mpp)
        problem = self._open_store()
        self.choose_task(self.task.name)
        self.events.slide_changed.emit()
        self._warm_up()
        if problem is None:
            self.say(f"Assuming {mpp:g} µm/px; every export says so.", "good")
        else:
            self.say(problem, "error")

    def close_slide(self) -> None:
        """Close slide and annotations; everything is saved already."""
        if self.slide is None:
            return
        with self.attempt():
            self.predicting.finish()
        self.predicting.cancel()
        self.predicting.forget()
        self.refining.cancel()
        self.whole_slide.leave()
        slide, store = self.slide, self.store
        if store is not None:
            store.events.changed.disconnect(self._on_store_changed)
            store.events.tasks_changed.disconnect(self._on_tasks_changed)
            store.events.history_changed.disconnect(self._on_history_changed)
            store.events.notice.disconnect(self._on_notice)
        self.slide = self.store = self.store_problem = None
        self.events.slide_changed.emit()  # nobody shows what is about to be closed
        if store is not None:
            store.close()
        slide.close()

    def close(self) -> None:
        """Close everything and end the worker processes."""
        self.close_slide()
        self.predicting.close()
        self.exporting.cancel()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()
        self.exporting.sweep()

    def _remember_mpp(self, slide: Slide) -> None:
        """Take the size of a pixel from annotations made earlier, or as it was stated before."""
        path = default_store_path(slide.path)
        if not path.exists():
            stated = recall(slide.hash)
            if stated is not None:
                slide.assume_mpp(stated)
            return
        with contextlib.suppress(GenSelfDiffError):  # the real opening says what is wrong
            store = AnnotationStore.open_read_only(path)
            mpp = store.mpp
            store.close()
            slide.assume_mpp(mpp)

    def _open_store(self) -> str | None:
        """Open the annotations, to look at if need be; give what went wrong."""
        slide = self.slide
        if slide is None or slide.mpp is None:
            return None
        path = default_store_path(slide.path)
        self.store_problem = None
        try:
            self.store = AnnotationStore.open(
                path,
                slide_path=slide.path,
                slide_hash=slide.hash,
                shape=slide.shape,
                mpp=slide.mpp,
                mpp_assumed=slide.mpp_assumed,
            )
        except StoreLockedError as err:
            self.store_problem = wording.sentence(str(err))
            with self.attempt():
                self.store = AnnotationStore.open_read_only(path)
        except StoreError as err:
            self.store_problem = wording.sentence(str(err))
        if self.store is not None:
            self.store.events.changed.connect(self._on_store_changed)
            self.store.events.tasks_changed.connect(self._on_tasks_changed)
            self.store.events.history_changed.connect(self._on_history_changed)
            self.store.events.notice.connect(self._on_notice)
        return self.store_problem

    def _on_store_changed(self, task_name: str, region: Region) -> None:
        if task_name == self.task.name:
            self.events.annotations_changed.emit(region)

    def _on_tasks_changed(self, task_name: str) -> None:
        """Take up another list of classes of the task, as after a change of classes is undone."""
        if self.store is None or task_name != self.task.name:
            return
        task = self.store.tasks[task_name]
        if task != self.task:
            self.task = task
            self.events.task_changed.emit()

    def _on_history_changed(self) -> None:
        self.events.history_changed.emit()

    def _on_notice(self, text: str) -> None:
        self._notices.append(text)
        self.say(text, "warning")

    # -- task and model -------------------------------------------------------------------------

    def tasks(self) -> list[TaskSpec]:
        """Tasks of the slide's annotations, the user's own, and those everybody starts with."""
        known = {task.name: task for task in (*read_own_tasks(), *TASKS)}
        known = {task.name: known[task.name] for task in (*TASKS, *known.values())}
        if self.store is not None:
            known.update(self.store.tasks)
        return list(known.values())

    def choose_task(self, name: str) -> None:
        """Work on another task; it is added to the slide's annotations if it is new there."""
        found = {task.name: task for task in self.tasks()}
        if name not in found:
            raise ConfigError(f"there is no task {name!r}; choose one of {', '.join(found)}")
        self.task = found[name]
        if self.store is not None and not self.store.read_only:
            self.store.add_task(self.task)
        self.refining.forget()
        self.refresh_models()
        self.events.task_changed.emit()

    def models(self) -> list[Model]:
        """Models of the task, the newest first."""
        return self.registry.list(self.task.name)

    def choose_model(self, model: Model) -> None:
        """Use another model for the task from now on."""
        self.registry.use(model)
        self.model = model
        self.events.model_changed.emit()
        self.say(f"{model.card.name} is in use now.", "good")

    def refresh_models(self) -> None:
        """Take up which model is in use; what is wrong with it is kept in ``model_problem``."""
        self.model, self.model_problem = None, ""
        try:
            self.model = self.registry.active(self.task.name)
        except ModelFileError as err:
            self.model_problem = str(err)
        self.events.model_changed.emit()

    # -- exchange -------------------------------------------------------------------------------

    def import_file(self, path: Path, classes: Mapping[str, str | None] | None = None) -> int:
        """Read annotations of the task; ``classes`` by the file's, None leaves one out."""
        from napari_genselfdiff.annotation.exchange.incoming import import_file

        _, store = self.open_store()
        before = len(store.rois)
        number = import_file(path, store, self.task.name, classes=classes)
        found = [wording.things(self.task, number)]
        if rois := len(store.rois) - before:
            what = wording.counted(rois, "region of interest", "regions of interest")
            found = [*found, what] if number else [what]
        self.say(f"Imported {' and '.join(found)} from {path.name}.", "good")
        return number
