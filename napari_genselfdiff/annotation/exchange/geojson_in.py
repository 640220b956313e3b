"""Reading polygons of GeoJSON that anybody may have written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_genselfdiff.annotation.exchange.json_features import read_features
from napari_genselfdiff.annotation.exchange.outlines import rasterize
from napari_genselfdiff.annotation.exchange.roi_in import RoiReader, is_roi
from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN, MODEL, Window
from napari_genselfdiff.errors import ConfigError, ExchangeError
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore

    Feature = tuple[dict[str, Any], Any]

MAX_VERTICES = 50_000_000  # in one file; about 1 GB in memory
_FARTHEST = 2.0**31  # no coordinate of a slide is beyond
_BLOCK = 2048  # pixels of the grid filled at once, whole chunks
_CLASS_KEYS = ("classification", "class", "label", "group")  # the first that is there counts
_NUMBERS = {int, float}
_MOST_LOOKED_AT = 100_000  # vertices of a polygon among which crossings are looked for
_SOURCES = {"model": MODEL, "accepted": ACCEPTED, "human": HUMAN}


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One feature on its way into the store: rings in pixel corners (x, y) of the task's grid."""

    value: int
    source: int
    rings: tuple[NDArray[np.float64], ...]
    box: Region


def read_geojson(
    path: Path,
    store: AnnotationStore,
    task_name: str,
    *,
    offset: tuple[int, int] | None = None,
    classes: Mapping[str, str | None] | None = None,
    features: Iterable[Feature] | None = None,
) -> int:
    """Draw the polygons of a file into a task, as one step that can be undone.

    Regions of interest come back as such, all in a step of their own.

    Pixels whose centres lie inside a polygon get its class; everything else stays. They count as
    HUMAN, because a person chose to import them, unless the file says otherwise in the words of
    :func:`~napari_genselfdiff.annotation.exchange.geojson.write_geojson`. What could not be used
    is counted and said by ``store.events.notice``.

    Parameters
    ----------
    path
        GeoJSON in UTF-8: a FeatureCollection, a list of features or one; may end in ``.gz``.
    offset
        (x, y) level-0 pixels to add, for files in a cropped frame; None takes what the file says.
    classes
        Names of the task's classes by those of the file, whatever their case; ``""`` is the file's
        having none, None leaves a class out. Names not listed stand for themselves.
    features
        What another reader found in the file; None reads it as GeoJSON.

    Returns
    -------
    int
        Number of features drawn.

    Raises
    ------
    ConfigError
        If the task or one of ``classes`` is unknown.
    ExchangeError
        If the file is not GeoJSON or too large; nothing has changed.
    StoreError
        If the annotations cannot be written.
    """
    if task_name not in store.tasks:
        raise ConfigError(f"no task {task_name!r} to import into, only {sorted(store.tasks)}")
    reader = _Reader(store, task_name, classes or {})
    drawn = reader.read(read_features(path) if features is None else features, offset)
    if drawn:
        _draw(store, task_name, drawn, f"Import {path.name}")
    rois = reader.rois.keep(task_name, f"Import regions of {path.name}")
    if not drawn and not rois:
        raise ExchangeError(
            f"{path.name} holds nothing that can be drawn into {task_name} ({reader.said()}). "
            "Choose another file or task"
        )
    if reader.warnings:
        store.events.notice.emit(f"Imported {len(drawn)} shapes; {reader.said()}.")
    return len(drawn)


def stated_class(properties: Any) -> str | None:
    """Name of the class a feature states, in QuPath's words or others'; None if it states none.

    QuPath writes a name, or the names of a derived class, of which the first counts.
    """
    if not isinstance(properties, dict):
        return None
    for key in _CLASS_KEYS:
        stated = properties.get(key)
        if isinstance(stated, dict):
            names = stated.get("names")
            stated = stated.get("name", names[0] if isinstance(names, list) and names else None)
        if isinstance(stated, str) and stated.strip():
            return stated.strip()
    return None


class _Reader:
    def __init__(
        self, store: AnnotationStore, task_name: str, classes: Mapping[str, str | None]
    ) -> None:
        task = store.tasks[task_name]
        self.warnings: Counter[str] = Counter()
        self.rois = RoiReader(store, self.warnings)
        self._values: dict[str, int] = {s.name.casefold(): s.value for s in task.classes}
        self._mapped = {name.casefold(): self._value(to) for name, to in classes.items()}
        self._only = task.classes[0].value if len(task.classes) == 1 else None
        self._downsample, self._grid = store.downsample(task_name), store.shape(task_name)
        self._slide, self._size = store.slide, np.array([store.slide.width, store.slide.height])
        self._vertices = 0

    def said(self) -> str:
        """Everything that could not be used, counted."""
        return "; ".join(f"{n} {what}" for what, n in self.warnings.most_common()) or "no polygons"

    def _value(self, name: str | None) -> int | None:
        """Class of the task by its name; None stays None."""
        if name is None or name.casefold() in self._values:
            return None if name is None else self._values[name.casefold()]
        raise ConfigError(f"the task has no class {name!r}, only {sorted(self._values)}")

    def read(self, features: Iterable[Feature], offset: tuple[int, int] | None) -> list[_Drawn]:
        """Everything that can be drawn; what cannot is counted in ``warnings``."""
        found = []
        shift = offset
        for about, feature in features:
            if shift is None:
                shift = self._frame(about)
            drawn = self._drawn(feature, shift)
            if drawn is not None:
                found.append(drawn)
        return found

    def _frame(self, about: dict[str, Any]) -> tuple[int, int]:
        """Offset the file states, and a warning if it belongs to another slide."""
        if about.get("slide_hash", self._slide.hash) != self._slide.hash:
            self.warnings["file was made for another slide"] += 1
        offset = about.get("offset", [0, 0])
        if (
            not isinstance(offset, list)
            or len(offset) != 2
            or not all(type(n) is int and abs(n) < _FARTHEST for n in offset)
        ):
            raise ExchangeError(f"the file's offset is {offset!r}; two whole numbers are needed")
        return offset[0], offset[1]

    def _drawn(self, feature: Any, shift: tuple[int, int]) -> _Drawn | None:
        if not isinstance(feature, dict) or not isinstance(feature.get("geometry"), dict):
            self.warnings["without a geometry were left out"] += 1
            return None
        if is_roi(feature):
            self.rois.read(feature, shift)
            return None
        value, source = self._meaning(feature.get("properties"))
        if value is None:
            return None
        rings = self._rings(feature["geometry"], shift)
        if rings is None:
            return None
        points = rings[0] if len(rings) == 1 else np.concatenate(rings)
        low, high = np.floor(points.min(axis=0)).tolist(), np.ceil(points.max(axis=0)).tolist()
        (x, y), (x1, y1) = low, high
        y, x, y1, x1 = (int(n) for n in (max(y, 0), max(x, 0), max(y1, y + 1), max(x1, x + 1)))
        y1, x1 = min(y1, self._grid[0]), min(x1, self._grid[1])
        if y1 <= y or x1 <= x:
            self.warnings["outside the slide were left out"] += 1
            return None
        return _Drawn(value, source, rings, Region.from_bounds(y, x, y1, x1))

    def _meaning(self, properties: Any) -> tuple[int | None, int]:
        """Class value and provenance a feature states."""
        properties = properties if isinstance(properties, dict) else {}
        name = stated_class(properties)
        value = self._class(name)
        metadata = properties.get("metadata")
        word = metadata.get("genselfdiff provenance") if isinstance(metadata, dict) else None
        return value, _SOURCES.get(word, HUMAN) if isinstance(word, str) else HUMAN

    def _class(self, name: str | None) -> int | None:
        """Class value of a name; None, counted, to leave the feature out."""
        key = "" if name is None else name.casefold()
        if key in self._mapped:
            if self._mapped[key] is None:
                self.warnings["of a class that was not asked for were left out"] += 1
            return self._mapped[key]
        if key in self._values:
            return self._values[key]
        if self._only is None:
            why = "without a class" if name is None else "of an unknown class"
            self.warnings[f"{why} were left out"] += 1
        elif name is not None:
            self.warnings["of another class were taken as the only one of the task"] += 1
        return self._only

    def _rings(
        self, geometry: dict[str, Any], shift: tuple[int, int]
    ) -> tuple[NDArray[np.float64], ...] | None:
        """All rings of a geometry in pixel corners of the grid; None to leave it out."""
        kind, coordinates = geometry.get("type"), geometry.get("coordinates")
        if kind not in {"Polygon", "MultiPolygon"}:
            self.warnings["that are no polygons were left out"] += 1
            return None
        parts: Any = [coordinates] if kind == "Polygon" else coordinates
        try:
            polygons = [[self._ring(ring) for ring in part] for part in parts]
        except ExchangeError:  # a ValueError as well, but not of one feature
            raise
        except (TypeError, ValueError, OverflowError):
            self.warnings["with unusable coordinates were left out"] += 1
            return None
        rings = [ring for part in polygons for ring in self._valid(part)]
        if not rings:
            self.warnings["without an area were left out"] += 1
            return None
        return tuple(self._on_grid(ring, shift) for ring in rings)

    def _ring(self, values: Any) -> NDArray[np.float64]:
        """(n, 2) finite points of a ring, without a repeated last one."""
        self._vertices += len(values)
        if self._vertices > MAX_VERTICES:
            raise ExchangeError(
                f"more than {MAX_VERTICES:,} vertices in one file; split it into several"
            )
        # Heights, which are not read, may be anything; looking at each number takes far longer.
        if not _NUMBERS.issuperset(map(type, chain.from_iterable(values))) and any(
            type(n) not in _NUMBERS for point in values for n in point[:2]
        ):
            raise ValueError("coordinates are numbers")
        ring = np.array([(point[0], point[1]) for point in values], np.float64)
        if ring.ndim != 2 or len(ring) < 3 or not (np.abs(ring) < _FARTHEST).all():
            raise ValueError("a ring has three finite points or more")
        return ring[:-1] if (ring[0] == ring[-1]).all() else ring

    def _valid(self, part: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Rings of a polygon that encloses anything.

        Rings that cross enclose what lies inside an odd number of them, as they are filled; cutting
        them into pieces that do not cross takes minutes for a star of 200 points.
        """
        if not part or any(len(ring) < 3 for ring in part):
            return []
        polygon = shapely.Polygon(part[0], part[1:])
        if sum(map(len, part)) > _MOST_LOOKED_AT or polygon.is_valid:
            return part if polygon.area > 0 else []
        if shapely.convex_hull(polygon).area <= 0:  # all on one line
            return []
        self.warnings["crossed themselves and were repaired"] += 1
        return part

    def _on_grid(self, ring: NDArray[np.float64], shift: tuple[int, int]) -> NDArray[np.float64]:
        """Ring in pixels of the grid; the slide's edge is the end of the grid's last pixel."""
        level0 = ring + shift
        return np.where(level0 == self._size, self._grid[::-1], level0 / self._downsample)


def _draw(store: AnnotationStore, task_name: str, drawn: list[_Drawn], what: str) -> None:
    """Fill all shapes, block by block; where they overlap the later one is on top."""
    has_objects = store.tasks[task_name].kind == "objects"
    first = store.new_ids(len(drawn)) if has_objects else 0
    by_block: dict[tuple[int, int], list[int]] = {}
    for number, shape in enumerate(drawn):
        box = shape.box
        for row in range(box.y // _BLOCK, -(-box.y1 // _BLOCK)):
            for column in range(box.x // _BLOCK, -(-box.x1 // _BLOCK)):
                by_block.setdefault((row, column), []).append(number)

    def windows() -> Iterator[Window]:
        for row, column in sorted(by_block):
            block = Region(row * _BLOCK, column * _BLOCK, _BLOCK, _BLOCK)
            window = store.read(task_name, block)
            for number in by_block[row, column]:
                _fill(window, drawn[number], first + number)
            yield window

    low = [min(shape.box.y for shape in drawn), min(shape.box.x for shape in drawn)]
    high = [max(shape.box.y1 for shape in drawn), max(shape.box.x1 for shape in drawn)]
    region = Region.from_bounds(*low, *high)
    store.write_blocks(task_name, windows(), region=region, what=what)


def _fill(window: Window, shape: _Drawn, object_id: int) -> None:
    # Plain numbers: half a million rectangles would take longer than what is filled into them.
    box, around = shape.box, window.region
    y, x = max(box.y, around.y), max(box.x, around.x)
    y1, x1 = min(box.y1, around.y1), min(box.x1, around.x1)
    if y1 <= y or x1 <= x:
        return
    inside = rasterize(shape.rings, y, x, (y1 - y, x1 - x))
    part = slice(y - around.y, y1 - around.y), slice(x - around.x, x1 - around.x)
    window.classes[part][inside] = shape.value
    window.provenance[part][inside] = shape.source
    if window.objects is not None:
        window.objects[part][inside] = object_id
