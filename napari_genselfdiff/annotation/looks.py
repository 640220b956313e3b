"""What a person has looked at, by whom and when; remembered longer than undo reaches."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, ValidationError

from napari_genselfdiff.annotation.disk import disk_errors
from napari_genselfdiff.annotation.schema import Box  # noqa: TC001  (pydantic reads it)
from napari_genselfdiff.registry.card import Record, TaskName
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_genselfdiff.annotation.files import Files
    from napari_genselfdiff.annotation.schema import OperationRecord

LookKind = Literal["seen", "forgotten", "none"]
LOOKS_FILE: Final = "looks.jsonl"
MAX_LOOKS_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Look:
    """A person looked at a region, or (``seen`` False) said to forget it.

    Parameters
    ----------
    op
        Number of the operation.
    task, region
        Where, in pixels of the task's grid; for an edit the rectangle around what it changed.
    who, when
        The author, and the time in ISO format, UTC.
    what
        Name of the operation, such as "Accept view".
    seen
        False for *Clear to unknown*: whatever was seen of the region before counts no more.
    """

    op: int
    task: str
    region: Region
    who: str
    when: str
    what: str
    seen: bool


def look_of(op_id: int, meta: OperationRecord) -> Look | None:
    """The look an operation was, None if nobody looked."""
    kind = meta.look or _guessed(meta)
    if kind == "none":
        return None
    region = Region(*meta.region)
    return Look(op_id, meta.task, region, meta.who, meta.when, meta.what, kind == "seen")


def _guessed(meta: OperationRecord) -> LookKind:
    """What version 1, which did not write it down, meant."""
    if meta.what == "Clear to unknown":
        return "forgotten"
    if meta.model_hash is not None or meta.what.startswith("Import"):
        return "none"
    return "seen"


class LookArchive:
    """Looks of operations that can no longer be undone; one line of JSON each, only added to.

    A line counts from the moment the record knows its operation no more, so it is written before
    the operation is dropped, and being written twice does no harm.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._looks: dict[int, Look] | None = None

    def add(self, looks: Iterable[Look]) -> None:
        """Keep looks for good; on the disk itself afterwards.

        Raises
        ------
        StoreError
            If the disk refuses; the lines may then be there in part, which does no harm.
        """
        new = {look.op: look for look in looks}
        if not new:
            return
        known = self._known()
        text = "".join(_to_line(look).model_dump_json() + "\n" for look in new.values())
        with disk_errors("remember what was looked at"):
            self._files.append(LOOKS_FILE, text.encode())
        known.update(new)

    def but(self, ids: Iterable[int]) -> list[Look]:
        """All kept looks but those of operations in the journal, oldest first."""
        journal = set(ids)
        known = self._known()
        return [known[op] for op in sorted(known) if op not in journal]

    def _known(self) -> dict[int, Look]:
        if self._looks is None:
            data = self._files.read(LOOKS_FILE, MAX_LOOKS_BYTES) or b""
            self._looks = {look.op: look for look in _from_lines(data)}
        return self._looks


class _Line(Record):
    op: int = Field(ge=1)
    task: TaskName
    region: Box
    who: str
    when: str
    what: str
    seen: bool


def _to_line(look: Look) -> _Line:
    region = look.region
    return _Line(
        op=look.op,
        task=look.task,
        region=(region.y, region.x, region.height, region.width),
        who=look.who,
        when=look.when,
        what=look.what,
        seen=look.seen,
    )


def _from_lines(data: bytes) -> Iterator[Look]:
    """Looks of all lines that are whole; the last one may have been cut off by a power cut."""
    for text in data.splitlines():
        with suppress(ValidationError):
            line = _Line.model_validate_json(text)
            region = Region(*line.region)
            yield Look(line.op, line.task, region, line.who, line.when, line.what, line.seen)
