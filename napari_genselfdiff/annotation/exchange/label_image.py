"""Label images (OME-TIFF, TIFF, PNG) drawn into a task, block by block."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_genselfdiff.annotation.labelling import compact
from napari_genselfdiff.annotation.window import HUMAN, Window
from napari_genselfdiff.errors import ConfigError, ExchangeError, GenSelfDiffError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.metadata import ome_mpp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore

MAX_PNG = 2**28  # pixels of a picture that can only be read whole
MAX_OBJECTS = 2**23
_BLOCK = 2048
_PNG = b"\x89PNG"
_OFFSET = re.compile(r'<M K="offset">\[(\d{1,9}), (\d{1,9})\]</M>')  # (x, y), as we write it


def read_label_image(
    path: Path,
    store: AnnotationStore,
    task_name: str,
    *,
    classes: Mapping[str, str | None] | None = None,
) -> int:
    """Draw an image of numbers over the whole slide into a task, as one step that can be undone.

    The image begins at the slide's corner and has a pixel for every ``d`` x ``d`` level-0 pixels,
    ``d`` being a whole number; our own files may say that they begin at the corner of the slide's
    bounds, as QuPath crops it. For tasks of objects every number above 0 is an object; for areas
    the number is the class's. 0 says nothing: what is there stays. Everything drawn is HUMAN.

    Parameters
    ----------
    classes
        Names of the task's classes by number as text, such as ``{"3": "Tumour"}``; None leaves a
        number out. For objects ``{"": name}`` names the class of all.

    Returns
    -------
    int
        Objects drawn; for areas, classes.

    Raises
    ------
    ConfigError
        If the task or a class is unknown.
    ExchangeError
        If the file is no such image or does not fit the slide; nothing has changed.
    StoreError
        If the annotations cannot be written.
    """
    if task_name not in store.tasks:
        raise ConfigError(f"no task {task_name!r} to import into, only {sorted(store.tasks)}")
    with _opened(path) as image:
        place = _place(image, store, path.name)
        used = _used(image)
        if not used:
            raise ExchangeError(f"{path.name} is 0 everywhere; there is nothing to import")
        table = _Table(store, task_name, used, dict(classes or {}))
        if not table.known:
            raise ExchangeError(
                f"{path.name} has the numbers {_some(used)}, none of which is a class of "
                f"{task_name}; say which is which"
            )
        windows = _windows(image, store, task_name, place, table)
        region = Region(0, 0, *store.shape(task_name))
        store.write_blocks(task_name, windows, region=region, what=f"Import {path.name}")
    if table.left_out:
        left = f"numbers that are no class of {task_name} were left out: {_some(table.left_out)}"
        store.events.notice.emit(f"Imported {path.name}; {left}.")
    return table.known


class _Table:
    """What each number of the image becomes."""

    def __init__(
        self,
        store: AnnotationStore,
        task_name: str,
        used: list[int],
        names: dict[str, str | None],
    ) -> None:
        task = store.tasks[task_name]
        by_name = {spec.name.casefold(): spec.value for spec in task.classes}
        for name in names.values():
            if name is not None and name.casefold() not in by_name:
                raise ConfigError(f"{task_name} has no class {name!r}, only {sorted(by_name)}")
        self.numbers = np.array(used, np.uint32)
        self.has_objects = task.kind == "objects"
        everything = names.get("", task.classes[0].name)
        own = {spec.value: spec.name for spec in task.classes}
        values = []
        for number in used:
            usual = everything if self.has_objects else own.get(number)
            name = names.get(str(number), usual)
            values.append(0 if name is None else by_name[name.casefold()])
        self.values = np.array(values, np.uint8)
        self.known = int((self.values > 0).sum())
        self.left_out = [n for n, value in zip(used, values, strict=True) if not value]
        first = store.new_ids(self.known) if self.has_objects and self.known else 0
        ids = np.cumsum(self.values > 0) - 1 + first
        self.ids = np.where(self.values > 0, ids, 0).astype(np.uint32)

    def draw(self, window: Window, numbers: NDArray[np.uint32]) -> None:
        """Put what the numbers say into a window of their size."""
        found, codes = compact(numbers)
        at = np.clip(np.searchsorted(self.numbers, found), 0, len(self.numbers) - 1)
        known = self.numbers[at] == found
        values = np.where(known, self.values[at], 0)[codes].astype(np.uint8)
        drawn = values > 0
        window.classes[drawn] = values[drawn]
        window.provenance[drawn] = HUMAN
        if window.objects is not None:
            window.objects[drawn] = self.ids[at][codes][drawn]


def _windows(
    image: Any, store: AnnotationStore, task_name: str, place: _Place, table: _Table
) -> Iterator[Window]:
    """Blocks of the task's grid with the image drawn into them, nearest neighbour."""
    height, width = store.shape(task_name)
    downsample = store.downsample(task_name)
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _BLOCK):
            inside, places = [], []
            for first, limit, axis in ((y, height, 0), (x, width, 1)):
                centres = (np.arange(first, min(first + _BLOCK, limit)) + 0.5) * downsample
                at = np.floor((centres - place.corner[axis]) / place.size).astype(np.int64)
                if not place.is_cropped:  # the slide's last pixels may be less than one
                    at = np.minimum(at, image.shape[axis] - 1)
                inside.append((at >= 0) & (at < image.shape[axis]))
                places.append(at[inside[-1]])
            rows, columns = places
            if not (len(rows) and len(columns)):
                continue
            box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            if not box.any():
                continue
            window = store.read(task_name, Region(y, x, _BLOCK, _BLOCK))
            taken = np.zeros((len(inside[0]), len(inside[1])), np.uint32)
            taken[np.ix_(*inside)] = box[np.ix_(rows - rows[0], columns - columns[0])]
            table.draw(window, taken)
            yield window


class _Place(NamedTuple):
    """Where an image lies: level-0 pixels a side of one of its own, and its corner (y, x)."""

    size: int
    corner: tuple[int, int]

    @property
    def is_cropped(self) -> bool:
        return self.corner != (0, 0)


class _Tiff:
    """First page of a TIFF file, decoded where it is looked at; ``about`` is its OME-XML."""

    def __init__(self, array: Any, about: str) -> None:
        self.about = about
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype, self._array = np.dtype(array.dtype), array

    def __getitem__(self, index: tuple[slice, slice]) -> NDArray[Any]:
        return np.asarray(self._array[index])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Image (h, w) of whole numbers; whatever is wrong with it is one error."""
    from napari_genselfdiff.slides.tiff_level import TIFF_ERRORS

    try:
        with path.open("rb") as file:
            head = file.read(4)
        with _picture(path) if head == _PNG else _tiff(path) as image:
            kind = image.dtype.kind
            if len(image.shape) != 2 or kind not in "bu" or image.dtype.itemsize > 4:
                raise ExchangeError(
                    f"{path.name} holds {tuple(image.shape)} of {image.dtype}; "
                    "one plane of unsigned whole numbers is needed"
                )
            yield image
    # type: damaged files raise what their broken values lead to
    except (*TIFF_ERRORS, OSError, SyntaxError) as err:
        if isinstance(err, GenSelfDiffError):
            raise
        text = " ".join(str(err).split()) or type(err).__name__
        raise ExchangeError(f"{path.name} is not a usable label image: {text}") from err


@contextmanager
def _tiff(path: Path) -> Iterator[_Tiff]:
    import tifffile
    import zarr

    with tifffile.TiffFile(path) as tif:
        page: Any = tif.pages.first
        _check_size(page, path)
        with page.aszarr() as store:
            yield _Tiff(zarr.open_array(store, mode="r"), str(tif.ome_metadata or ""))


def _check_size(page: Any, path: Path) -> None:
    """Refuse headers that promise more than the file can hold."""
    if sum(page.databytecounts) > path.stat().st_size or not page.databytecounts:
        raise ExchangeError(f"{path.name} is cut short; copy it again")
    if math.prod(page.chunks) > MAX_PNG:
        raise ExchangeError(f"{path.name} has tiles of {page.chunks}; save it with smaller ones")


@contextmanager
def _picture(path: Path) -> Iterator[NDArray[Any]]:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        if image.width * image.height > MAX_PNG:
            raise ExchangeError(f"{path.name} is too large for a PNG; save it as a tiled TIFF")
        pixels = np.asarray(image)
    yield pixels.astype(np.uint32) if pixels.dtype.kind == "i" else pixels


def _place(image: Any, store: AnnotationStore, name: str) -> _Place:
    """Where the image lies: on the whole slide, or where our own file says."""
    slide = store.slide.height, store.slide.width
    about = getattr(image, "about", "")
    stated = _OFFSET.search(about)
    corner = (int(stated[2]), int(stated[1])) if stated else (0, 0)
    if corner == (0, 0):
        return _Place(_pixel(image.shape, slide, name), corner)
    size = round((ome_mpp(about, image.shape) or 0.0) / store.mpp)
    fits = [
        first + size * (have - 1) < full
        for first, have, full in zip(corner, image.shape, slide, strict=True)
    ]
    if size < 1 or not all(fits):
        raise ExchangeError(
            f"{name} says that it begins at {corner} of the slide and has {image.shape[0]} x "
            f"{image.shape[1]} pixels, which the slide of {slide[0]} x {slide[1]} has no room for"
        )
    return _Place(size, corner)


def _pixel(shape: tuple[int, int], slide: tuple[int, int], name: str) -> int:
    """Level-0 pixels a side of one pixel of the image."""
    size = max(round(slide[0] / shape[0]), round(slide[1] / shape[1]), 1)
    for candidate in (size, size + 1, size - 1):
        if candidate > 0 and all(
            have in (-(-full // candidate), full // candidate)
            for have, full in zip(shape, slide, strict=True)
        ):
            return candidate
    raise ExchangeError(
        f"{name} has {shape[0]} x {shape[1]} pixels and the slide {slide[0]} x {slide[1]}; "
        "an image of the whole slide is needed, its size divided by a whole number"
    )


def _used(image: Any) -> list[int]:
    """Numbers above 0 in ascending order."""
    found: set[int] = set()
    for y in range(0, image.shape[0], _BLOCK):
        for x in range(0, image.shape[1], _BLOCK):
            part = np.unique(image[y : y + _BLOCK, x : x + _BLOCK])
            found.update(part[part > 0].tolist())
            if len(found) > MAX_OBJECTS:
                raise ExchangeError(f"more than {MAX_OBJECTS:,} different numbers in one image")
    return sorted(int(n) for n in found)


def _some(numbers: list[int]) -> str:
    more = ", …" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more
