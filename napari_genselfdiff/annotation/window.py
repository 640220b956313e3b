"""Annotations of a rectangle in memory, and the records of what was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_genselfdiff.slides.geometry import Region

# What is known of a pixel and from whom. From ACCEPTED on a person stands behind it.
UNKNOWN: Final = 0
MODEL: Final = 1
ACCEPTED: Final = 2
HUMAN: Final = 3


@dataclass
class Window:
    """One task's annotations of a rectangle.

    Parameters
    ----------
    region
        Rectangle in pixels of the task's grid.
    classes
        (h, w) uint8, 0 = background, 1..255 classes.
    objects
        (h, w) uint32, 0 = no object, else the object's id; None for tasks of kind areas.
    provenance
        (h, w) uint8: UNKNOWN, MODEL, ACCEPTED or HUMAN.
    confidences
        By object id, how sure the model that made it was, 0..1; given with predictions only.
    """

    region: Region
    classes: NDArray[np.uint8]
    objects: NDArray[np.uint32] | None
    provenance: NDArray[np.uint8]
    confidences: Mapping[int, float] = field(default_factory=dict)

    @property
    def ids(self) -> NDArray[np.uint32]:
        """Object ids; ConfigError for a window of areas, which has none."""
        if self.objects is None:
            raise ConfigError("a window of areas has no objects")
        return self.objects

    def copy(self) -> Window:
        """Give a window with its own arrays."""
        objects = None if self.objects is None else self.objects.copy()
        arrays = self.classes.copy(), objects, self.provenance.copy()
        return Window(self.region, *arrays, self.confidences)

    def cropped(self, region: Region) -> Window:
        """Views of the part in ``region``, which must lie inside."""
        if not self.region.contains(region):
            raise ConfigError(f"{region} is not inside the window {self.region}")
        part = region.shifted(-self.region.y, -self.region.x).slices
        objects = None if self.objects is None else self.objects[part]
        return Window(region, self.classes[part], objects, self.provenance[part], self.confidences)

    def checked(self, has_objects: bool) -> Window:
        """Give the window with the dtypes of the store.

        Raises
        ------
        ConfigError
            If an array has another shape than the region, holds what the store cannot, or objects
            are missing (or given for areas).
        """
        if has_objects != (self.objects is not None):
            raise ConfigError(
                "a task of objects needs the object ids of a window"
                if has_objects
                else "a task of areas stores no object ids; leave them out"
            )
        objects = None if self.objects is None else self._as("objects", self.objects, np.uint32)
        provenance = self._as("provenance", self.provenance, np.uint8)
        if provenance.size and int(provenance.max()) > HUMAN:
            raise ConfigError(f"provenance {provenance.max()} in a window; 0..3 is needed")
        classes = self._as("classes", self.classes, np.uint8)
        return Window(self.region, classes, objects, provenance, self.confidences)

    def _as(self, name: str, array: NDArray[np.generic], dtype: type) -> NDArray:  # type: ignore[type-arg]
        values = np.asarray(array)
        if values.shape != self.region.shape:
            raise ConfigError(
                f"{name} of shape {values.shape} for a region of {self.region.shape} pixels"
            )
        if values.dtype == dtype:
            return values
        if values.dtype.kind not in "biu":
            raise ConfigError(f"{name} of type {values.dtype}; whole numbers are needed")
        limits = np.iinfo(dtype)
        if values.size and (int(values.min()) < 0 or int(values.max()) > limits.max):
            raise ConfigError(
                f"{name} from {values.min()} to {values.max()}; 0..{limits.max} can be stored"
            )
        return values.astype(dtype)


@dataclass(frozen=True, slots=True)
class Written:
    """What writing a prediction did.

    Parameters
    ----------
    changed_pixels
        Pixels of the grid that are different now.
    kept_pixels
        Pixels of the window a person stands behind, or of objects a person touched.
    kept_objects
        Objects (for areas: 0) of the window that were kept because a person touched them.
    """

    changed_pixels: int
    kept_pixels: int
    kept_objects: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of the history; ``region`` is in pixels of the task's grid, ``when`` ISO UTC."""

    id: int
    what: str
    who: str
    when: str
    task: str
    region: Region
    undone: bool = False
