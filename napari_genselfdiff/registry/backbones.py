"""The diffusion backbones this user has, and the one that new tasks start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry.active import Chosen, read_choice, write_choice
from napari_genselfdiff.registry.archive import write_archive
from napari_genselfdiff.registry.files import plain_errors, remove_whole
from napari_genselfdiff.registry.folder import CARD_FILE, copy_folder, is_backbone, read_backbone
from napari_genselfdiff.registry.lock import changing

if TYPE_CHECKING:
    from collections.abc import Callable

    from filelock import FileLock

    from napari_genselfdiff.registry.folder import Backbone

SHIPPED: Final = "backbone"  # name of the one that comes with the program
Listed = list["Backbone"]  # inside the class, ``list`` is a method
Folders = list[Path]


class Backbones:
    """Backbones by name: the shipped one, read-only, and the user's in ``root/backbones``.

    The registry of the models makes it: both change under one lock, and share one set of names,
    which ``free_name`` knows.
    """

    def __init__(
        self, root: Path, bundled: Path, lock: FileLock, free_name: Callable[[str], str]
    ) -> None:
        self.folder = root / "backbones"
        self._root, self._shipped, self._lock = root, bundled / SHIPPED, lock
        self._free_name = free_name
        self._chosen = root / "backbone.json"

    def names(self) -> set[str]:
        """Names that are taken, readable or not."""
        return {path.name for path in self._folders()}

    def list(self) -> Listed:
        """Readable backbones, the shipped one first, then by date."""
        found = []
        for folder in self._folders():
            try:
                found.append(read_backbone(folder, verify=False))
            except ModelFileError:
                continue
        return sorted(found, key=lambda b: (not self.is_shipped(b), b.card.created, b.path.name))

    def problems(self) -> dict[str, str]:
        """Folders that cannot be used, by name, each with the reason in one line."""
        found = {}
        for folder in self._folders():
            try:
                read_backbone(folder)
            except ModelFileError as err:
                found[folder.name] = str(err)
        return found

    def find(self, name_or_path: str | Path) -> Backbone | None:
        """Give a verified backbone by name or by folder; None where that is no backbone."""
        folder = self._named(str(name_or_path))
        if folder is None:
            path = Path(name_or_path).expanduser()
            folder = path if path.is_dir() and is_backbone(path) else None
        return None if folder is None else read_backbone(folder)

    def is_shipped(self, backbone: Backbone) -> bool:
        """Whether a backbone came with the program."""
        return backbone.path == self._shipped

    def active(self) -> Backbone:
        """The verified backbone in use: the one chosen last, else the shipped one.

        ModelFileError if the chosen one is gone, altered or damaged: never another silently.
        """
        chosen = self._read_chosen()
        if chosen is None:
            return read_backbone(self._shipped)
        back = f"`genselfdiff models use {SHIPPED}` goes back to the shipped one."
        folder = self._named(chosen.name)
        if folder is None:
            raise ModelFileError(f"The backbone in use, {chosen.name!r}, is gone. {back}")
        backbone = read_backbone(folder)
        if backbone.hash != chosen.hash:
            raise ModelFileError(
                f"{folder} is not the backbone that was put to use: its card was altered. {back}"
            )
        return backbone

    def use(self, backbone: Backbone) -> Backbone:
        """Start new tasks from a backbone; one that is not kept here is added first.

        Building it once shows that this version has its network; ModelFileError if not.
        """
        backbone.load()
        with changing(self._root, self._lock):
            if self.is_shipped(backbone):  # whichever that is after the next update
                with plain_errors(f"Writing {self._chosen}"):
                    self._chosen.unlink(missing_ok=True)
                return backbone
            if backbone.path.parent != self.folder:
                backbone = self.add(backbone.path)
            write_choice(self._chosen, Chosen(name=backbone.path.name, hash=backbone.hash))
        return backbone

    def add(self, folder: Path) -> Backbone:
        """Copy a backbone's folder, as ``pretrain`` writes it, and give the copy.

        Its name is its own, made unique with date and number; the very same is kept once.
        """
        backbone = read_backbone(folder)
        with changing(self._root, self._lock):
            present = self._named(backbone.card.name)
            if present is not None and present != self._shipped:
                kept = read_backbone(present)
                if kept.hash == backbone.hash:
                    return kept
            target = self.folder / self._free_name(backbone.card.name)
            copy_folder(backbone, target)
        return read_backbone(target)

    def export(self, backbone: Backbone, file: Path) -> Path:
        """Write a backbone as one zip file."""
        backbone.verify()
        write_archive(backbone, file)
        return file

    def delete(self, name: str) -> None:
        """Remove one of the user's; ConfigError for the shipped one and the one in use."""
        with changing(self._root, self._lock):
            folder = self._named(name)
            if folder is None:
                raise ConfigError(f"There is no backbone {name!r} to delete.")
            if folder == self._shipped:
                raise ConfigError(f"{name!r} came with the program and cannot be deleted.")
            chosen = self._read_chosen()
            if chosen is not None and chosen.name == name:
                raise ConfigError(f"{name!r} is in use for new tasks. Use another one first.")
            remove_whole(folder)

    def _folders(self) -> Folders:
        own = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        found = [p for p in (self._shipped, *own) if (p / CARD_FILE).is_file()]
        return [p for p in found if not p.name.startswith(".")]

    def _named(self, name: str) -> Path | None:
        """The folder of a name, found among those that exist: a name is never joined to a path."""
        return next((path for path in self._folders() if path.name == name), None)

    def _read_chosen(self) -> Chosen | None:
        return read_choice(self._chosen, Chosen, "the shipped backbone; your own ones stay.")
