"""Models as zip files. An archive from outside is hostile until every byte of it is checked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from typing import IO, TYPE_CHECKING
from uuid import uuid4

from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.registry.card import MAX_CARD_BYTES, ModelCard, read_card
from napari_genselfdiff.registry.files import MAX_EXTRA_BYTES, MAX_WEIGHTS_BYTES, plain_errors
from napari_genselfdiff.registry.folder import CARD_FILE, CORRECTIONS, WEIGHTS_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.registry.folder import Model

MAX_ENTRIES = 5000
_MAX_TOTAL_BYTES = MAX_WEIGHTS_BYTES + 2**30
_BLOCK = 2**20
_KNOWN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def write_archive(model: Model, path: Path, *, corrections: bool) -> None:
    """Write card, weights and extra files; correction tiles show tissue, so only if asked."""
    kept = {
        name: digest
        for name, digest in model.card.files.items()
        if corrections or not name.startswith(f"{CORRECTIONS}/")
    }
    card = model.card.model_copy(update={"files": kept})
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    with plain_errors(f"Writing {path}"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(CARD_FILE, card.to_json())
                for name in (WEIGHTS_FILE, *kept):
                    archive.write(model.path / name, name)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read_archive(path: Path, folder: Path) -> None:
    """Unpack a model into an empty folder: its card and what the card lists, nothing else.

    ModelFileError for anything that is no plain model: paths that lead outside, links, files the
    card does not list, and sizes above what a model can have, whatever the headers say.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(path, archive)
            _unpack(path, archive, entries, folder)
    except FileNotFoundError as err:
        raise ModelFileError(f"{path} does not exist; give a zip file of a model") from err
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as err:
        raise ModelFileError(f"{path} is no readable zip file: {err}; export it again") from err


def _checked_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Files by name, without the one folder that zipping a folder by hand puts around them."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_ENTRIES:
        raise ModelFileError(f"{path} holds {len(infos)} files, more than any model; not imported")
    if sum(info.file_size for info in infos) > _MAX_TOTAL_BYTES:
        raise ModelFileError(f"{path} would unpack to more than a model can have; not imported")
    for info in infos:
        _check_entry(path, info)
    top = {info.filename.partition("/")[0] for info in infos}
    prefix = f"{next(iter(top))}/" if len(top) == 1 else ""
    entries = {info.filename.removeprefix(prefix): info for info in infos}
    if len(entries) < len(infos):
        raise ModelFileError(f"{path} holds two files of one name; not imported")
    return entries


def _check_entry(path: Path, info: zipfile.ZipInfo) -> None:
    name, mode = info.filename, info.external_attr >> 16
    parts = name.split("/")
    if "\\" in name or ":" in name or "" in parts or ".." in parts or "." in parts:
        raise ModelFileError(f"{path} holds {name!r}, which leads outside; not imported")
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ModelFileError(f"{path} holds the link or device {name!r}; not imported")
    if info.flag_bits & 0x1 or info.compress_type not in _KNOWN_METHODS:
        raise ModelFileError(f"{path} is encrypted or packed in an unknown way; export it again")


def _unpack(
    path: Path, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], folder: Path
) -> None:
    for name in (CARD_FILE, WEIGHTS_FILE):
        if name not in entries:
            raise ModelFileError(f"{path} holds no {name}, so it is no model; not imported")
    _copy(path, archive, entries[CARD_FILE], folder / CARD_FILE, MAX_CARD_BYTES)
    data = (folder / CARD_FILE).read_bytes()
    card = read_card(data, ModelCard, f"{CARD_FILE} in {path}")
    listed = {CARD_FILE, WEIGHTS_FILE, *card.files}
    foreign = sorted(entries.keys() - listed)
    if foreign:
        raise ModelFileError(
            f"{path} holds {foreign[0]!r}, which its {CARD_FILE} does not list; not imported"
        )
    for name, info in entries.items():
        if name != CARD_FILE:
            limit = MAX_WEIGHTS_BYTES if name == WEIGHTS_FILE else MAX_EXTRA_BYTES
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _copy(path, archive, info, folder / name, limit)


def _copy(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, limit: int
) -> None:
    """Unpack one file, counting what really comes out: a header may lie about its size."""
    limit = min(limit, info.file_size)
    written = 0
    source: IO[bytes]
    with archive.open(info) as source, target.open("xb") as file:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > limit:
                raise ModelFileError(f"{path}: {info.filename!r} is too large; not imported")
            file.write(block)
