"""Operations on disk: each is one file with the chunks it replaces and the chunks it writes.

An operation becomes real in this order: its file is complete and on disk; the new chunk files lie
ready beside the old ones; the root record names it (this is the commit); the chunk files are moved
into place, which needs no space. Whatever is interrupted before the commit leaves no trace, and
whatever is interrupted after it is finished from the operation's file when the store is opened.
"""

from __future__ import annotations

import contextlib
import errno
import re
import zipfile
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from pydantic import ValidationError

from napari_genselfdiff.annotation.disk import flush_file, remove_tree, write_file
from napari_genselfdiff.annotation.schema import OperationRecord
from napari_genselfdiff.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from napari_genselfdiff.annotation.files import Files

Side = Literal["before", "after"]
MAX_CHUNK_BYTES = 4 * 2**20  # no chunk of ours is larger, so a header that says so is damaged
MAX_STEPS = 5000  # undo steps kept, whatever their size
_META = "operation.json"
_CHUNK_KEY = re.compile(
    r"(labels/[A-Za-z0-9 _-]+\.(classes|objects|provenance)/0|tables/[A-Za-z0-9 _-]+\.\w+)"
    r"/c(/[0-9]{1,9}){2,3}"
    r"|labels/[A-Za-z0-9 _-]+\.classes/zarr\.json"  # colours and names of the classes
    r"|rois\.json"
)


class ReadyChunks:
    """Chunk files that lie ready on the store's disk; moving them into place needs no space."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._folder = files.writable(f"journal/apply-{uuid4().hex}/0").parent
        self._moves: list[tuple[str, Path, Path | None]] = []
        self._made: set[Path] = set()

    def add(self, key: str, data: bytes | None) -> None:
        """Make a chunk ready; ``None`` means that its file goes away."""
        target, ready = self._files.folder / key, None
        if data is None and self._files.aside is not None:
            data = b""  # it hides the file at home
        if data is not None:
            if target.parent not in self._made:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(target.parent)
            ready = self._folder / str(len(self._moves))
            write_file(ready, data)
        self._moves.append((key, target, ready))

    def install(self) -> None:
        """Move every chunk into place."""
        for key, target, ready in self._moves:
            if ready is None:
                target.unlink(missing_ok=True)
            else:
                ready.replace(target)
            self._files.replaced(key)
        self.remove()

    def remove(self) -> None:
        """Take away what lies ready."""
        remove_tree(self._folder)


class Transaction:
    """An operation being written; :meth:`seal` and :meth:`name`, or nothing.

    Each chunk may be put once.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._partial = files.writable(f"journal/{uuid4().hex}.partial")
        self._sealed = False
        self.ready = ReadyChunks(files)
        self._zip = zipfile.ZipFile(self._partial, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Leave nothing behind unless :meth:`seal` was reached."""
        if kind is not None or not self._sealed:
            self._abandon_zip()
            self.discard()

    def _abandon_zip(self) -> None:
        # Closing writes the directory of the archive, which a full disk refuses again.
        self._zip.mode = "r"
        with contextlib.suppress(OSError):
            self._zip.close()

    def put(self, key: str, data: bytes | None) -> None:
        """Replace a chunk file (``None``: remove it) when the operation is committed."""
        before = self._files.read(key)
        if before == data:
            return
        self._zip.writestr(f"before/{key}", before or b"")
        self._zip.writestr(f"after/{key}", data or b"")
        self.ready.add(key, data)

    def seal(self, meta: OperationRecord) -> None:
        """Complete the operation's file, on the disk itself; it is not committed yet."""
        self._zip.writestr(_META, meta.model_dump_json())
        self._zip.close()
        flush_file(self._partial)
        self._sealed = True

    def name(self, op_id: int) -> None:
        """Give the sealed operation its number, under which the record is going to name it."""
        self._partial.replace(operation_path(self._files.folder, op_id))

    def discard(self) -> None:
        """Take away what was written, if it has no number yet."""
        self.ready.remove()
        self._partial.unlink(missing_ok=True)


class Journal:
    """The operations of a store on disk.

    Parameters
    ----------
    files
        Files of the store.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._sizes: dict[int, int] = {}  # bytes of each operation's file, looked up once

    def begin(self) -> Transaction:
        """Start an operation."""
        return Transaction(self._files)

    def describe(self, op_id: int) -> OperationRecord:
        """What an operation was; StoreCorruptError if its file is damaged."""
        with self._opened(op_id) as archive:
            return OperationRecord.model_validate_json(_member(archive, _META, 64 * 2**20))

    def ready(self, op_id: int, side: Side) -> ReadyChunks:
        """Make one side of an operation ready to be moved into place."""
        ready = ReadyChunks(self._files)
        try:
            with self._opened(op_id) as archive:
                for key in _keys(archive, side):
                    ready.add(key, _member(archive, f"{side}/{key}") or None)
        except BaseException:
            ready.remove()
            raise
        return ready

    def restore(self, sides: Iterable[tuple[int, Side]]) -> list[str]:
        """Put back chunks that differ from what the first of these that has them says; their names.

        Parameters
        ----------
        sides
            Operations with the side of each that should be on disk, those first that count most.
        """
        seen: set[str] = set()
        ready, repaired = ReadyChunks(self._files), []
        try:
            for op_id, side in sides:
                with self._opened(op_id) as archive:
                    for key in _keys(archive, side):
                        if key in seen:
                            continue
                        seen.add(key)
                        data = _member(archive, f"{side}/{key}") or None
                        if self._files.read(key) != data:
                            ready.add(key, data)
                            repaired.append(key)
            ready.install()
        finally:
            ready.remove()
        return repaired

    def sides(self, op_id: int, name: str) -> Iterator[tuple[str, bytes | None, bytes | None]]:
        """Name, bytes before and bytes after of every chunk of an operation below ``name``.

        StoreCorruptError if its file is damaged.
        """
        with self._opened(op_id) as archive:
            for key in _keys(archive, "before"):
                if key.startswith(name):
                    before = _member(archive, f"before/{key}") or None
                    yield key, before, _member(archive, f"after/{key}") or None

    def keys(self, op_id: int) -> list[str]:
        """Names of the chunks an operation changed; StoreCorruptError if its file is damaged."""
        with self._opened(op_id) as archive:
            return _keys(archive, "before")

    def side(self, op_id: int, side: Side, key: str) -> bytes | None:
        """Bytes of a chunk before or after an operation; errors as for :meth:`keys`."""
        with self._opened(op_id) as archive:
            return _member(archive, f"{side}/{key}") or None

    def clean(self, keep: Iterable[int]) -> None:
        """Remove everything but the files of these operations."""
        folder = self._files.folder / "journal"
        names = {f"{op_id:010d}.zip" for op_id in keep}
        if not folder.is_dir():
            return
        for entry in list(folder.iterdir()):
            if entry.name.startswith("apply-"):
                remove_tree(entry)
            elif entry.name not in names:
                entry.unlink(missing_ok=True)

    def over_quota(self, done: tuple[int, ...], quota: int) -> tuple[int, ...]:
        """Oldest of the done operations that must go; the newest is never among them.

        They go once there are more than MAX_STEPS, or more than ``quota`` bytes of them, and then
        a tenth goes at once, so that a user does not hear of it at every step.
        """
        for op_id in done:
            if op_id not in self._sizes:
                path = self.path(op_id)
                self._sizes[op_id] = path.stat().st_size if path.exists() else 0
        total, dropped = sum(self._sizes[op_id] for op_id in done), 0
        if total > quota or len(done) > MAX_STEPS:
            most, steps = 0.9 * quota, 0.9 * MAX_STEPS
            while dropped < len(done) - 1 and (total > most or len(done) - dropped > steps):
                total -= self._sizes[done[dropped]]
                dropped += 1
        return done[:dropped]

    def forget(self, op_ids: Iterable[int]) -> None:
        """Remove the files of operations nobody can undo or redo any more."""
        for op_id in op_ids:
            operation_path(self._files.folder, op_id).unlink(missing_ok=True)

    def path(self, op_id: int) -> Path:
        """File of an operation, to read."""
        return self._files.find(f"journal/{op_id:010d}.zip")

    def _opened(self, op_id: int) -> _OperationFile:
        path = self.path(op_id)
        if self._files.home in path.parents and not self._files.is_there():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(path))
        return _OperationFile(path)


def operation_path(root: Path, op_id: int) -> Path:
    """File of an operation."""
    return root / "journal" / f"{op_id:010d}.zip"


class _OperationFile:
    """Open an operation's file; StoreCorruptError for what is damaged in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> zipfile.ZipFile:
        try:
            self._archive = zipfile.ZipFile(self._path)
        except (FileNotFoundError, zipfile.BadZipFile) as err:
            raise StoreCorruptError(_damaged(self._path, str(err))) from err
        return self._archive

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, _: TracebackType | None
    ) -> None:
        self._archive.close()
        if isinstance(err, zipfile.BadZipFile | ValidationError | KeyError | NotImplementedError):
            raise StoreCorruptError(_damaged(self._path, str(err))) from err


def _damaged(path: Path, why: str) -> str:
    return (
        f"an undo step is damaged ({path.name}: {' '.join(why.split())[:120]}). Undo ends here; "
        "the annotations themselves are as they were"
    )


def _keys(archive: zipfile.ZipFile, side: Side) -> list[str]:
    """Chunk names of one side, none of which leaves the arrays of a store."""
    names = [name for name in archive.namelist() if name.startswith(f"{side}/")]
    keys = [name.removeprefix(f"{side}/") for name in names]
    for key in keys:
        if not _CHUNK_KEY.fullmatch(key):
            raise zipfile.BadZipFile(f"it names a file that is no chunk: {key[:80]!r}")
    return keys


def _member(archive: zipfile.ZipFile, name: str, limit: int = MAX_CHUNK_BYTES) -> bytes:
    if archive.getinfo(name).file_size > limit:
        raise zipfile.BadZipFile(f"{name} is larger than any chunk")
    return archive.read(name)
