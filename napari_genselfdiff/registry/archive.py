"""Models as zip files. An archive from outside is hostile until every byte of it is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.registry.card import (
    MAX_CARD_BYTES,
    BackboneCard,
    ModelCard,
    card_kind,
    read_card,
)
from napari_genselfdiff.registry.files import MAX_EXTRA_BYTES, MAX_WEIGHTS_BYTES
from napari_genselfdiff.registry.folder import CARD_FILE, CORRECTIONS, WEIGHTS_FILE
from napari_genselfdiff.registry.zipped import checked_entries, reading, unpack, writing

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path

    from napari_genselfdiff.registry.card import Card
    from napari_genselfdiff.registry.folder import CardT, Folder

MAX_ENTRIES = 5000
_MAX_TOTAL_BYTES = MAX_WEIGHTS_BYTES + 2**30


def write_archive(model: Folder[CardT], path: Path, *, corrections: bool = False) -> None:
    """Write card, weights and extra files; correction tiles show tissue, so only if asked."""
    kept = {
        name: digest
        for name, digest in model.card.files.items()
        if corrections or not name.startswith(f"{CORRECTIONS}/")
    }
    card = model.card.model_copy(update={"files": kept})
    with writing(path) as archive:
        archive.writestr(CARD_FILE, card.to_json())
        for name in (WEIGHTS_FILE, *kept):
            archive.write(model.path / name, name)


def read_archive(path: Path, folder: Path) -> None:
    """Unpack a model or a backbone into an empty folder: its card and what that lists, no more.

    ModelFileError for anything that is no plain model: paths that lead outside, links, files the
    card does not list, and sizes above what a model can have, whatever the headers say.
    """
    with reading(path, "a model") as archive:
        entries = checked_entries(
            path, archive, "model", most=MAX_ENTRIES, most_bytes=_MAX_TOTAL_BYTES
        )
        _unpack(path, archive, entries, folder)


def _unpack(
    path: Path, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], folder: Path
) -> None:
    for name in (CARD_FILE, WEIGHTS_FILE):
        if name not in entries:
            raise ModelFileError(f"{path} holds no {name}, so it is no model; not imported")
    unpack(path, archive, entries[CARD_FILE], folder / CARD_FILE, MAX_CARD_BYTES)
    data = (folder / CARD_FILE).read_bytes()
    record = BackboneCard if card_kind(data) == "backbone" else ModelCard
    card: Card = read_card(data, record, f"{CARD_FILE} in {path}")
    listed = {CARD_FILE, WEIGHTS_FILE, *card.files}
    foreign = sorted(entries.keys() - listed)
    if foreign:
        raise ModelFileError(
            f"{path} holds {foreign[0]!r}, which its {CARD_FILE} does not list; not imported"
        )
    for name, info in entries.items():
        if name != CARD_FILE:
            limit = MAX_WEIGHTS_BYTES if name == WEIGHTS_FILE else MAX_EXTRA_BYTES
            unpack(path, archive, info, folder / name, limit)
