"""Places that were recovered after a crash, as they were when last closed and as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import TaskSpec
    from napari_genselfdiff.session.session import Session

LARGEST: Final = 384
"""Side of the part of a place that is shown, in pixels of the task's grid."""
_AROUND: Final = 24
_MOST, _MOST_STEPS = 50, 500
"""Places shown, and steps looked at for them, at most."""


@dataclass(frozen=True)
class Place:
    """One place: tissue (h, w, 3), classes (h, w) before and after, and the part that changed.

    ``inside`` are its rows and columns in the pictures; ``changed`` counts pixels there.
    """

    task: TaskSpec
    region0: Region
    image: NDArray[np.uint8]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    inside: tuple[slice, slice]
    changed: int


def recovered_places(session: Session) -> list[Place]:
    """The places of what was recovered, newest first; large ones show the part that changed most.

    Raises
    ------
    StoreError
        If an undo step is damaged.
    """
    slide, store = session.open_store()
    recovery = store.recovery
    places: list[Place] = []
    for task, changed in _outermost(recovery.places if recovery is not None else ()):
        part = _telling(changed)
        region = part.padded(_AROUND).clipped(store.shape(task))
        if recovery is None or region is None:
            continue
        before, after = recovery.before(task, region), recovery.after(task, region)
        downsample = store.downsample(task)
        inside = part.shifted(-region.y, -region.x).slices
        places.append(
            Place(
                task=store.tasks[task],
                region0=part.from_grid(downsample),
                image=slide.read(region, downsample),
                before=before.classes,
                after=after.classes,
                inside=inside,
                changed=int((before.classes != after.classes)[inside].sum()),
            )
        )
    return places


def _outermost(places: Sequence[tuple[str, Region]]) -> list[tuple[str, Region]]:
    """Places that lie in no other one, newest first."""
    newest = list(dict.fromkeys(reversed(places)))[:_MOST_STEPS]
    return [
        (task, region)
        for task, region in newest
        if not any(
            task == other and region != around and around.contains(region)
            for other, around in newest
        )
    ][:_MOST]


def _telling(changed: Region) -> Region:
    """All of a small place, the middle of a large one."""
    height, width = min(changed.height, LARGEST), min(changed.width, LARGEST)
    return Region(
        changed.y + (changed.height - height) // 2,
        changed.x + (changed.width - width) // 2,
        height,
        width,
    )
