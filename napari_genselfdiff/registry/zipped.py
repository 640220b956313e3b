"""Zip files from outside: hostile until every entry of them is checked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.registry.files import plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 2**20
_KNOWN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def writing(path: Path) -> Iterator[zipfile.ZipFile]:
    """Give an archive that becomes ``path`` when the block ends well, and vanishes otherwise."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    with plain_errors(f"Writing {path}"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                yield archive
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def reading(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive; ModelFileError in one line for what is none, whenever that shows.

    ``what`` names what the file should be, as "a model".
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as err:
        raise ModelFileError(f"{path} does not exist; give a zip file of {what}") from err
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as err:
        raise ModelFileError(f"{path} is no readable zip file: {err}; export it again") from err


def checked_entries(
    path: Path, archive: zipfile.ZipFile, what: str, *, most: int, most_bytes: int
) -> dict[str, zipfile.ZipInfo]:
    """Files by name, without the one folder that zipping a folder by hand puts around them.

    ModelFileError for paths that lead outside, links, encryption, two files of one name, and more
    files or bytes than ``what`` can have.
    """
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > most:
        raise ModelFileError(f"{path} holds {len(infos)} files, more than any {what}; not imported")
    if sum(info.file_size for info in infos) > most_bytes:
        raise ModelFileError(f"{path} would unpack to more than a {what} can have; not imported")
    for info in infos:
        _check_entry(path, info)
    top = {info.filename.partition("/")[0] for info in infos}
    prefix = f"{next(iter(top))}/" if len(top) == 1 else ""
    entries = {info.filename.removeprefix(prefix): info for info in infos}
    if len(entries) < len(infos):
        raise ModelFileError(f"{path} holds two files of one name; not imported")
    return entries


def unpack(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, limit: int
) -> None:
    """Unpack one file, counting what really comes out: a header may lie about its size."""
    limit = min(limit, info.file_size)
    written = 0
    source: IO[bytes]
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, target.open("xb") as file:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > limit:
                raise ModelFileError(f"{path}: {info.filename!r} is too large; not imported")
            file.write(block)


def _check_entry(path: Path, info: zipfile.ZipInfo) -> None:
    name, mode = info.filename, info.external_attr >> 16
    parts = name.split("/")
    if "\\" in name or ":" in name or "" in parts or ".." in parts or "." in parts:
        raise ModelFileError(f"{path} holds {name!r}, which leads outside; not imported")
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ModelFileError(f"{path} holds the link or device {name!r}; not imported")
    if info.flag_bits & 0x1 or info.compress_type not in _KNOWN_METHODS:
        raise ModelFileError(f"{path} is encrypted or packed in an unknown way; export it again")
