"""How a new prediction meets what is already there, without touching what a person decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.annotation.labelling import compact, counts, majority_class, overlaps
from napari_genselfdiff.annotation.window import ACCEPTED, MODEL, Window, Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.labelling import Codes, Ids

    Rows = Callable[[Ids], NDArray[np.uint32]]
    Allocate = Callable[[int], int]


def merge_areas(current: Window, new: Window) -> tuple[Window, Written]:
    """Write a prediction of areas over everything no person stands behind.

    Both windows have one region. Returns the window after it and what was kept.
    """
    kept = current.provenance >= ACCEPTED
    after = Window(
        current.region,
        np.where(kept, current.classes, new.classes),
        None,
        np.where(kept, current.provenance, MODEL).astype(np.uint8),
    )
    return after, Written(changed_pixels(current, after), int(kept.sum()), 0)


def changed_pixels(before: Window, after: Window) -> int:
    """Pixels at which two windows of one region differ."""
    changed = (before.classes != after.classes) | (before.provenance != after.provenance)
    if before.objects is not None and after.objects is not None:
        changed |= before.objects != after.objects
    return int(np.count_nonzero(changed))


def merge_objects(
    current: Window, new: Window, rows: Rows, allocate: Allocate
) -> tuple[Window, Written]:
    """Write predicted objects, object by object.

    - An object a person touched anywhere stays as it is, and so does every known pixel; a
      predicted object that lies mostly on those is dropped, others give way.
    - A predicted object that is an old one again (IoU above 0.5) takes over its id, so the same
      prediction twice changes nothing.
    - An old model object across the window's border is never cut: found again, it keeps the part
      outside; else it stays whole if it lies mostly outside, and goes whole if not.

    Parameters
    ----------
    current
        What is stored, around the new window with some margin.
    new
        The prediction; its ids only tell its objects apart, its provenance is not read.
    rows
        Gives the (class value, pixels in the whole store) of ids, (n, 2).
    allocate
        Reserves n new ids and gives the first.

    Returns
    -------
    tuple
        The window after it (of ``current``'s region) and what was written and kept.
    """
    meeting = _Meeting(current, new, rows)
    meeting.protect_known()
    meeting.match()
    meeting.protect_crossing()
    after = meeting.result(allocate)
    kept = Written(changed_pixels(current, after), meeting.kept_pixels, meeting.kept_objects)
    return after, kept


@dataclass
class _Old:
    """Stored objects of the surroundings.

    ``at`` (positions in the flattened window) and ``codes`` have an element a pixel of an object,
    the others an element a code; 0 is no object.
    """

    at: Codes
    codes: Codes
    ids: Ids
    inside: NDArray[np.int64]
    seen: NDArray[np.int64]
    classes: NDArray[np.uint8]
    areas: NDArray[np.int64]
    kept: NDArray[np.bool_]


class _Meeting:
    """Objects are few among the pixels, so what is known of them is kept for their pixels only."""

    def __init__(self, current: Window, new: Window, rows: Rows) -> None:
        self.current, self.new = current, new
        self.inner = new.region.shifted(-current.region.y, -current.region.x).slices
        known = current.provenance >= ACCEPTED
        self.old = self._stored(known, rows)
        self.new_at = np.flatnonzero(new.ids)
        self.new_ids, self.codes = compact(new.ids.ravel()[self.new_at])
        self.n = len(self.new_ids)
        self.sizes = counts(self.codes, self.n)
        self.classes = majority_class(self.codes, new.classes.ravel()[self.new_at], self.n)
        self.dropped = self.classes == 0
        self.inner_ids = current.ids[self.inner].ravel()
        self.protected = known[self.inner].ravel()
        if self.old.kept.any():
            self._protect(self.old.kept)
        self.kept_pixels = int(self.protected.sum())
        self.kept_objects = int(np.count_nonzero(self.old.kept & (self.old.inside > 0)))
        self.same_as = np.zeros(self.n, np.intp)  # code of the old object it is, 0 if none
        self.removed = np.zeros(len(self.old.ids), bool)

    def _stored(self, known: NDArray[np.bool_], rows: Rows) -> _Old:
        at = np.flatnonzero(self.current.ids)
        ids, codes = compact(self.current.ids.ravel()[at])
        inner = np.zeros(self.current.ids.shape, bool)
        inner[self.inner] = True
        table = rows(ids)
        return _Old(
            at=at,
            codes=codes,
            ids=ids,
            inside=counts(codes, len(ids), inner.ravel()[at]),
            seen=counts(codes, len(ids)),
            classes=table[:, 0].astype(np.uint8),
            areas=table[:, 1].astype(np.int64),
            kept=counts(codes, len(ids), known.ravel()[at]) > 0,
        )

    @property
    def crossing(self) -> NDArray[np.bool_]:
        """Old model objects with pixels inside the window and outside."""
        return (self.old.inside > 0) & (self.old.areas > self.old.inside) & ~self.old.kept

    def _protect(self, objects: NDArray[np.bool_]) -> None:
        """Take the pixels of old objects, chosen by their codes, from the prediction."""
        at = np.flatnonzero(self.inner_ids)
        self.protected[at[objects[self._old_codes(at)]]] = True

    def _old_codes(self, at: Codes) -> Codes:
        """Codes of the old objects at positions in the flattened new window."""
        return np.searchsorted(self.old.ids, self.inner_ids[at])

    def protect_known(self) -> None:
        """Drop what lies mostly on protected pixels."""
        covered = counts(self.codes, self.n, self.protected[self.new_at])
        self.dropped |= (2 * covered > self.sizes) & (self.same_as == 0)
        self.dropped[0] = True

    def match(self) -> None:
        """Find old model objects again by their overlap, on pixels that may change."""
        free = ~self.protected[self.new_at] & ~self.dropped[self.codes]
        at, codes, n_old = self.new_at[free], self.codes[free], len(self.old.ids)
        old_at = np.flatnonzero((self.inner_ids > 0) & ~self.protected)
        sizes, old_sizes = counts(codes, self.n), counts(self._old_codes(old_at), n_old)
        mine, theirs, shared = overlaps(codes, self._old_codes(at), (self.n, n_old))
        union = sizes[mine] + old_sizes[theirs] - shared
        same = 2 * shared > union  # above one half, so the pairs are one to one
        self.same_as[mine[same]] = theirs[same]

    def protect_crossing(self) -> None:
        """Decide on model objects across the border that were not found again."""
        lost = self.crossing
        lost[self.same_as] = False
        outside = self.old.areas - self.old.inside
        in_sight = self.old.seen == self.old.areas
        stays = lost & ((outside > self.old.inside) | ~in_sight)
        self.removed = lost & ~stays
        if stays.any():
            self._protect(stays)
        self.protect_known()

    def result(self, allocate: Allocate) -> Window:
        """Put everything together."""
        after = self.current.copy()
        fresh = np.flatnonzero(~self.dropped & (self.same_as == 0))
        ids = self.old.ids[self.same_as]
        ids[fresh] = np.arange(len(fresh), dtype=np.int64) + allocate(len(fresh))
        ids[self.dropped] = 0
        self._agree_on_classes(after)
        gone = self.old.at[self.removed[self.old.codes]]
        after.ids.flat[gone], after.classes.flat[gone], after.provenance.flat[gone] = 0, 0, MODEL
        written = ~self.protected.reshape(self.new.region.shape)
        self.classes[self.dropped] = 0
        for values, to in ((ids, after.ids), (self.classes, after.classes)):
            drawn = np.zeros(self.new.region.shape, values.dtype)
            drawn.ravel()[self.new_at] = values[self.codes]
            np.copyto(to[self.inner], drawn, where=written)
        np.copyto(after.provenance[self.inner], np.uint8(MODEL), where=written)
        after.confidences = self._confidences(ids)
        return after

    def _confidences(self, ids: Ids) -> dict[int, float]:
        """What the model said of its objects, by the ids they have now."""
        said = self.new.confidences
        pairs = zip(ids.tolist(), self.new_ids.tolist(), strict=True)
        return {to: said[of] for to, of in pairs if to and of in said}

    def _agree_on_classes(self, after: Window) -> None:
        """Give an object found again across the border one class: that of its larger part."""
        self.classes[0] = 0
        mine = np.flatnonzero(self.same_as)
        theirs = self.same_as[mine]
        outside = self.old.areas - self.old.inside
        new_wins = (outside <= self.old.inside) & (self.old.seen == self.old.areas)
        old_class = self.old.classes[theirs]
        loses = self.crossing[theirs] & ~new_wins[theirs]
        self.classes[mine] = np.where(loses, old_class, self.classes[mine])
        differs = self.crossing[theirs] & (self.classes[mine] != old_class)
        if differs.any():
            repaint = np.zeros(len(self.old.ids), np.uint8)
            repaint[theirs[differs]] = self.classes[mine[differs]]
            paint = repaint[self.old.codes]
            after.classes.flat[self.old.at[paint > 0]] = paint[paint > 0]
