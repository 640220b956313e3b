"""Regions of interest: named outlines on the slide in which something is measured.

Points are (y, x) level-0 pixels, pixel i is centred on i; shapes are in pixel corners (x, y), as
everywhere in exchange.
"""

from __future__ import annotations

import json
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import numpy as np
import shapely
from pydantic import Field, ValidationError, model_validator

from napari_genselfdiff.annotation.exchange.outlines import rasterize
from napari_genselfdiff.annotation.paths import outer_parts
from napari_genselfdiff.errors import ConfigError, StoreCorruptError
from napari_genselfdiff.registry.card import Record, one_line
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.paths import Point

ROI_FILE: Final = "rois.json"
ROI_COLOR: Final = "#E69F00"
MAX_ROIS: Final = 200
MAX_POINTS: Final = 50_000
"""Corners of one region of interest."""
MAX_ROI_BYTES: Final = 64 * 2**20
_SAME_PLACE: Final = 0.1  # level-0 pixels; corners are kept to a hundredth

_Place = Annotated[float, Field(ge=-(2.0**31), le=2.0**31, allow_inf_nan=False)]


class Roi(Record):
    """One region of interest."""

    name: str = Field(min_length=1, max_length=64)
    points: tuple[tuple[_Place, _Place], ...] = Field(min_length=3, max_length=MAX_POINTS)

    @cached_property
    def shape(self) -> shapely.MultiPolygon:
        """Everything the outline goes around."""
        return shapely.MultiPolygon(outer_parts(self.points))

    @property
    def region0(self) -> Region:
        """Level-0 rectangle around it; may reach beyond the slide."""
        x, y, x1, y1 = self.shape.bounds
        return Region.from_bounds(
            int(np.floor(y)), int(np.floor(x)), int(np.ceil(y1)), int(np.ceil(x1))
        )

    def area(self, shape0: tuple[int, int]) -> float:
        """Level-0 pixels of its part on a slide of this height and width."""
        height, width = shape0
        x, y, x1, y1 = self.shape.bounds
        if min(x, y) >= 0 and x1 <= width and y1 <= height:
            return float(self.shape.area)
        return float(shapely.intersection(self.shape, shapely.box(0, 0, width, height)).area)

    def holds(self, y0: NDArray[np.float64], x0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of these level-0 places lie inside."""
        shapely.prepare(self.shape)
        return np.asarray(shapely.contains_xy(self.shape, x0 + 0.5, y0 + 0.5), bool)

    def mask(self, block: Region, downsample: float) -> NDArray[np.bool_] | None:
        """Pixels of a block of a grid whose centres lie inside; None if there are none."""
        x, y, x1, y1 = (value * downsample for value in (block.x, block.y, block.x1, block.y1))
        box = shapely.box(x, y, x1, y1)
        shapely.prepare(self.shape)
        if not shapely.intersects(self.shape, box):
            return None
        if shapely.contains(self.shape, box):  # no need to go along every edge
            return np.ones(block.shape, bool)
        rings = [np.asarray(part.exterior.coords) / downsample for part in self.shape.geoms]
        return rasterize(rings, block.y, block.x, block.shape)


class RoiList(Record):
    """What the file of a store holds."""

    schema_version: Literal[1] = 1
    rois: tuple[Roi, ...] = Field(default=(), max_length=MAX_ROIS)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({roi.name.casefold() for roi in self.rois}) < len(self.rois):
            raise ValueError("two regions of interest have one name")
        return self


def read_rois(data: bytes | None) -> tuple[Roi, ...]:
    """Regions of interest of a file; none where there is none.

    Raises
    ------
    StoreCorruptError
        If it holds something else.
    """
    if data is None:
        return ()
    try:
        return RoiList.model_validate(json.loads(data)).rois
    except (ValueError, RecursionError) as err:
        why = one_line(err) if isinstance(err, ValidationError) else str(err)
        raise StoreCorruptError(
            f"the regions of interest are damaged ({ROI_FILE}: {why[:120]}); nothing was changed, "
            "restore the file from a backup or delete it"
        ) from err


def roi_bytes(rois: Sequence[Roi]) -> bytes | None:
    """The file that holds these; None for none.

    Raises
    ------
    ConfigError
        If there are too many, or two have one name.
    """
    if not rois:
        return None
    try:
        return RoiList(rois=tuple(rois)).model_dump_json().encode()
    except ValidationError as err:
        raise ConfigError(f"these regions of interest cannot be kept: {one_line(err)}") from err


def new_roi(name: str, points: Sequence[Point]) -> Roi:
    """Make a region of interest.

    Parameters
    ----------
    name
        1 to 64 characters.
    points
        Corners, (y, x) of level 0. Where the outline crosses itself, every part it goes around
        counts.

    Raises
    ------
    ConfigError
        If the name is not as needed, or the outline encloses nothing or has too many corners.
    """
    places = tuple((round(float(y), 2), round(float(x), 2)) for y, x in points)
    try:
        made = Roi(name=name.strip(), points=places)
    except ValidationError as err:
        raise ConfigError(f"this region of interest cannot be kept: {one_line(err)}") from err
    if made.shape.is_empty or made.shape.area < 1:
        raise ConfigError("this outline encloses nothing; draw around something")
    return made


def free_name(rois: Sequence[Roi]) -> str:
    """A name no region of interest has: "ROI 1", "ROI 2" and so on."""
    taken = {roi.name.casefold() for roi in rois}
    return next(
        name
        for name in (f"ROI {n}" for n in range(1, len(rois) + 2))
        if name.casefold() not in taken
    )


def same_place(a: Roi, b: Roi) -> bool:
    """Whether two have one name, whatever its case, and go around the same.

    Extent, centre and area tell that; laying hostile outlines over each other could take hours.
    """
    if a.name.casefold() != b.name.casefold():
        return False
    one, other = (
        (*shape.bounds, shape.centroid.x, shape.centroid.y, float(np.sqrt(shape.area)))
        for shape in (a.shape, b.shape)
    )
    return all(abs(x - y) <= _SAME_PLACE for x, y in zip(one, other, strict=True))


def beside(rois: Sequence[Roi], roi: Roi) -> Roi:
    """Give it under a name none of these has: its own, else "Front (2)" and so on."""
    taken, name = {other.name.casefold() for other in rois}, roi.name
    number = 2
    while name.casefold() in taken:
        end = f" ({number})"
        name, number = roi.name[: 64 - len(end)].rstrip() + end, number + 1
    return roi if name == roi.name else Roi(name=name, points=roi.points)


def merged_rois(now: Sequence[Roi], before: Sequence[Roi], after: Sequence[Roi]) -> list[Roi]:
    """Make a change, from ``before`` to ``after``, to a list that others changed meanwhile.

    What they changed or removed stays as they left it; what is added under a name of theirs gets
    another one.
    """
    gone = [roi for roi in before if roi not in after]
    made = [roi for roi in after if roi not in before]
    found = list(now)
    for old, new in zip_longest(gone, made):
        if old in found:
            at = found.index(old)
            others = [*found[:at], *found[at + 1 :]]
            found[at : at + 1] = [] if new is None else [beside(others, new)]
        elif old is None and new not in found:
            found.append(beside(found, new))
    return found


def pick_roi(rois: Sequence[Roi], name: str) -> Roi:
    """Give a region of interest by its name, whatever its case.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    found = {roi.name.casefold(): roi for roi in rois}
    if name.strip().casefold() not in found:
        there = ", ".join(roi.name for roi in rois) or "none"
        raise ConfigError(f"there is no region of interest {name!r}; the slide has {there}")
    return found[name.strip().casefold()]
