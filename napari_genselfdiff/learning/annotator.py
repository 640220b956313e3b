"""Simulated users: what a person would correct, made from a known truth with the editor's tools.

The sparse user is the one to believe: in a view he fixes the few worst objects with outlines that
are a little off, then presses Accept view and overlooks some of what is left. The dense user
draws the whole truth and shows what is possible at best.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from napari_genselfdiff.annotation.edit import (
    accept_window,
    change_class,
    clear_pixels,
    delete_object,
    new_object_id,
    set_pixels,
)
from napari_genselfdiff.annotation.window import HUMAN, Window
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.overlaps import ordered, overlaps
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

ErrorKind = Literal["false", "missed", "bad", "class", "area"]
_SAME = 0.1  # IoU from which a drawn object is an attempt at a true one


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How a sparse user works.

    ``most`` is the number of fixes per view; ``good_iou`` the IoU from which an object is left as
    it is; ``jitter_px`` how far an outline is off (standard deviation); ``overlooked`` the share
    of what is left wrong that is accepted all the same; ``margin`` the context around a view.
    """

    most: int = 10
    good_iou: float = 0.7
    jitter_px: float = 1.0
    overlooked: float = 0.05
    margin: int = 32

    def __post_init__(self) -> None:
        if self.most < 0 or not 0 <= self.overlooked <= 1 or not 0 < self.good_iou <= 1:
            raise ConfigError(
                f"habits: most {self.most}, overlooked {self.overlooked}, good_iou "
                f"{self.good_iou}; 0 or more, 0-1 and above 0 up to 1 are needed"
            )


@dataclass(frozen=True)
class Scene:
    """A picture with a model's answer and the truth; both windows cover the whole picture.

    ``image`` (H, W, 3) uint8 at ``mpp`` µm/px. The answer is what the editor would show:
    provenance MODEL where the model has spoken.
    """

    name: str
    image: NDArray[np.uint8]
    mpp: float
    answer: Window
    truth: Window

    @property
    def wrong(self) -> Mask:
        """Pixels whose class is not the true one."""
        return np.asarray(self.answer.classes != self.truth.classes)


@dataclass(frozen=True)
class Flaw:
    """Something a user could fix: what, where (in the view's pixels), and how bad, in pixels.

    ``mask`` is all that is wrong or belongs to what is wrong; ``object_id`` the object of the
    answer, 0 for a missed one; ``truth`` the pixels the object should have.
    """

    kind: ErrorKind
    mask: Mask
    truth: Mask
    object_id: int
    value: int
    wrong_px: int


@dataclass(frozen=True)
class Corrected:
    """A corrected view as a tile, and what it took.

    ``actions`` counts fixes and the Accept; ``overlooked`` flaws were accepted, ``left`` ones are
    unknown; ``human_px`` were changed by hand.
    """

    tile: CorrectionTile
    actions: int
    overlooked: int = 0
    left: int = 0
    fixed: dict[str, int] = field(default_factory=dict)

    @property
    def human_px(self) -> int:
        """Pixels changed by hand."""
        return int(self.tile.human.sum())


def sparse_user(
    scene: Scene, view: Region, rng: np.random.Generator, habits: Habits | None = None
) -> Corrected:
    """Fix the worst objects of a view, accept the rest of it, give the tile the editor would.

    What is left wrong and was noticed is cleared to unknown after accepting: a person does not
    vouch for what looks wrong.
    """
    habits = habits or Habits()
    before, truth = scene.answer.cropped(view).copy(), scene.truth.cropped(view)
    flaws = find_flaws(before, truth, habits.good_iou)
    fixed, left = flaws[: habits.most], flaws[habits.most :]
    window = before
    for flaw in fixed:
        window = _fix(window, truth, flaw, rng, habits)
    window = accept_window(window)
    seen = rng.random(len(left)) >= habits.overlooked
    for flaw, noticed in zip(left, seen, strict=True):
        if noticed:  # also where deleting a neighbour said that nothing is there
            drawn = (window.provenance == HUMAN) & (window.classes > 0)
            window = clear_pixels(window, flaw.mask & ~drawn)
    kinds = {kind: sum(f.kind == kind for f in fixed) for kind in {f.kind for f in fixed}}
    return Corrected(
        _tile(scene, window, habits.margin),
        actions=len(fixed) + 1,
        overlooked=int((~seen).sum()),
        left=int(seen.sum()),
        fixed=dict(sorted(kinds.items())),
    )


def dense_user(scene: Scene, view: Region, *, margin: int = 32) -> Corrected:
    """Draw the whole truth of a view by hand, background included; an action is an object."""
    window = scene.truth.cropped(view).copy()
    window.provenance[:] = HUMAN
    labels = window.classes if window.objects is None else window.objects
    count = len(np.unique(labels[labels > 0]))
    return Corrected(_tile(scene, window, margin), actions=max(count, 1), fixed={"drawn": count})


def worst_views(
    scene: Scene, inside: Region, count: int, *, size: int = 256, taken: Sequence[Region] = ()
) -> list[Region]:
    """Up to ``count`` squares in a part of the picture with the most wrong pixels.

    They lie on a grid spread over the part, so that choosing one never takes the room of others;
    those that overlap ``taken`` are left out. A part smaller than ``size`` is one view.
    """
    height, width = min(size, inside.height), min(size, inside.width)
    places = [
        Region(inside.y + y, inside.x + x, height, width)
        for y in _starts(inside.height, height)
        for x in _starts(inside.width, width)
    ]
    free = [view for view in places if all(view.intersection(o) is None for o in taken)]
    return sorted(free, key=lambda view: -int(scene.wrong[view.slices].sum()))[:count]


def find_flaws(answer: Window, truth: Window, good_iou: float = 0.7) -> list[Flaw]:
    """Everything a user could fix in a view, the worst first.

    Objects: false ones, missed ones, ones with an IoU below ``good_iou`` and ones of another
    class. Areas: connected pieces of wrong pixels.
    """
    flaws = _object_flaws(answer, truth, good_iou) if answer.objects is not None else []
    flaws = flaws if answer.objects is not None else _area_flaws(answer, truth)
    return sorted(flaws, key=lambda flaw: -flaw.wrong_px)


def jittered(mask: Mask, rng: np.random.Generator, sd_px: float) -> Mask:
    """Draw an outline as a hand does: off by ``sd_px``, smoothly along the border."""
    if sd_px <= 0 or not mask.any():
        return mask.copy()
    pad = int(np.ceil(3 * sd_px)) + 1
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = (
        slice(max(rows[0] - pad, 0), rows[-1] + pad + 1),
        slice(max(columns[0] - pad, 0), columns[-1] + pad + 1),
    )
    inside = mask[box]
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] - 0.5
    beyond = ndimage.distance_transform_edt(~inside) - 0.5 if not inside.all() else 0.0
    noise = ndimage.gaussian_filter(rng.standard_normal(inside.shape), 4.0)
    noise *= sd_px / max(float(noise.std()), 1e-9)
    drawn = np.where(inside, distance, -np.asarray(beyond)) + noise > 0
    moved = np.zeros_like(mask)
    moved[box] = drawn if drawn.any() else inside
    return moved


def _starts(length: int, size: int) -> list[int]:
    """Where as many pieces as fit begin, evenly spread."""
    count = max(length // size, 1)
    return [(length - size) * i // max(count - 1, 1) for i in range(count)]


def _object_flaws(answer: Window, truth: Window, good_iou: float) -> list[Flaw]:
    (drawn, n_drawn), (true, n_true) = ordered(answer.ids), ordered(truth.ids)
    table = overlaps(answer.ids, truth.ids)
    best: dict[int, tuple[int, float]] = {}  # number of a drawn object: the true one, the IoU
    met: set[int] = set()
    for pair in np.argsort(-table.iou, kind="stable"):
        p, t, iou = int(table.pred[pair]) + 1, int(table.true[pair]) + 1, float(table.iou[pair])
        if iou >= _SAME and p not in best and t not in met:
            best[p] = (t, iou)
            met.add(t)
    nothing = np.zeros(drawn.shape, bool)
    flaws = []
    for p in range(1, n_drawn + 1):
        mask = drawn == p
        number, here = int(answer.ids[mask][0]), _class_of(answer, mask)
        if p not in best:
            flaws.append(Flaw("false", mask, nothing, number, 0, int(mask.sum())))
            continue
        t, iou = best[p]
        goal = true == t
        value = _class_of(truth, goal)
        if iou < good_iou:
            wrong = int((mask ^ goal).sum())
            flaws.append(Flaw("bad", mask | goal, goal, number, value, wrong))
        elif here != value:
            flaws.append(Flaw("class", mask, goal, number, value, int(mask.sum())))
    for t in set(range(1, n_true + 1)) - met:
        goal = true == t
        flaws.append(Flaw("missed", goal, goal, 0, _class_of(truth, goal), int(goal.sum())))
    return flaws


def _area_flaws(answer: Window, truth: Window) -> list[Flaw]:
    pieces, count = ndimage.label(answer.classes != truth.classes)
    flaws = []
    for number in range(1, count + 1):
        mask = pieces == number
        for value in np.unique(truth.classes[mask]):
            goal = mask & (truth.classes == value)
            flaws.append(Flaw("area", goal, goal, 0, int(value), int(goal.sum())))
    return flaws


def _class_of(window: Window, mask: Mask) -> int:
    return int(np.bincount(window.classes[mask]).argmax())


def _fix(
    window: Window, truth: Window, flaw: Flaw, rng: np.random.Generator, habits: Habits
) -> Window:
    if flaw.kind == "false":
        return delete_object(window, flaw.object_id)
    if flaw.kind == "class":
        return change_class(window, flaw.object_id, flaw.value)
    outline = jittered(flaw.truth, rng, habits.jitter_px)
    if flaw.kind == "area":
        keep = outline & (truth.classes == flaw.value)  # a border drawn twice is drawn alike
        return set_pixels(window, keep, flaw.value)
    if flaw.kind == "bad":
        window = delete_object(window, flaw.object_id)
    free = (window.ids == 0) | flaw.truth  # the hand may slip, but not onto a neighbour
    return set_pixels(window, outline & free, flaw.value, new_object_id(window))


def _tile(scene: Scene, edited: Window, margin: int) -> CorrectionTile:
    """The view with context around it, in which only the model has spoken."""
    view = edited.region
    height, width = scene.image.shape[:2]
    outer = view.padded(margin).clipped((height, width))
    assert outer is not None  # the view lies in the picture
    whole = scene.answer.cropped(outer).copy()
    place = view.shifted(-outer.y, -outer.x).slices
    whole.classes[place], whole.provenance[place] = edited.classes, edited.provenance
    if whole.objects is not None:
        # An object that reaches out of the view stays one only where nobody touched it.
        beside = int(whole.ids.max(initial=0))
        whole.ids[place] = np.where(edited.ids > 0, edited.ids + beside, 0).astype(np.uint32)
    return CorrectionTile(
        scene.image[outer.slices],
        whole.classes,
        whole.objects,
        whole.provenance,
        scene.mpp,
        f"{scene.name}:{view.y},{view.x}",
    )
