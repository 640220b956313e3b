"""Corrections as one file, to refine with on another machine: a zip of plain PNG and JSON.

``bundle.json`` says which task, pixel sizes, slides and model it is about and holds a digest of
the tiles; ``tiles/`` holds what :func:`pack_tiles` writes. A bundle from outside is hostile until
every byte of it is checked.
"""

from __future__ import annotations

import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

import napari_genselfdiff
from napari_genselfdiff.annotation.window import HUMAN
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.learning.corrections import (
    MAX_TILES,
    CorrectionTile,
    class_index,
    merge_tiles,
    pack_tiles,
    read_tiles,
)
from napari_genselfdiff.learning.growing import joined
from napari_genselfdiff.learning.lesson import Asked
from napari_genselfdiff.registry.card import (
    MAX_CARD_BYTES,
    MPP_MAX,
    MPP_MIN,
    ModelName,
    Mpp,
    Record,
    Sha256,
    TaskSpec,
    read_card,
)
from napari_genselfdiff.registry.files import plain_errors
from napari_genselfdiff.registry.folder import data_hash
from napari_genselfdiff.registry.zipped import checked_entries, reading, unpack, writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_genselfdiff.registry.folder import Model

SUFFIX = ".gsd-bundle.zip"
BUNDLE_FILE, TILES = "bundle.json", "tiles"
_MAX_BYTES = 2 * 2**30
_MAX_FILE_BYTES = 32 * 2**20
_MAX_SIDE = 2048  # pixels of a tile; they are cut at 256 with a margin
_MAX_PIXELS = 2**28  # of all tiles together
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal corrections, equal bytes
_UNREADABLE = (  # what decoders and json say of bytes that were not made by them
    OSError, ValueError, SyntaxError, LookupError, TypeError, AttributeError, ArithmeticError,
    EOFError, RecursionError, zlib.error, struct.error,
)  # fmt: skip


class SlideRef(Record):
    """A corrected slide: its identity hash, and its file name if the sender let it out."""

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
    name: Annotated[str, Field(max_length=255)] | None = None


class BundleCard(Record):
    """Contents of ``bundle.json``.

    ``mpp`` is the (smallest, largest) micrometre per pixel of the tiles; ``model`` and
    ``model_hash`` name the model whose predictions were corrected.
    """

    gsd_bundle: Literal[1] = 1
    task: TaskSpec
    mpp: tuple[Mpp, Mpp]
    slides: tuple[SlideRef, ...] = Field(default=(), max_length=MAX_TILES)
    n_tiles: int = Field(ge=1, le=MAX_TILES)
    model: ModelName
    model_hash: Sha256
    data_sha256: Sha256
    created: str = Field(min_length=4, max_length=64)
    app_version: str = Field(min_length=1, max_length=64)
    research_use_only: Literal[True] = True


@dataclass(frozen=True)
class Bundle:
    """Corrected tiles and what is said about them."""

    card: BundleCard
    tiles: list[CorrectionTile]


def write_bundle(
    path: Path,
    tiles: Sequence[CorrectionTile],
    model: Model,
    slides: Sequence[SlideRef],
    task: TaskSpec | None = None,
) -> BundleCard:
    """Write corrected tiles as one file; give what is said in it.

    ``task`` is how they were annotated, if with other classes than the model knows.

    The tiles show tissue. File names of slides, which may name patients, are in it only if
    ``slides`` holds them.

    Raises
    ------
    ConfigError
        If there is nothing a person corrected or accepted.
    """
    known = [tile for tile in tiles if tile.known.any()]
    if not known:
        raise ConfigError(
            "there is nothing to hand over yet; correct something or press Accept view first"
        )
    files = pack_tiles(TILES, known)
    card = BundleCard(
        task=task or model.card.task,
        mpp=(min(tile.mpp for tile in known), max(tile.mpp for tile in known)),
        slides=tuple(slides),
        n_tiles=len(known),
        model=model.card.name,
        model_hash=model.hash,
        data_sha256=data_hash(files),
        created=datetime.now(UTC).date().isoformat(),
        app_version=napari_genselfdiff.__version__,
    )
    with writing(path) as archive:
        for name, data in {BUNDLE_FILE: card.model_dump_json(indent=1).encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return card


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle.

    Raises
    ------
    ModelFileError
        In one line, if the file is no bundle, was altered, or holds more, or other, than tiles
        whose pictures and labels fit each other and the task.
    """
    with (
        plain_errors(f"Reading {path}"),
        tempfile.TemporaryDirectory(prefix="gsd-bundle-") as temporary,
        reading(path, "corrections") as archive,
    ):
        folder = Path(temporary)
        card = _unpacked(path, archive, folder)
        tiles = _read(path, folder / TILES)
    if len(tiles) != card.n_tiles:
        raise ModelFileError(
            f"{path} holds {len(tiles)} tiles where {BUNDLE_FILE} says {card.n_tiles}"
        )
    for tile in tiles:
        _check_tile(path, tile, card.task)
    return Bundle(card, tiles)


def tiles_for(model: Model, bundles: Sequence[Bundle]) -> list[CorrectionTile]:
    """Tiles of several bundles, to refine ``model`` with; a later one replaces an earlier one.

    A bundle may have classes the model does not know; see :func:`asked_in_bundles`. ConfigError if
    it is about another task, with no class in common, or read at a size the model does not know.
    """
    task, (low, high) = model.card.task, model.card.mpp_range
    tiles: list[CorrectionTile] = []
    for bundle in bundles:
        theirs = bundle.card.task
        shared = {spec.value for spec in theirs.classes} & {spec.value for spec in task.classes}
        if (theirs.name, theirs.kind) != (task.name, task.kind) or not shared:
            raise ConfigError(
                f"the corrections are for {_described(theirs)}, the model {model.card.name} for "
                f"{_described(task)}; choose a model of that task with --model"
            )
        finest, coarsest = bundle.card.mpp
        if finest < 0.9 * low or coarsest > 1.1 * high:
            raise ConfigError(
                f"the corrections have {finest:g}-{coarsest:g} µm per pixel, the model "
                f"{model.card.name} works at {low:g}-{high:g}; choose the model they were made with"
            )
        tiles = merge_tiles(tiles, bundle.tiles)
    return tiles


def asked_in_bundles(model: Model, bundles: Sequence[Bundle]) -> Asked:
    """The classes that bundles were annotated with; those the model lacks are learned, too."""
    return Asked(joined(model.card.task, [bundle.card.task for bundle in bundles]), {})


def _described(task: TaskSpec) -> str:
    return f"{task.name} ({task.kind}: {', '.join(spec.name for spec in task.classes)})"


def _unpacked(path: Path, archive: zipfile.ZipFile, folder: Path) -> BundleCard:
    """Unpack card and tiles; nothing else may be in the archive."""
    most = 2 * MAX_TILES + 2
    entries = checked_entries(path, archive, "bundle", most=most, most_bytes=_MAX_BYTES)
    if BUNDLE_FILE not in entries:
        raise ModelFileError(f"{path} holds no {BUNDLE_FILE}, so it is no bundle of corrections")
    unpack(path, archive, entries[BUNDLE_FILE], folder / BUNDLE_FILE, MAX_CARD_BYTES)
    data = (folder / BUNDLE_FILE).read_bytes()
    card = read_card(data, BundleCard, f"{BUNDLE_FILE} in {path}")
    (folder / TILES).mkdir()
    files: dict[str, bytes] = {}
    for name, info in entries.items():
        if name == BUNDLE_FILE:
            continue
        head, _, tail = name.partition("/")
        if head != TILES or "/" in tail or not tail.endswith((".png", ".json")):
            raise ModelFileError(f"{path} holds {name!r}, which no bundle has; not used")
        unpack(path, archive, info, folder / name, _MAX_FILE_BYTES)
        files[name] = (folder / name).read_bytes()
    if data_hash(files) != card.data_sha256:
        raise ModelFileError(f"the tiles in {path} were altered or damaged; ask for it again")
    return card


def _read(path: Path, folder: Path) -> list[CorrectionTile]:
    """Read unpacked tiles; whatever is wrong with them is said of the bundle."""
    try:
        _check_sizes(sorted(folder.glob("*.png")))
        return read_tiles(folder)
    except _UNREADABLE as err:  # ModelFileError is an OSError
        reason = str(err).replace(str(folder), TILES)  # nobody knows where it was unpacked
        raise ModelFileError(f"{path} cannot be used: {reason}") from err


def _check_sizes(pictures: Sequence[Path]) -> None:
    """Believe no header before it is known that what it promises fits into memory."""
    from PIL import Image

    total = 0
    for file in pictures:
        try:
            with Image.open(file, formats=("PNG",)) as picture:
                width, height = picture.size
        except Image.DecompressionBombError as err:
            raise ModelFileError(f"{file.name} is larger than a tile can be") from err
        labels = file.name.endswith(".labels.png")
        if width > _MAX_SIDE or height > (3 if labels else 1) * _MAX_SIDE:
            raise ModelFileError(f"{file.name} has {height} x {width} pixels, more than a tile")
        total += 0 if labels else width * height
    if total > _MAX_PIXELS:
        raise ModelFileError(f"it holds {total} pixels, more than corrections can have")


def _check_tile(path: Path, tile: CorrectionTile, task: TaskSpec) -> None:
    """Refuse values that no editor writes."""
    known = class_index(task) > 0
    known[0] = True
    problem = ""
    if not MPP_MIN <= tile.mpp <= MPP_MAX:  # also false for NaN
        problem = f"{tile.mpp} µm per pixel"
    elif not known[tile.classes].all():
        problem = f"classes that {task.name} does not have"
    elif int(tile.provenance.max()) > HUMAN:
        problem = f"provenance above {HUMAN}"
    elif (tile.objects is None) != (task.kind == "areas"):
        problem = f"{'no ' if tile.objects is None else ''}objects in a task of {task.kind}"
    elif not 0 < len(tile.source) <= 200 or not tile.source.isprintable():
        problem = "a name that cannot be one"
    if problem:
        raise ModelFileError(f"{path}: a tile has {problem}; not used")
