"""The root record of a store: what every annotation folder says about itself, and its commits.

It lives in the attributes of the root ``zarr.json`` under ``gsd`` and is replaced whole; replacing
it is the one moment at which an operation becomes real.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from napari_genselfdiff.annotation.disk import disk_errors, replace_file
from napari_genselfdiff.annotation.migrations import migrated
from napari_genselfdiff.errors import StoreCorruptError, StoreError
from napari_genselfdiff.registry.card import (
    ClassSpec,
    Mpp,
    Record,
    TaskName,
    TaskSpec,
    one_line,
)

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 2
ROOT_FILE = "zarr.json"
MAX_RECORD_BYTES = 16 * 2**20
MAX_ID = 2**32 - 2

Side = Annotated[int, Field(ge=1, le=2**31 - 1)]
Count = Annotated[int, Field(ge=0)]
Box = tuple[Count, Count, Side, Side]
ClassKey = Annotated[str, Field(pattern=r"^[0-9]{1,3}$")]
ClassValue = Annotated[int, Field(ge=1, le=255)]
Merged = dict[ClassKey, ClassValue]


class SlideRecord(Record):
    """The slide the annotations belong to; ``height`` and ``width`` of level 0."""

    path: str
    hash: str = Field(min_length=1, max_length=128)
    height: Side
    width: Side
    mpp: Mpp
    mpp_assumed: bool


class TaskRecord(Record):
    """One task: what it is, its grid, and running totals per class value.

    ``merged`` tells into which value each class that is gone was merged; ``used`` lists the values
    of all classes there ever were, also of those that were undone.
    """

    spec: TaskSpec
    downsample: int = Field(ge=1, le=4096)
    pixels: dict[ClassKey, Count] = Field(default_factory=dict)
    objects: dict[ClassKey, Count] = Field(default_factory=dict)
    merged: Merged = Field(default_factory=dict)
    used: tuple[ClassValue, ...] = ()


class ClassList(Record):
    """The classes of a task at one moment of its history; ``merged`` as in :class:`TaskRecord`."""

    classes: tuple[ClassSpec, ...] = Field(min_length=1, max_length=255)
    merged: Merged = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fit_a_task(self) -> Self:
        """Two classes of one name would make the whole record unreadable."""
        TaskSpec(name="any task", kind="areas", classes=self.classes, mpp=1.0)
        return self


class ClassChange(Record):
    """How an operation changed the classes of its task."""

    before: ClassList
    after: ClassList


class Applying(Record):
    """A committed operation whose chunks may not all be in place yet."""

    op: int = Field(ge=1)
    side: Literal["before", "after"]


class JournalRecord(Record):
    """Which operations are done and which undone (the last one undone comes first to redo)."""

    done: tuple[int, ...] = ()
    undone: tuple[int, ...] = ()
    last: int = Field(default=0, ge=0)
    applying: Applying | None = None


class StoreRecord(Record):
    """Everything under ``gsd``; ``dirty`` holds boxes whose coarser levels must follow."""

    schema_version: Literal[2] = 2
    app_version: str
    store_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    created: str
    slide: SlideRecord
    tasks: dict[TaskName, TaskRecord] = Field(default_factory=dict)
    next_id: int = Field(default=1, ge=1, le=MAX_ID + 1)
    journal: JournalRecord = JournalRecord()
    dirty: dict[TaskName, tuple[Box, ...]] = Field(default_factory=dict)


class OperationRecord(Record):
    """What an operation did: ``boxes`` of the task's grid changed, totals of classes moved.

    ``uid`` is its identity wherever its file is; ``look`` says whether a person has seen
    ``region`` since (or forgotten it again), and is missing in what version 1 wrote.
    """

    what: str
    who: str
    when: str
    task: TaskName
    region: Box
    boxes: tuple[Box, ...]
    model_hash: str | None = None
    pixels: dict[ClassKey, int] = Field(default_factory=dict)
    objects: dict[ClassKey, int] = Field(default_factory=dict)
    uid: str = Field(default="", max_length=64)
    look: Literal["seen", "forgotten", "none"] | None = None
    classes: ClassChange | None = None


def write_record(folder: Path, record: StoreRecord, *, durable: bool = True) -> None:
    """Replace the root record; afterwards the new one holds, before it the old one.

    Raises
    ------
    StoreError
        If the disk refuses; the old record is then still in place.
    """
    with disk_errors(f"save the annotations {folder.name}"):
        replace_file(folder / ROOT_FILE, record_bytes(record), durable=durable)


def record_bytes(record: StoreRecord) -> bytes:
    """The root file that holds a record."""
    root = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"gsd": record.model_dump(mode="json")},
    }
    return json.dumps(root).encode()


def read_record(folder: Path) -> StoreRecord:
    """Read and check the root record; nothing in it is trusted.

    Raises
    ------
    StoreCorruptError
        If it is missing, unreadable or not a record of annotations. The file stays as it is.
    StoreError
        If a newer version wrote it, or the disk refuses.
    """
    path = folder / ROOT_FILE
    if not path.exists():
        raise StoreCorruptError(_damaged(path, "it is missing"))
    values = _root_attributes(path)
    version = values.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"the annotations {folder.name} have version {version}, this program knows versions up "
            f"to {SCHEMA_VERSION}; update napari-genselfdiff"
        )
    try:
        record = StoreRecord.model_validate(migrated(values))
    except ValidationError as err:
        raise StoreCorruptError(_damaged(path, one_line(err))) from err
    except (KeyError, TypeError, AttributeError) as err:
        raise StoreCorruptError(_damaged(path, f"version {version} has no {err}")) from err
    if any(name != task.spec.name for name, task in record.tasks.items()):
        raise StoreCorruptError(_damaged(path, "a task has two names"))
    return record


def upgrade_record(folder: Path) -> int | None:
    """Bring the root record of an older version up to date on disk, a copy of it kept beside it.

    Call with the right to write. Gives the version it had, None if it was of this version already.
    The copy is ``zarr.json.version-N``; the new record comes into place whole.

    Raises
    ------
    StoreCorruptError, StoreError
        As :func:`read_record`; the old record is then still in place.
    """
    path = folder / ROOT_FILE
    record = read_record(folder)
    version = _root_attributes(path).get("schema_version")
    if version == SCHEMA_VERSION:
        return None
    with disk_errors(f"keep a copy of {path.name} in its old form"):
        copy = path.with_name(f"{ROOT_FILE}.version-{version}")
        replace_file(copy, path.read_bytes(), durable=True)
    write_record(folder, record)
    return int(str(version))


def _root_attributes(path: Path) -> dict[str, Any]:
    try:
        with disk_errors(f"read {path}"), path.open("rb") as file:
            text = file.read(MAX_RECORD_BYTES + 1)
        if len(text) > MAX_RECORD_BYTES:
            raise StoreCorruptError(_damaged(path, "it is far too large"))
        root = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise StoreCorruptError(_damaged(path, f"it is not JSON: {err}")) from err
    attributes = root.get("attributes") if isinstance(root, dict) else None
    values = attributes.get("gsd") if isinstance(attributes, dict) else None
    if not isinstance(values, dict):
        raise StoreCorruptError(_damaged(path, "it says nothing of annotations"))
    return values


def _damaged(path: Path, why: str) -> str:
    return (
        f"the annotations {path.parent.name} are damaged ({path.name}: {why}). Nothing was "
        "changed; restore the folder from a backup, or rename it to start anew"
    )
