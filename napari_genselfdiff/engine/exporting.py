"""Exports in a worker: what is written, how far it is, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.errors import SlideError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from napari_genselfdiff.annotation.exchange.origin import Frame
    from napari_genselfdiff.annotation.object_table import ObjectTable
    from napari_genselfdiff.annotation.schema import StoreRecord
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.engine.tasks import Context
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

_TELL_S = 0.1  # between two words on how far it is


@dataclass(frozen=True, slots=True)
class Moment:
    """Annotations as they were at one moment; see ``HeldStore.open_then``."""

    store: Path
    record: StoreRecord
    aside: Path | None

    @classmethod
    def of(cls, store: AnnotationStore) -> Moment:
        """Of annotations as they are now."""
        return cls(store.path, store.moment(), store.files.aside)

    def open(self) -> AnnotationStore:
        """Open them to read."""
        from napari_genselfdiff.annotation.store import AnnotationStore

        return AnnotationStore.open_then(self.store, self.record, self.aside)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is exported to a file of whatever kind its name asks for; as for ``export_file``.

    ``mpp`` is what the user stated of the slide, None where the slide says it itself.
    """

    path: Path
    moment: Moment
    task: str
    slide: Path
    mpp: float | None
    frame: Frame = "level0"
    bounds: Region | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Rows of a table that was measured already, to be written as CSV or Parquet."""

    path: Path
    moment: Moment
    task: str
    table: ObjectTable


@dataclass(frozen=True, slots=True)
class ExportDone:
    """How far it is, 0..1, and the expected rest in seconds."""

    share: float
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, such as "12 shapes"; ``slide_problem`` tells why stains are left out."""

    written: str
    slide_problem: str = ""


def export(context: Context, request: ExportRequest) -> Generator[Any, None, Exported | None]:
    """Export annotations; tells ExportDone, returns Exported."""
    from napari_genselfdiff.annotation.exchange.outgoing import export_file, export_kind

    yield from ()
    slide, problem = None, ""
    if export_kind(request.path) != "labels":
        slide, problem = _slide(context, request)
    try:
        written = export_file(
            request.moment.open(),
            request.task,
            request.path,
            frame=request.frame,
            bounds=request.bounds,
            slide=slide,
            provenance=request.provenance,
            watch=_watch(context),
        )
    except StoppedError:
        return None
    return Exported(written, problem)


def export_list(context: Context, request: ListRequest) -> Generator[Any, None, Exported | None]:
    """Write rows that were measured; tells ExportDone, returns Exported."""
    import numpy as np

    from napari_genselfdiff.annotation.exchange.origin import origin
    from napari_genselfdiff.annotation.exchange.table import write_rows
    from napari_genselfdiff.annotation.exchange.watching import watched

    yield from ()
    store, table = request.moment.open(), request.table
    pieces = np.array_split(np.arange(len(table)), len(table) // 5000 + 1)
    tables = (table.chosen(rows) for rows in watched(pieces, _watch(context)))
    try:
        number = write_rows(store, tables, request.path, origin(store, request.task))
    except StoppedError:
        return None
    return Exported(f"{number:,} row{'' if number == 1 else 's'}")


def _slide(context: Context, request: ExportRequest) -> tuple[Slide | None, str]:
    """The slide in its stored colours, on which stains are measured; or why it cannot be read."""
    try:
        slide = context.slide(request.slide, request.mpp)
    except SlideError as err:
        return None, str(err)
    if slide.hash != request.moment.record.slide.hash:
        return None, f"{request.slide.name} is another slide now"
    return slide, ""


def _watch(context: Context) -> Callable[[float], None]:
    """Give what tells how far it is, now and then, and stops when that is asked for."""
    began, told = time.perf_counter(), 0.0

    def watch(share: float) -> None:
        nonlocal told
        if context.should_stop():
            raise StoppedError("the export was stopped")
        spent = time.perf_counter() - began
        if spent - told >= _TELL_S:
            told = spent
            context.tell(ExportDone(share, spent / share * (1 - share) if share else None))

    return watch
