"""Work kept on this computer while the store's own folder cannot be written, and brought home.

The folder holds what was written since: the root record, steps of the journal and chunks, in the
layout of the store, and a note that says whose they are. Bringing it home does the same steps again
there, one by one, each whole or not at all; so it may be interrupted at any moment, and what was
brought is recognised by the steps' identities when it goes on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, ValidationError

from napari_genselfdiff.annotation.disk import disk_errors, flush_file, remove_tree, replace_file
from napari_genselfdiff.annotation.files import Files
from napari_genselfdiff.annotation.journal import Journal, operation_path
from napari_genselfdiff.annotation.rois import ROI_FILE, read_rois
from napari_genselfdiff.annotation.schema import StoreRecord, read_record
from napari_genselfdiff.errors import StoreCorruptError, StoreError
from napari_genselfdiff.registry.card import Record
from napari_genselfdiff.registry.home import data_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_genselfdiff.annotation.rois import Roi
    from napari_genselfdiff.annotation.schema import OperationRecord
    from napari_genselfdiff.annotation.sheltered import ShelteredStore

NOTE_FILE: Final = "aside.json"
_MAX_NOTE: Final = 2**16


class AsideNote(Record):
    """Whose work it is: of which store, where that lies, its newest step and next id then."""

    version: Literal[1] = 1
    store_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    home: str
    since: int = Field(ge=0)
    next_id: int = Field(ge=1)
    when: str
    why: str


class Aside:
    """Work kept aside, found on disk.

    Parameters
    ----------
    folder
        Where it lies.

    Raises
    ------
    StoreError
        If it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            with disk_errors("read the work kept on this computer"):
                text = (folder / NOTE_FILE).read_bytes()[:_MAX_NOTE]
            self.note = AsideNote.model_validate_json(text)
        except ValidationError as err:
            raise StoreCorruptError(
                f"{folder / NOTE_FILE} is damaged; nothing was changed"
            ) from err
        self.record: StoreRecord = read_record(folder)
        self._journal = Journal(Files(folder))

    def describe(self, op_id: int) -> OperationRecord:
        """A step made since; StoreCorruptError if its file is damaged."""
        return self._journal.describe(op_id)

    def sides(self, op_id: int, task: str) -> Iterator[tuple[str, bytes | None, bytes | None]]:
        """Name, bytes before and bytes after of every chunk of a task a step changed."""
        return self._journal.sides(op_id, f"labels/{task}.")

    def rois(self, op_id: int) -> tuple[tuple[Roi, ...], tuple[Roi, ...]] | None:
        """Regions of interest before and after a step; None if it did not change them."""
        for _, before, after in self._journal.sides(op_id, ROI_FILE):
            return read_rois(before), read_rois(after)
        return None

    @property
    def new(self) -> tuple[int, ...]:
        """Steps made since and done, oldest first."""
        return tuple(op for op in self.record.journal.done if op > self.note.since)

    @property
    def steps(self) -> str:
        """How much it is, to begin a sentence with."""
        number = len(self.new)
        if not number:
            return "What you undid was"
        return "1 step was" if number == 1 else f"{number:,} steps were"

    def fits(self, home: ShelteredStore) -> bool:
        """Whether nobody else changed the store since; steps brought there already do not count."""
        journal, since = home.record.journal, self.note.since
        mine = {*self.record.journal.done, *self.record.journal.undone}
        for op in (*journal.done, *journal.undone):
            if op > since and (op not in mine or home.describe(op).uid != self.describe(op).uid):
                return False
        return journal.last <= since or journal.last in mine

    def bring(self, home: ShelteredStore) -> None:
        """Make the store what it is here, history included; the folder goes when that is done.

        Raises
        ------
        StoreError
            If a disk refuses; what was brought until then stays, the rest is still here.
        """
        wanted = self.record.journal
        with disk_errors("bring your work back to the annotations"):
            home.raise_ids(self.record.next_id)
            common = _common(home.record.journal.done, wanted.done)
            home.walk(common - len(home.record.journal.done))
            for op in wanted.done[common:]:
                if home.record.journal.undone[-1:] == (op,):
                    home.walk(1)
                else:
                    self._copy(op, home)
                    home.adopt(op)
            for op in wanted.undone:
                if op > self.note.since:
                    self._copy(op, home)
            home.take_undone(wanted.undone, wanted.last)
        remove_tree(self.folder)

    def _copy(self, op_id: int, home: ShelteredStore) -> None:
        """Bring a step's file, on the disk itself; it counts once the record names it."""
        source = operation_path(self.folder, op_id)
        if not source.exists():  # a step from before, which is at home
            return
        target = home.files.writable(f"journal/{op_id:010d}.zip")
        replace_file(target, source.read_bytes())
        flush_file(target)


def asides_home() -> Path:
    """Folder of this computer for work that could not be written where it belongs."""
    return data_home() / "annotations" / "aside"


def new_aside(home: Path, record: StoreRecord, why: str) -> Path:
    """Make an empty folder for work of a store; OSError if this computer's disk refuses as well."""
    now = datetime.now(UTC)
    note = AsideNote(
        store_id=record.store_id,
        home=str(home.absolute()),
        since=record.journal.last,
        next_id=record.next_id,
        when=now.isoformat(timespec="seconds"),
        why=why,
    )
    folder = asides_home() / f"{record.store_id}-{now:%Y%m%d-%H%M%S-%f}"
    folder.mkdir(parents=True)
    replace_file(folder / NOTE_FILE, note.model_dump_json(indent=1).encode(), durable=True)
    return folder


def asides_of(store_id: str, home: Path) -> list[Aside]:
    """Work of a store that waits on this computer, the oldest first; a damaged one stays alone."""
    found = []
    for folder in sorted(asides_home().glob(f"{store_id}-*")):
        if folder.suffix == "" and (folder / NOTE_FILE).exists():
            try:
                aside = Aside(folder)
            except StoreError:
                continue
            # A copy of the annotations has their identity, too; the work belongs to the original.
            place = Path(aside.note.home)
            if aside.note.store_id == store_id and (place == home or not place.exists()):
                found.append(aside)
    return found


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many numbers two lists begin with alike."""
    for at, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return at
    return min(len(a), len(b))
