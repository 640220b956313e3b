"""Corrected tiles: pictures with what a person said about them, on disk as plain PNG and JSON."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_genselfdiff.annotation.class_changes import lookup
from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, UNKNOWN
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.learning.data import ArraySource, Labels
from napari_genselfdiff.learning.targets import distance_target
from napari_genselfdiff.prediction.tiles import model_downsample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.registry.card import ModelCard, TaskSpec
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

INDEX = "tiles.json"
MAX_TILES, _MAX_SIDE = 4096, 4096
BEFORE: Final = 128
"""Added to the channel of pixels that were labelled when the task had fewer classes."""


@dataclass(frozen=True)
class CorrectionTile:
    """A picture and what is known about it.

    ``image`` (h, w, 3) uint8 at ``mpp`` µm/px; ``classes`` (h, w) uint8 class values, 0 =
    background; ``objects`` (h, w) ids or None for areas; ``provenance`` (h, w) uint8, known from
    ACCEPTED on; ``source`` names slide and place, so that a newer tile replaces an older one.
    ``open`` names classes, by value, that accepted pixels could not be told to have, each with
    what it was called instead; it is not kept on disk.
    """

    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    objects: NDArray[np.uint32] | None
    provenance: NDArray[np.uint8]
    mpp: float
    source: str
    open: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.image.shape[:2]
        shapes = [self.classes.shape, self.provenance.shape]
        shapes += [] if self.objects is None else [self.objects.shape]
        if self.image.ndim != 3 or any(other != shape for other in shapes):
            raise ConfigError(
                f"tile {self.source}: image {self.image.shape} and labels {shapes} must cover "
                "the same pixels"
            )

    @property
    def known(self) -> NDArray[np.bool_]:
        """Pixels a person stands behind, background included."""
        return np.asarray(self.provenance >= ACCEPTED)

    @property
    def human(self) -> NDArray[np.bool_]:
        """Pixels a person changed."""
        return np.asarray(self.provenance == HUMAN)


def collect_tiles(
    slide: Slide, store: AnnotationStore, card: ModelCard, *, tile: int = 256, margin: int = 32
) -> list[CorrectionTile]:
    """Every tile of the store that holds known pixels, read at the model's resolution.

    Each tile carries ``margin`` pixels of context around it.
    """
    if slide.mpp is None:
        raise ConfigError("the slide's µm per pixel is unknown; set it in the Slide block first")
    name, shown = card.task.name, slide.in_colors(card.colors)
    step = float(store.downsample(name))
    downsample = model_downsample(slide.mpp, card.mpp_range).downsample
    shape = store.levels(name, "classes")[0].shape
    tiles = []
    for region in store.known_regions(name, tile):
        outer = region.padded(margin).clipped((shape[0], shape[1]))
        if outer is None:
            continue
        window = store.read(name, outer)
        place = outer.from_grid(step).to_grid(downsample)
        image = shown.read(place, downsample)
        source = f"{slide.hash[:16]}:{region.y},{region.x}"
        tiles.append(_tile(image, window, place, downsample / step, slide.mpp * downsample, source))
    return tiles


def merge_tiles(
    older: Sequence[CorrectionTile], newer: Sequence[CorrectionTile]
) -> list[CorrectionTile]:
    """All tiles, a newer one in place of an older one of the same source."""
    return list({tile.source: tile for tile in (*older, *newer)}.values())


def without(tile: CorrectionTile, pixels: NDArray[np.bool_]) -> CorrectionTile:
    """The tile with these pixels unknown."""
    provenance = np.where(pixels, UNKNOWN, tile.provenance).astype(np.uint8)
    return replace(tile, provenance=provenance)


def relabelled(tiles: Sequence[CorrectionTile], merged: Mapping[int, int]) -> list[CorrectionTile]:
    """Tiles in which classes that were merged have the values they were merged into."""
    if not merged:
        return list(tiles)
    now = lookup(merged)
    return [replace(tile, classes=now[tile.classes]) for tile in tiles]


def to_source(
    tile: CorrectionTile, task: TaskSpec, known: NDArray[np.bool_], weight: float
) -> ArraySource:
    """A training source of the tile in which only ``known`` pixels teach."""
    return ArraySource(tile.image, tile.mpp, labels(tile, task, known), weight=weight)


def labels(tile: CorrectionTile, task: TaskSpec, known: NDArray[np.bool_]) -> Labels:
    """Truth of a tile as the network is to answer, of which only ``known`` pixels count.

    Pixels that leave later classes open have :data:`BEFORE` added.
    """
    objects = tile.objects if tile.objects is not None else tile.classes
    distance = distance_target(np.unique(objects, return_inverse=True)[1].reshape(objects.shape))
    classes = class_index(task)[tile.classes]
    if tile.open:
        classes = np.where(tile.human, classes, classes + BEFORE)
    return Labels(classes.astype(np.uint8), distance, known)


def class_index(task: TaskSpec) -> NDArray[np.int64]:
    """Network output channel of every class value, ``(256,)``; foreign values are background."""
    lookup = np.zeros(256, np.int64)
    for channel, spec in enumerate(task.classes, start=1):
        lookup[spec.value] = channel
    return lookup


def class_values(task: TaskSpec) -> NDArray[np.uint8]:
    """Class value of every network output channel, ``(1 + n_classes,)``."""
    return np.array([0, *(spec.value for spec in task.classes)], np.uint8)


def pack_tiles(
    folder: str, tiles: Sequence[CorrectionTile], *, quality: int | None = None
) -> dict[str, bytes]:
    """Files of a model folder that hold these tiles, by name under ``folder``.

    A tile is one picture (PNG, or JPEG of ``quality`` 1-100) and one 16-bit PNG with classes,
    object numbers and provenance one below the other.
    """
    files: dict[str, bytes] = {}
    index: list[dict[str, Any]] = []
    for number, tile in enumerate(tiles):
        picture = f"{number:04d}.{'png' if quality is None else 'jpg'}"
        labels = f"{number:04d}.labels.png"
        files[f"{folder}/{picture}"] = _encoded(tile.image, quality)
        files[f"{folder}/{labels}"] = _encoded(_stacked(tile))
        entry = {"image": picture, "labels": labels, "mpp": tile.mpp, "source": tile.source}
        index.append({**entry, "objects": tile.objects is not None})
    files[f"{folder}/{INDEX}"] = json.dumps(index, indent=1).encode()
    return files


def read_tiles(folder: Path) -> list[CorrectionTile]:
    """Read what :func:`pack_tiles` packed; an absent folder holds no tiles.

    ModelFileError when a file is missing, oversized or does not fit its neighbours.
    """
    if not folder.exists():
        return []
    try:
        return [_read_tile(folder, entry) for entry in _read_index(folder)]
    except ModelFileError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as err:
        raise ModelFileError(f"the tiles in {folder} cannot be read: {err}") from err


def _read_index(folder: Path) -> list[dict[str, Any]]:
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if not isinstance(index, list) or len(index) > MAX_TILES:
        raise ModelFileError(f"{folder / INDEX} is not a list of up to {MAX_TILES} tiles")
    return index


def _read_tile(folder: Path, entry: dict[str, Any]) -> CorrectionTile:
    image = _decoded(folder, str(entry["image"]))
    stack = _decoded(folder, str(entry["labels"]))
    height, width = image.shape[:2]
    if image.ndim != 3 or stack.shape != (3 * height, width):
        raise ModelFileError(f"{entry['labels']} in {folder} does not fit {entry['image']}")
    classes, objects, provenance = stack.reshape(3, height, width)
    return CorrectionTile(
        image[..., :3].astype(np.uint8),
        classes.astype(np.uint8),
        objects.astype(np.uint32) if entry["objects"] else None,
        provenance.astype(np.uint8),
        float(entry["mpp"]),
        str(entry["source"]),
    )


def _stacked(tile: CorrectionTile) -> NDArray[np.uint16]:
    objects = np.zeros(tile.classes.shape, np.uint16)
    if tile.objects is not None:
        ids, numbered = np.unique(tile.objects, return_inverse=True)
        objects = (numbered.reshape(objects.shape) + (ids[0] > 0)).astype(np.uint16)
    return np.vstack([tile.classes.astype(np.uint16), objects, tile.provenance.astype(np.uint16)])


def _encoded(pixels: NDArray[np.generic], quality: int | None = None) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(pixels).save(buffer, "PNG")
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _decoded(folder: Path, name: str) -> NDArray[np.integer]:
    from PIL import Image

    if Path(name).name != name:
        raise ModelFileError(f"{folder / INDEX} names a file outside of its folder: {name}")
    with Image.open(folder / name, formats=("PNG", "JPEG")) as picture:
        if max(picture.size) > 3 * _MAX_SIDE:
            raise ModelFileError(f"{folder / name} is larger than a tile can be: {picture.size}")
        return np.asarray(picture)


def _tile(
    image: NDArray[np.uint8],
    window: Window,
    place: Region,
    ratio: float,
    mpp: float,
    source: str,
) -> CorrectionTile:
    """Labels of the store's grid brought to the picture's pixels by nearest neighbour."""
    rows = _nearest(place.y, place.height, ratio, window.region.y, window.region.height)
    columns = _nearest(place.x, place.width, ratio, window.region.x, window.region.width)
    grid = np.ix_(rows, columns)
    objects = None if window.objects is None else window.objects[grid]
    return CorrectionTile(
        image, window.classes[grid], objects, window.provenance[grid], mpp, source
    )


def _nearest(start: int, count: int, ratio: float, first: int, size: int) -> NDArray[np.int64]:
    centres = (start + np.arange(count) + 0.5) * ratio
    return np.asarray(np.clip(np.floor(centres).astype(np.int64) - first, 0, size - 1))
