"""How well a label map agrees with the truth: pixels, nuclei and glands.

Label maps are integer (or bool) arrays of one shape, 0 = background; pixels with one id are one
object, connected or not. Shares are in 0..1, distances in pixels. **A value that is not defined
is NaN**, never a flattering 1: with nothing in both maps every metric is NaN; with objects in
only one of them the shares are 0 and distances NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from napari_genselfdiff.evaluation.distance import ObjectDistances
from napari_genselfdiff.evaluation.overlaps import (
    Floats,
    Ints,
    Labels,
    Overlaps,
    check_shapes,
    overlaps,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def dice(pred: Labels, true: Labels) -> float:
    """Pixel Dice 2|A∩B| / (|A|+|B|) of everything that is not background."""
    shared, n_pred, n_true = _pixels(pred, true)
    return _share(2 * shared, n_pred + n_true)


def iou(pred: Labels, true: Labels) -> float:
    """Pixel intersection over union of everything that is not background."""
    shared, n_pred, n_true = _pixels(pred, true)
    return _share(shared, n_pred + n_true - shared)


def _pixels(pred: Labels, true: Labels) -> tuple[int, int, int]:
    check_shapes(pred, true)
    a, b = pred != 0, true != 0
    return int((a & b).sum()), int(a.sum()), int(b.sum())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def aji(pred: Labels, true: Labels) -> float:
    """Aggregated Jaccard index (Kumar et al. 2017, algorithm 1).

    Every true object is paired with the prediction of the highest IoU; one prediction may serve
    several true objects. Predictions nobody picked count fully in the denominator, and so do true
    objects that met no prediction.
    """
    return _aji(overlaps(pred, true))


def _aji(table: Overlaps) -> float:
    return _aggregated(table, table.best_pairs(table.iou))


def aji_plus(pred: Labels, true: Labels) -> float:
    """AJI with one-to-one pairs: the assignment with the largest sum of IoU (AJI+)."""
    return _aji_plus(overlaps(pred, true))


def _aji_plus(table: Overlaps) -> float:
    return _aggregated(table, _assignment(table))


def _aggregated(table: Overlaps, pairs: Ints) -> float:
    """Sum of intersections over sum of unions; whatever is in no pair counts in full below."""
    alone_true = table.true_areas.sum() - table.true_areas[np.unique(table.true[pairs])].sum()
    alone_pred = table.pred_areas.sum() - table.pred_areas[np.unique(table.pred[pairs])].sum()
    shared = int(table.shared[pairs].sum())
    return _share(shared, int(table.union[pairs].sum() + alone_true + alone_pred))


def _assignment(table: Overlaps) -> Ints:
    """Indices of the pairs of the one-to-one assignment with the largest sum of IoU.

    Solved for every connected group of objects by itself: exact, and the groups are small.
    """
    n_true, n_pred = len(table.true_areas), len(table.pred_areas)
    if len(table.shared) == 0:
        return np.zeros(0, np.int64)
    size = n_true + n_pred
    graph = sparse.coo_array(
        (np.ones(len(table.shared)), (table.true, n_true + table.pred)), shape=(size, size)
    )
    _, group = connected_components(graph, directed=False)
    of_pair = group[table.true]
    order = np.argsort(of_pair, kind="stable")
    starts = np.flatnonzero(np.diff(of_pair[order])) + 1
    chosen = [_assign_group(table, members) for members in np.split(order, starts)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _assign_group(table: Overlaps, members: Ints) -> Ints:
    if len(members) == 1:
        return members
    rows, row = np.unique(table.true[members], return_inverse=True)
    columns, column = np.unique(table.pred[members], return_inverse=True)
    score = np.zeros((len(rows), len(columns)))
    pair = np.full(score.shape, -1, np.int64)
    score[row, column] = table.iou[members]
    pair[row, column] = members
    chosen = pair[linear_sum_assignment(score, maximize=True)]
    return np.asarray(chosen[chosen >= 0], dtype=np.int64)


class PanopticQuality(NamedTuple):
    """``pq`` = ``dq`` × ``sq``; ``f1`` is the detection F1 at IoU > 0.5, equal to ``dq``.

    ``sq`` is NaN without any match; ``pq`` is then 0, or NaN if both maps are empty.
    """

    pq: float
    dq: float
    sq: float
    f1: float


def panoptic(pred: Labels, true: Labels) -> PanopticQuality:
    """Panoptic quality (Kirillov et al. 2019): objects match where their IoU is above 0.5."""
    return _panoptic(overlaps(pred, true))


def _panoptic(table: Overlaps) -> PanopticQuality:
    matched = table.iou[2 * table.shared > table.union]  # exact, without rounding at 0.5
    dq = _share(2 * len(matched), len(table.true_areas) + len(table.pred_areas))
    sq = float(matched.mean()) if len(matched) else math.nan
    pq = dq * sq if len(matched) else dq
    return PanopticQuality(pq=pq, dq=dq, sq=sq, f1=dq)


def gland_f1(pred: Labels, true: Labels) -> float:
    """Detection F1 of the GlaS challenge (Sirinukunwattana et al. 2017).

    A prediction counts if it covers at least half of the true object it overlaps most.
    """
    table = overlaps(pred, true)
    mirrored = table.swapped()
    best = mirrored.best_pairs(mirrored.shared)
    covered = 2 * mirrored.shared[best] >= mirrored.pred_areas[mirrored.pred[best]]
    found = len(np.unique(mirrored.pred[best][covered]))  # two halves are one gland found
    return _share(2 * found, len(table.true_areas) + len(table.pred_areas))


def object_dice(pred: Labels, true: Labels) -> float:
    """Object Dice of the GlaS challenge: area-weighted Dice of each object and its partner.

    The partner is the object of the other map with the largest overlap; both directions count
    half.
    """
    return _object_dice(overlaps(pred, true))


def _object_dice(table: Overlaps) -> float:
    if table.both_empty:
        return math.nan
    return (_one_way_dice(table) + _one_way_dice(table.swapped())) / 2


def _one_way_dice(table: Overlaps) -> float:
    if not len(table.shared):
        return 0.0
    best = table.best_pairs(table.shared)
    areas = table.true_areas[table.true[best]]
    scores = 2 * table.shared[best] / (areas + table.pred_areas[table.pred[best]])
    return float((areas * scores).sum() / table.true_areas.sum())


def object_hausdorff(pred: Labels, true: Labels) -> float:
    """Object Hausdorff distance of the GlaS challenge, in pixels.

    The area-weighted Hausdorff distance between each object and its partner, both directions
    half. The partner is the object of the other map with the largest overlap, or without any
    overlap the one with the smallest Hausdorff distance. NaN unless both maps hold an object.
    """
    return _object_hausdorff(overlaps(pred, true), pred, true)


def _object_hausdorff(table: Overlaps, pred: Labels, true: Labels) -> float:
    if len(table.true_areas) == 0 or len(table.pred_areas) == 0:
        return math.nan
    distances = ObjectDistances(true, pred)
    forth = _one_way_hausdorff(table, distances)
    return (forth + _one_way_hausdorff(table.swapped(), distances.swapped())) / 2


def _one_way_hausdorff(table: Overlaps, distances: ObjectDistances) -> float:
    partner = np.full(len(table.true_areas), -1, np.int64)
    best = table.best_pairs(table.shared)
    partner[table.true[best]] = table.pred[best]
    far: Floats = np.array(
        [
            distances.between(i, int(other)) if other >= 0 else distances.to_nearest(i)
            for i, other in enumerate(partner)
        ]
    )
    weights: NDArray[np.float64] = table.true_areas / table.true_areas.sum()
    return float((weights * far).sum())


def score_objects(pred: Labels, true: Labels, *, distances: bool = True) -> dict[str, float]:
    """Every metric of two instance maps by its report name, the overlaps counted once.

    Without ``distances`` the Hausdorff distance, most of the time it takes, is left out (NaN).
    """
    table = overlaps(pred, true)
    quality = _panoptic(table)
    return {
        "dice": dice(pred, true),
        "iou": iou(pred, true),
        "aji": _aji(table),
        "aji_plus": _aji_plus(table),
        **quality._asdict(),
        "object_dice": _object_dice(table),
        "hausdorff": _object_hausdorff(table, pred, true) if distances else math.nan,
    }


def score_classes(pred: Labels, true: Labels) -> dict[str, float]:
    """Pixel Dice and IoU of two class maps: the mean over the classes either of them holds.

    With several classes those of each are added as ``dice_<value>`` and ``iou_<value>``.
    """
    check_shapes(pred, true)
    values = [int(v) for v in np.union1d(pred, true) if v != 0]
    each = {v: (dice(pred == v, true == v), iou(pred == v, true == v)) for v in values}
    mean = np.mean(list(each.values()), axis=0) if each else (math.nan, math.nan)
    scores = {"dice": float(mean[0]), "iou": float(mean[1])}
    if len(values) > 1:
        for value, (one_dice, one_iou) in each.items():
            scores[f"dice_{value}"], scores[f"iou_{value}"] = one_dice, one_iou
    return scores
