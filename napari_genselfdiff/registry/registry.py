"""Every model this user has: the shipped ones and their own versions, and which is in use."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry.active import (
    Chosen,
    change,
    read_active,
    write_choice,
)
from napari_genselfdiff.registry.archive import read_archive, write_archive
from napari_genselfdiff.registry.backbones import SHIPPED, Backbones
from napari_genselfdiff.registry.card import checked_name
from napari_genselfdiff.registry.files import plain_errors, remove_whole
from napari_genselfdiff.registry.folder import (
    CARD_FILE,
    Backbone,
    Model,
    copy_folder,
    is_backbone,
    read_model,
)
from napari_genselfdiff.registry.home import data_home
from napari_genselfdiff.registry.lock import changing, models_lock
from napari_genselfdiff.registry.unfinished import Scratch, clean, clean_partials, owned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

BUNDLED = Path(__file__).parent / "bundled"
Models = list[Model]  # inside the class, ``list`` is a method
Folders = list[Path]

DEFAULT = "default"
DEFAULT_TASK = "Nuclei"
_VERSION = re.compile(r"-\d{4}-\d{2}-\d{2}-\d+$")


def bundled_backbone() -> Path:
    """Folder of the shipped diffusion backbone that new tasks start from."""
    return BUNDLED / SHIPPED


class Registry:
    """Models by name. The shipped ones are read-only; the user's lie in ``root/models``.

    ``root`` defaults to GENSELFDIFF_HOME or the user's data folder. Every change on disk happens
    whole or not at all, so a killed process leaves at most a hidden ``.partial`` folder, which
    :meth:`clean` removes. Changes of several processes come one after the other: a lock is held
    from reading what there is to writing what there shall be.
    """

    def __init__(self, root: Path | None = None, *, bundled: Path = BUNDLED) -> None:
        self.root = root if root is not None else data_home()
        self.models_dir = self.root / "models"
        self._bundled = bundled
        self._active_file = self.root / "active.json"
        self._runs_dir = self.root / "runs"
        self._lock = models_lock(self.root)
        self.backbones = Backbones(self.root, bundled, self._lock, self._free_name)

    # --- finding ---------------------------------------------------------------------------

    def list(self, task: str | None = None) -> Models:
        """Readable models, shipped ones first, then by date; :meth:`problems` names the others.

        Only the cards are checked here; using a model checks its weights.
        """
        models = []
        for folder in self._folders():
            try:
                model = read_model(folder, verify=False)
            except ModelFileError:
                continue
            if task is None or model.card.task.name == task:
                models.append(model)
        return sorted(models, key=lambda m: (not self.is_bundled(m), m.card.created, m.path.name))

    def problems(self) -> dict[str, str]:
        """Folders that cannot be used, by name, each with the reason in one line."""
        found = {}
        for folder in self._folders():
            try:
                read_model(folder)
            except ModelFileError as err:
                found[folder.name] = str(err)
        return found

    def resolve(self, name_or_path: str | Path) -> Model:
        """Give a verified model by name, by folder, or ``default``.

        ``default`` is the model in use for the task Nuclei.
        """
        text = str(name_or_path)
        if text == DEFAULT:
            return self.active(DEFAULT_TASK)
        if isinstance(name_or_path, str):
            folder = self._folder(text)
            if folder is not None:
                return read_model(folder)
        path = Path(text).expanduser()
        if path.is_dir():
            return read_model(path)
        names = ", ".join([DEFAULT, *(m.path.name for m in self.list())])
        raise ModelFileError(f"There is no model {text!r}; give one of {names}, or a model folder.")

    def is_bundled(self, model: Model) -> bool:
        """Whether a model came with the program."""
        return model.path.parent == self._bundled

    def lineage(self, model: Model) -> Models:
        """The model and those it was refined from, newest first, as far as they are here."""
        by_hash = {m.hash: m for m in self.list()}
        line, seen = [model], {model.hash}
        while (parent := line[-1].card.parent) in by_hash and parent not in seen:
            line.append(by_hash[parent])
            seen.add(parent)
        return line

    def base(self, model: Model) -> Model:
        """Where refining this model begins: what its line began with, or the task's shipped one.

        The model itself if neither is here, or if its line began with Refine itself: a first
        model learned from a few tiles, which the later ones learn from again.
        """
        named = model.card.recipe.get("base")
        of_same_task = [m for m in self.list(model.card.task.name) if m.hash == named]
        if of_same_task:
            return of_same_task[0]
        first = self.lineage(model)[-1]
        if first.card.parent is None:
            return model if "refine" in first.card.recipe else first
        return self._shipped(model.card.task.name) or first

    def descendants(self, model: Model) -> Models:
        """Other models that were refined from this one, directly or through others."""
        others = [m for m in self.list() if m.hash != model.hash]
        return [m for m in others if model.hash in {a.hash for a in self.lineage(m)}]

    # --- using -----------------------------------------------------------------------------

    def active(self, task: str) -> Model:
        """The verified model in use for a task: the one chosen last, else the shipped one.

        ModelFileError if there is none, or if the chosen one is damaged: never another silently.
        """
        history = read_active(self._active_file).history(task)
        if history:
            folder = self._folder(history[-1].name)
            if folder is None:
                raise ModelFileError(
                    f"The model in use for {task}, {history[-1].name!r}, is gone. "
                    "Go back to the previous one or choose another."
                )
            model = read_model(folder)
            if model.hash != history[-1].hash and not self.is_bundled(model):
                raise ModelFileError(
                    f"{folder} is not the model that was put to use for {task}: its card was "
                    "altered. Go back to the previous one or choose another."
                )
            return model
        shipped = self._shipped(task)
        if shipped is None:
            raise ModelFileError(
                f"There is no model for the task {task} yet. Correct a few places and refine, "
                "or import a model."
            )
        shipped.verify()
        return shipped

    def use(self, model: Model, why: str = "") -> Model:
        """Put a model to use for its task; one that is not in the registry is added first.

        ``why`` goes into the log, for instance that it was used although it scored worse.
        """
        model.verify()
        with self._changing():
            if not self.is_bundled(model) and model.path.parent != self.models_dir:
                model = self.add(model.path)
            task, chosen = model.card.task.name, _chosen(model)
            active = read_active(self._active_file)
            history = active.history(task)
            if not history and (shipped := self._shipped(task)) is not None:
                history = (_chosen(shipped),)  # what was in use until now, to go back to
            if history[-1:] != (chosen,):
                entry = change("use", task, chosen, why)
                now = active.with_history(task, (*history, chosen), entry)
                write_choice(self._active_file, now)
        return model

    def rollback(self, task: str) -> Model:
        """Go back to the model that was in use before, and give it.

        Models that are no longer there are passed over; ConfigError if none is left.
        """
        with self._changing():
            active = read_active(self._active_file)
            earlier = list(active.history(task)[:-1])
            while earlier:
                folder = self._folder(earlier[-1].name)
                if folder is not None:
                    model = read_model(folder)
                    entry = change("rollback", task, earlier[-1])
                    left = active.with_history(task, tuple(earlier), entry)
                    write_choice(self._active_file, left)
                    return model
                earlier.pop()
        raise ConfigError(f"There is no earlier model of the task {task} to go back to.")

    # --- changing --------------------------------------------------------------------------

    def add(self, folder: str | Path, name: str | None = None) -> Model:
        """Copy a model folder into the registry and give the copy.

        Its name is ``name`` or its own, made unique with the date and a number. The very same
        model is never stored twice under one name.
        """
        model = read_model(Path(folder))
        wanted = name or model.card.name
        with self._changing():
            present = self._folder(wanted)
            if present is not None and read_model(present).hash == model.hash:
                return read_model(present)
            target = self.models_dir / self._free_name(wanted)
            copy_folder(model, target)
        return read_model(target)

    def new_name(self, base: str) -> str:
        """A free name: ``base`` itself, else ``base-YYYY-MM-DD-N`` with the smallest free N."""
        stem = _VERSION.sub("", base)
        if self._is_free(stem):
            return stem
        today = datetime.now(UTC).date().isoformat()
        number = 1
        while not self._is_free(f"{stem}-{today}-{number}"):
            number += 1
        return f"{stem}-{today}-{number}"

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove one of the user's models.

        ConfigError for a shipped one or one in use, always; for one that others were refined
        from, unless ``force``.
        """
        with self._changing():
            folder = self._folder(name)
            if folder is None:
                raise ConfigError(f"There is no model {name!r} to delete.")
            if folder.parent == self._bundled:
                raise ConfigError(f"{name!r} came with the program and cannot be deleted.")
            active = read_active(self._active_file)
            for task, history in active.used.items():
                if history and history[-1].name == name:
                    raise ConfigError(
                        f"{name!r} is in use for {task}. Go back or use another model first."
                    )
            if not force:
                self._check_no_descendants(folder)
            # First what one could go back to: a kill in between leaves a model nobody points to,
            # never a pointer to nothing.
            if (left := active.without(name)) is not active:
                write_choice(self._active_file, left)
            remove_whole(folder)

    def export(self, model: Model, file: str | Path, *, corrections: bool = False) -> Path:
        """Write a model as one zip file; its correction tiles only if asked for."""
        model.verify()
        path = Path(file)
        write_archive(model, path, corrections=corrections)
        return path

    def import_(self, file: str | Path) -> Model:
        """Take in a model from a zip file, checked in every respect before it gets a name."""
        with self._unpacked(Path(file)) as folder:
            return self.add(folder)

    def take_in(self, path: Path) -> Model | Backbone:
        """Take in a model or a diffusion backbone, from its folder or a zip file of it."""
        with nullcontext(path) if path.is_dir() else self._unpacked(path) as folder:
            return self.backbones.add(folder) if is_backbone(folder) else self.add(folder)

    def scratch(self) -> Scratch:
        """Make a folder for a job's files; ``remove`` it, or the next start does."""
        with plain_errors(f"Writing {self._runs_dir}"):
            return Scratch(self._runs_dir)

    def clean(self) -> None:
        """Remove what killed processes left behind; what a living one works on stays.

        Never fails: a disk that cannot be written, or a busy lock, leaves it for the next start.
        """
        if not self.root.is_dir():
            return
        with suppress(ModelFileError, OSError), self._changing(wait_s=0.0):
            clean_partials(self.models_dir)
            clean_partials(self.backbones.folder)
            for left in self.root.glob(".*.json.*.partial"):
                left.unlink(missing_ok=True)
        with suppress(OSError):
            clean(self._runs_dir, "*")

    # --- inside ----------------------------------------------------------------------------

    def _folders(self) -> Folders:
        found = []
        for parent in (self._bundled, self.models_dir):
            if parent.is_dir():
                found += [p for p in sorted(parent.iterdir()) if (p / CARD_FILE).is_file()]
        return [p for p in found if not p.name.startswith(".") and p.name != SHIPPED]

    def _folder(self, name: str) -> Path | None:
        """The folder of a name, found among those that exist: a name is never joined to a path."""
        return next((p for p in self._folders() if p.name == name), None)

    def _shipped(self, task: str) -> Model | None:
        shipped = [m for m in self.list(task) if self.is_bundled(m)]
        return shipped[0] if shipped else None

    def _is_free(self, name: str) -> bool:
        # Some file systems do not tell upper from lower case.
        names = {*(p.name for p in self._folders()), *self.backbones.names()}
        taken = {DEFAULT, SHIPPED, *(taken.casefold() for taken in names)}
        return name.casefold() not in taken and not (self.models_dir / name).exists()

    def _free_name(self, wanted: str) -> str:
        """``wanted``, or with date and number; ConfigError for what no folder can be called."""
        wanted = checked_name(wanted)
        return wanted if self._is_free(wanted) else self.new_name(wanted)

    def _check_no_descendants(self, folder: Path) -> None:
        """ConfigError if models here were refined from the one in ``folder``."""
        try:
            children = self.descendants(read_model(folder, verify=False))
        except ModelFileError:  # a damaged card names nobody's parent
            return
        if children:
            names = ", ".join(m.card.name for m in children)
            raise ConfigError(
                f"{folder.name!r} cannot be deleted: from it came {names}. Delete those first, "
                "or force it."
            )

    @contextmanager
    def _unpacked(self, file: Path) -> Iterator[Path]:
        """Give the folder in a zip file for as long as the block runs."""
        with plain_errors(f"Importing {file}"):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            unpacked = self.models_dir / f".import.{uuid4().hex}.partial"
            with owned(unpacked):
                try:
                    unpacked.mkdir()
                    read_archive(file, unpacked)
                    yield unpacked
                finally:
                    shutil.rmtree(unpacked, ignore_errors=True)

    def _changing(self, wait_s: float | None = None) -> AbstractContextManager[None]:
        return changing(self.root, self._lock, wait_s)


def _chosen(model: Model) -> Chosen:
    return Chosen(name=model.path.name, hash=model.hash)
