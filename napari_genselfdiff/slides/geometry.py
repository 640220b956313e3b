"""Rectangles and grids: whole-pixel regions in (y, x), half-open, and how grids map to level 0.

The grid with downsample ``d`` starts at the slide's origin; its pixel ``i`` covers the level-0
interval ``[i * d, (i + 1) * d)``. ``d = 1`` is level 0 itself, ``d < 1`` is finer than the slide.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from napari_genselfdiff.errors import ConfigError

_SLACK = 1e-6  # share of a pixel that is rounding error of a division, not a real overlap


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in the pixels of one grid (level 0 unless stated otherwise), half-open.

    Parameters
    ----------
    y, x
        First row and column; may be negative (outside the slide).
    height, width
        At least 1.

    Raises
    ------
    ConfigError
        If a value is not a whole number or the rectangle is empty.
    """

    y: int
    x: int
    height: int
    width: int

    def __post_init__(self) -> None:
        """Turn numpy integers into plain ones and refuse what is no rectangle."""
        for name in ("y", "x", "height", "width"):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, operator.index(value))
            except TypeError as error:
                message = f"region {name} is {value!r}; a whole number of pixels is needed"
                raise ConfigError(message) from error
        if self.height < 1 or self.width < 1:
            raise ConfigError(
                f"region of {self.height} x {self.width} pixels; at least 1 x 1 is needed"
            )

    @property
    def y1(self) -> int:
        """Row after the last one."""
        return self.y + self.height

    @property
    def x1(self) -> int:
        """Column after the last one."""
        return self.x + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index an array of this grid; only for regions that do not start before its origin."""
        if self.y < 0 or self.x < 0:
            raise ConfigError(f"{self} starts before the array; clip it first")
        return slice(self.y, self.y1), slice(self.x, self.x1)

    @classmethod
    def from_bounds(cls, y: int, x: int, y1: int, x1: int) -> Region:
        """Region from its first row and column and the ones after the last."""
        return cls(y, x, y1 - y, x1 - x)

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``"Y,X,H,W"``, as written on the command line.

        Raises
        ------
        ConfigError
            If the text is anything else.
        """
        try:
            y, x, height, width = (int(part) for part in text.split(","))
        except ValueError as error:
            message = f"region {text!r}; four whole numbers Y,X,H,W (level-0 pixels) are needed"
            raise ConfigError(message) from error
        return cls(y, x, height, width)

    def intersection(self, other: Region) -> Region | None:
        """Give the common part, or None where there is none."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        y1, x1 = min(self.y1, other.y1), min(self.x1, other.x1)
        if y1 <= y or x1 <= x:
            return None
        return Region.from_bounds(y, x, y1, x1)

    def clipped(self, shape: tuple[int, int]) -> Region | None:
        """Give the part inside an array of this shape, or None where there is none."""
        return self.intersection(Region(0, 0, *shape)) if min(shape) > 0 else None

    def contains(self, other: Region) -> bool:
        """Tell whether every pixel of ``other`` is in this region."""
        return self.intersection(other) == other

    def padded(self, margin: int) -> Region:
        """Grow by ``margin`` pixels on every side (shrink if negative)."""
        return Region.from_bounds(
            self.y - margin, self.x - margin, self.y1 + margin, self.x1 + margin
        )

    def shifted(self, dy: int, dx: int) -> Region:
        """Move by ``dy`` rows and ``dx`` columns."""
        return Region(self.y + dy, self.x + dx, self.height, self.width)

    def to_grid(self, downsample: float) -> Region:
        """Map a level-0 region to the smallest region of the grid that covers it."""
        return self._scaled(1 / _checked(downsample))

    def from_grid(self, downsample: float) -> Region:
        """Map a region of the grid to the smallest level-0 region that covers it."""
        return self._scaled(_checked(downsample))

    def _scaled(self, factor: float) -> Region:
        y, x = _floor(self.y * factor), _floor(self.x * factor)
        y1 = max(_ceil(self.y1 * factor), y + 1)
        x1 = max(_ceil(self.x1 * factor), x + 1)
        return Region.from_bounds(y, x, y1, x1)


def grid_shape(shape0: tuple[int, int], downsample: float) -> tuple[int, int]:
    """Shape of the grid with this downsample that covers a level 0 of shape ``shape0``."""
    factor = 1 / _checked(downsample)
    return max(_ceil(shape0[0] * factor), 1), max(_ceil(shape0[1] * factor), 1)


def _checked(downsample: float) -> float:
    if not (math.isfinite(downsample) and downsample > 0):
        raise ConfigError(f"downsample {downsample!r}; a finite number above 0 is needed")
    return float(downsample)


def _floor(value: float) -> int:
    return math.floor(value + _SLACK)


def _ceil(value: float) -> int:
    return math.ceil(value - _SLACK)
