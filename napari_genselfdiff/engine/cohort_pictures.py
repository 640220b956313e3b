"""Pictures of one segmented slide for a report: an overview, a map, fields with outlines."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from napari_genselfdiff.prediction.plan import find_tissue
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.slides.slide import Slide

    Rgb = NDArray[np.uint8]

OVERVIEW, FIELD = 560, 384  # px on paper
_CELL = 64  # px of the task's grid in a cell of the map; more on large slides
_MAX_CELLS = 1024
_BLOCK = 2048
_LINE = np.array((230, 159, 0), np.uint8)  # orange: on no stain of H&E
# Like cividis: readable without colour vision, without pink or red.
_RAMP = np.array([(0, 34, 78), (65, 77, 107), (124, 123, 120), (188, 175, 111), (254, 232, 56)])


def slide_pictures(slide: Slide, store: AnnotationStore, task: str) -> dict[str, bytes]:
    """Draw a slide: ``tissue`` (outlined), ``map`` (share of every place), ``dense``, ``typical``.

    Returns
    -------
    dict
        JPEG files by name; fields are left out where nothing was found.
    """
    tissue = find_tissue(slide)
    overview = _fitted(_outlined(tissue.picture, tissue.mask), OVERVIEW)
    share, known, cell = density(store, task)
    shown = _map_over(_fitted(tissue.picture, OVERVIEW), share, known)
    pictures = {"tissue": _jpeg(overview), "map": _jpeg(shown)}
    for name, place in pick_fields(share, known, max(1, FIELD // cell)).items():
        y, x = (int(v) * cell for v in place)
        pictures[name] = _jpeg(_field(slide, store, task, y, x))
    return pictures


def density(
    store: AnnotationStore, task: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    """Give how much of every cell of a slide is segmented, block by block.

    Returns
    -------
    share, known, cell
        ``(rows, columns)``: share of a class in 0..1, and whether anything is known there; side of
        a cell in pixels of the task's grid.
    """
    shape, cell = store.shape(task), _CELL
    while max(shape) > cell * _MAX_CELLS:
        cell *= 2
    cells = -(-shape[0] // cell), -(-shape[1] // cell)
    share, known = np.zeros(cells, np.float32), np.zeros(cells, bool)
    for block in store.annotated_blocks(task, _BLOCK):
        window = store.read(task, block)
        y, x = block.y // cell, block.x // cell
        for values, into in ((window.classes, share), (window.provenance, known)):
            part = _mean_of_cells(values > 0, cell)
            into[y : y + part.shape[0], x : x + part.shape[1]] = part
    return share, known, cell


def pick_fields(
    share: NDArray[np.float32], known: NDArray[np.bool_], side: int
) -> dict[str, tuple[int, int]]:
    """Cell (row, column) of the upper left corner of the densest and of a typical field.

    Typical is the median of the fields with at least a fifth of the densest one's share.
    """
    rows, columns = share.shape[0] // side, share.shape[1] // side
    if not (rows and columns):
        return {"dense": (0, 0)} if share.any() else {}

    def pooled(values: NDArray[np.float32]) -> NDArray[np.float32]:
        cut = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
        return np.asarray(cut.mean(axis=(1, 3)), np.float32)

    mean, seen = pooled(share), pooled(known.astype(np.float32))
    useful = np.flatnonzero((mean > 0) & (seen > 0.5))
    if useful.size == 0:
        useful = np.flatnonzero(mean > 0)
    if useful.size == 0:
        return {}
    ordered = useful[np.argsort(mean.ravel()[useful], kind="stable")]
    filled = ordered[mean.ravel()[ordered] >= mean.ravel()[ordered[-1]] / 5]
    picks = {"dense": filled[-1]}
    if len(filled) > 1:
        picks["typical"] = filled[(len(filled) - 1) // 2]
    found = {}
    for name, index in picks.items():
        y, x = np.unravel_index(int(index), mean.shape)
        found[name] = (int(y) * side, int(x) * side)
    return found


def _mean_of_cells(values: NDArray[np.bool_], cell: int) -> NDArray[np.float32]:
    rows, columns = (np.arange(0, n, cell) for n in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=np.int32), columns, axis=1)
    heights = np.diff(np.append(rows, values.shape[0]))
    widths = np.diff(np.append(columns, values.shape[1]))
    return np.asarray(sums / np.outer(heights, widths), np.float32)


def _field(slide: Slide, store: AnnotationStore, task: str, y: int, x: int) -> Rgb:
    """A field of the task's grid with its objects outlined."""
    region = Region(y, x, FIELD, FIELD).clipped(store.shape(task))
    if region is None:
        return np.full((FIELD, FIELD, 3), 255, np.uint8)
    image = slide.read(region, store.downsample(task))
    window = store.read(task, region)
    labels = window.classes if window.objects is None else window.objects
    return _outlined(image, labels)


def _outlined(image: Rgb, labels: NDArray[np.generic]) -> Rgb:
    """Draw where labels change, two pixels wide."""
    high = ndimage.maximum_filter(labels.astype(np.int64), 2)
    low = ndimage.minimum_filter(labels.astype(np.int64), 2)
    drawn = image.copy()
    drawn[high != low] = _LINE
    return drawn


def _map_over(picture: Rgb, share: NDArray[np.float32], known: NDArray[np.bool_]) -> Rgb:
    """Colour the picture by the share of each place, where anything is known."""
    size = picture.shape[1], picture.shape[0]
    scaled: NDArray[np.float32] = np.asarray(
        Image.fromarray(share).resize(size, Image.Resampling.BILINEAR)
    )
    where = np.asarray(Image.fromarray(known).resize(size, Image.Resampling.NEAREST))
    top = max(float(np.percentile(share[known], 99)) if known.any() else 0.0, 1e-6)
    level = np.clip(scaled / top, 0, 1) * (len(_RAMP) - 1)
    low = np.minimum(level.astype(int), len(_RAMP) - 2)
    part = (level - low)[..., None]
    colour = _RAMP[low] * (1 - part) + _RAMP[low + 1] * part
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed = np.where(where[..., None], 0.25 * grey + 0.75 * colour, grey)
    return np.asarray(np.clip(mixed, 0, 255), np.uint8)


def _fitted(image: Rgb, side: int) -> Rgb:
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _jpeg(image: Rgb) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()


def tissue_mm2(slide: Slide) -> float | None:
    """Area of the tissue in mm²; None while the size of a pixel is unknown."""
    if slide.mpp is None:
        return None
    tissue = find_tissue(slide)
    shape = grid_shape(slide.shape, tissue.downsample)
    share = float(tissue.mask[: shape[0], : shape[1]].mean())
    return share * slide.shape[0] * slide.shape[1] * (slide.mpp / 1000) ** 2
