"""Metrics against values worked by hand, against slow versions, and their properties."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.metrics import (
    aji,
    aji_plus,
    dice,
    gland_f1,
    iou,
    object_dice,
    object_hausdorff,
    panoptic,
    score_classes,
    score_objects,
)

Map = NDArray[np.int64]
EMPTY = np.zeros((6, 6), np.uint16)


def picture(text: str) -> Map:
    """A label map drawn with digits, one row a line."""
    return np.array([[int(c) for c in row] for row in text.split()])


# Two nuclei; the prediction shifts the first by a column, finds half of the second in one piece
# too large, and sees a third that is not there.
TRUE = picture("110000 110000 110000 000022 000022 000000")
PRED = picture("011000 011000 011000 000022 000000 300000")


def test_pixels_by_hand() -> None:
    # true 10 px, predicted 9 px, shared 3 + 2
    assert dice(PRED, TRUE) == pytest.approx(2 * 5 / 19)
    assert iou(PRED, TRUE) == pytest.approx(5 / 14)


def test_aji_by_hand() -> None:
    # nucleus 1: 3 shared, union 9; nucleus 2: 2 shared, union 4; object 3 alone: 1 px
    assert aji(PRED, TRUE) == pytest.approx((3 + 2) / (9 + 4 + 1))
    assert aji_plus(PRED, TRUE) == pytest.approx(5 / 14)


def test_aji_may_use_a_prediction_twice_and_aji_plus_may_not() -> None:
    true = picture("111222 111222 000000 000000 000000 000000")
    pred = picture("111111 111111 000000 000000 000000 000000")
    assert aji(pred, true) == pytest.approx((6 + 6) / (12 + 12))
    assert aji_plus(pred, true) == pytest.approx(6 / (12 + 6))


def test_missed_nucleus_counts_in_full() -> None:
    true = picture("110000 110000 000022 000022 000000 000000")
    pred = picture("110000 110000 000000 000000 000000 000000")
    assert aji(pred, true) == pytest.approx(4 / 8)


def test_panoptic_by_hand() -> None:
    # IoU 3/9 and 2/4: nothing is above one half, so nothing matches
    none = panoptic(PRED, TRUE)
    assert (none.pq, none.dq) == (0.0, 0.0)
    assert math.isnan(none.sq)
    # the second now whole: IoU 1; the first still unmatched; 2 true and 3 predicted objects
    better = PRED.copy()
    better[4, 4:] = 2
    quality = panoptic(better, TRUE)
    assert quality.sq == pytest.approx(1.0)
    assert quality.dq == quality.f1 == pytest.approx(2 * 1 / (2 + 3))
    assert quality.pq == pytest.approx(0.4)


def test_iou_of_exactly_one_half_is_no_match() -> None:
    true = picture("111100 000000 000000 000000 000000 000000")
    pred = picture("110000 000000 000000 000000 000000 000000")
    assert panoptic(pred, true).dq == 0.0


def test_object_dice_by_hand() -> None:
    # truth → prediction: 6/10 · (2·3/12) + 4/10 · (2·2/6)
    forth = 0.6 * 0.5 + 0.4 * (4 / 6)
    # prediction → truth: 6/9 · 0.5 + 2/9 · (4/6) + 1/9 · 0
    back = 6 / 9 * 0.5 + 2 / 9 * (4 / 6)
    assert object_dice(PRED, TRUE) == pytest.approx((forth + back) / 2)


def test_object_hausdorff_by_hand() -> None:
    # first pair: 1 px apart both ways; second: the lost row is 1 px away; object 3 at (5, 0) has
    # no overlap: H to nucleus 1 (rows 0-2, columns 0-1) is √(5² + 1²), to nucleus 2
    # (rows 3-4, columns 4-5) √(2² + 5²), so √26 it is.
    forth = 0.6 * 1 + 0.4 * 1
    back = 6 / 9 * 1 + 2 / 9 * 1 + 1 / 9 * math.sqrt(26)
    assert object_hausdorff(PRED, TRUE) == pytest.approx((forth + back) / 2)


def test_hausdorff_sees_the_hole_of_a_ring() -> None:
    disk = np.ones((7, 7), np.uint8)
    ring = disk.copy()
    ring[1:6, 1:6] = 0
    assert object_hausdorff(ring, disk) == pytest.approx(3.0)  # the centre, inside the disk


def test_gland_f1_counts_two_halves_once() -> None:
    true = picture("111111 111111 000000 222222 222222 000000")
    pred = picture("111222 111222 000000 300000 300000 000000")
    assert gland_f1(pred, true) == pytest.approx(2 * 1 / (2 + 3))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.uint32, np.int32, np.int64])
def test_every_integer_dtype(dtype: Any) -> None:
    true, pred = (TRUE > 0).astype(dtype), (PRED > 0).astype(dtype)
    assert score_objects(pred, true)["dice"] == pytest.approx(10 / 19)


def test_huge_ids() -> None:
    big = np.where(TRUE > 0, TRUE.astype(np.uint64) + np.uint64(2**62), np.uint64(0))
    assert score_objects(big, TRUE)["aji"] == 1.0


def test_nothing_anywhere_is_undefined() -> None:
    assert all(math.isnan(v) for v in score_objects(EMPTY, EMPTY).values())
    assert math.isnan(gland_f1(EMPTY, EMPTY))


@pytest.mark.parametrize(("pred", "true"), [(EMPTY, TRUE), (TRUE, EMPTY)])
def test_nothing_on_one_side(pred: Map, true: Map) -> None:
    scores = score_objects(pred, true)
    undefined = {name for name, value in scores.items() if math.isnan(value)}
    assert undefined == {"sq", "hausdorff"}
    assert all(v == 0 for name, v in scores.items() if name not in undefined)


def test_what_is_no_label_map() -> None:
    with pytest.raises(ConfigError, match="whole numbers"):
        aji(TRUE.astype(float), TRUE)
    with pytest.raises(ConfigError, match="positive ids"):
        aji(-TRUE, TRUE)
    with pytest.raises(ConfigError, match="one shape"):
        dice(TRUE[:3], TRUE)


def test_class_maps() -> None:
    true = picture("111000 111000 222000 222000 000000 000000")
    pred = picture("111000 111000 111000 222000 000000 000000")
    scores = score_classes(pred, true)
    assert scores["dice_1"] == pytest.approx(2 * 6 / 15)
    assert scores["dice_2"] == pytest.approx(2 * 3 / 9)
    assert scores["dice"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert math.isnan(score_classes(EMPTY, EMPTY)["dice"])


# --- properties ---------------------------------------------------------------------------------

label_maps = arrays(np.int64, (9, 11), elements=st.integers(0, 5))


@given(pred=label_maps, true=label_maps, seed=st.integers(0, 2**32 - 1))
def test_ids_mean_nothing(pred: Map, true: Map, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [np.append(0, rng.choice(np.arange(1, 10**6), 5, replace=False)) for _ in range(2)]
    again = score_objects(names[0][pred], names[1][true])
    for name, value in score_objects(pred, true).items():
        assert again[name] == pytest.approx(value, nan_ok=True, rel=1e-12), name


@given(labels=label_maps)
def test_perfect(labels: Map) -> None:
    scores = score_objects(labels, labels)
    if labels.any():
        assert scores.pop("hausdorff") == 0
        assert all(v == pytest.approx(1.0) for v in scores.values())


@given(pred=label_maps, true=label_maps)
def test_in_range(pred: Map, true: Map) -> None:
    scores = score_objects(pred, true)
    far = scores.pop("hausdorff")
    assert math.isnan(far) or far >= 0
    assert all(math.isnan(v) or 0 <= v <= 1 for v in scores.values())


@given(labels=label_maps, pair=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_merging_two_objects_lowers_aji(labels: Map, pair: tuple[int, int]) -> None:
    a, b = pair
    if a == b or not (labels == a).any() or not (labels == b).any():
        return
    merged = np.where(labels == b, a, labels)
    assert aji(merged, labels) < 1
    assert aji_plus(merged, labels) < 1
    assert panoptic(merged, labels).dq < 1
    assert dice(merged, labels) == 1


@given(dy=st.integers(-8, 8), dx=st.integers(-8, 8))
def test_a_shifted_blob_is_as_far_as_it_was_shifted(dy: int, dx: int) -> None:
    true, pred = np.zeros((2, 30, 30), np.uint8)
    true[10:15, 12:18] = 1
    pred[10 + dy : 15 + dy, 12 + dx : 18 + dx] = 1
    assert object_hausdorff(pred, true) == pytest.approx(math.hypot(dy, dx))


# --- independent slow versions ------------------------------------------------------------------


def objects(labels: Map) -> list[set[tuple[int, int]]]:
    """Pixel sets in raster order of their first pixel."""
    found = [{tuple(p) for p in np.argwhere(labels == i).tolist()} for i in np.unique(labels) if i]
    return sorted(found, key=min)  # type: ignore[arg-type]


def slow_aji(pred: Map, true: Map) -> float:
    t, p = objects(true), objects(pred)
    shared = union = 0
    used = set()
    for g in t:
        best = max(range(len(p)), key=lambda k: (len(g & p[k]) / len(g | p[k]), -k), default=None)
        # ties: larger overlap first, as documented
        if best is not None and g & p[best]:
            top = len(g & p[best]) / len(g | p[best])
            best = max(
                (k for k in range(len(p)) if len(g & p[k]) / len(g | p[k]) == top),
                key=lambda k: (len(g & p[k]), -k),
            )
            shared, union = shared + len(g & p[best]), union + len(g | p[best])
            used.add(best)
        else:
            union += len(g)
    union += sum(len(p[k]) for k in range(len(p)) if k not in used)
    return shared / union if union else math.nan


def slow_pq(pred: Map, true: Map) -> float:
    t, p = objects(true), objects(pred)
    hits = [v for g in t for s in p if (v := len(g & s) / len(g | s)) > 0.5]
    return 2 * sum(hits) / (len(t) + len(p)) if t or p else math.nan


def slow_best_assignment(pred: Map, true: Map) -> float:
    """Largest sum of IoU over one-to-one pairs, solved densely."""
    t, p = objects(true), objects(pred)
    table = np.array([[len(g & s) / len(g | s) for s in p] for g in t]).reshape(len(t), len(p))
    return float(table[linear_sum_assignment(table, maximize=True)].sum())


def slow_distance(a: set[tuple[int, int]], b: set[tuple[int, int]]) -> float:
    x, y = np.array(sorted(a), float), np.array(sorted(b), float)
    apart = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    return float(max(apart.min(1).max(), apart.min(0).max()))


def slow_one_way(a: list[Any], b: list[Any], *, distance: bool) -> float:
    total = 0.0
    for g in a:
        shared = [len(g & s) for s in b]
        best = int(np.argmax(shared))
        if distance:
            far = slow_distance(g, b[best]) if shared[best] else min(slow_distance(g, s) for s in b)
            total += len(g) * far
        elif shared[best]:
            total += len(g) * 2 * shared[best] / (len(g) + len(b[best]))
    return total / sum(map(len, a))


@settings(max_examples=60)
@given(pred=label_maps, true=label_maps)
def test_agrees_with_slow_versions(pred: Map, true: Map) -> None:
    assert aji(pred, true) == pytest.approx(slow_aji(pred, true), nan_ok=True)
    assert panoptic(pred, true).pq == pytest.approx(slow_pq(pred, true), nan_ok=True)
    t, p = objects(true), objects(pred)
    if not t or not p:
        return
    for distance, metric in ((False, object_dice), (True, object_hausdorff)):
        slow = (slow_one_way(t, p, distance=distance) + slow_one_way(p, t, distance=distance)) / 2
        assert metric(pred, true) == pytest.approx(slow)


@st.composite
def sparse_maps(draw: st.DrawFn) -> Map:
    """A few small boxes, so that many objects have no partner."""
    labels = np.zeros((40, 40), np.int64)
    for i in range(1, draw(st.integers(1, 5)) + 1):
        y, x = draw(st.integers(0, 37)), draw(st.integers(0, 37))
        labels[y : y + draw(st.integers(1, 6)), x : x + draw(st.integers(1, 6))] = i
    return labels


@settings(max_examples=60)
@given(pred=sparse_maps(), true=sparse_maps())
def test_objects_without_a_partner_go_to_the_nearest(pred: Map, true: Map) -> None:
    t, p = objects(true), objects(pred)
    slow = (slow_one_way(t, p, distance=True) + slow_one_way(p, t, distance=True)) / 2
    assert object_hausdorff(pred, true) == pytest.approx(slow)


@settings(max_examples=60)
@given(pred=label_maps, true=label_maps)
def test_aji_plus_pairs_are_the_best_assignment(pred: Map, true: Map) -> None:
    from napari_genselfdiff.evaluation.metrics import _assignment
    from napari_genselfdiff.evaluation.overlaps import overlaps

    table = overlaps(pred, true)
    pairs = _assignment(table)
    assert len(set(table.true[pairs])) == len(set(table.pred[pairs])) == len(pairs)
    assert table.iou[pairs].sum() == pytest.approx(slow_best_assignment(pred, true))


def slow_aji_plus(pred: Map, true: Map) -> set[float]:
    """AJI+ of every one-to-one pairing with the largest sum of IoU, by trying all of them."""
    t, p = objects(true), objects(pred)
    found: dict[float, set[float]] = {}
    for order in permutations([*range(len(p)), *[None] * len(t)], len(t)):
        pairs = [(g, p[k]) for g, k in zip(t, order, strict=True) if k is not None and g & p[k]]
        taken = {id(one) for pair in pairs for one in pair}
        shared = sum(len(g & s) for g, s in pairs)
        union = sum(len(g | s) for g, s in pairs)
        union += sum(len(one) for one in [*t, *p] if id(one) not in taken)
        quality = round(sum(len(g & s) / len(g | s) for g, s in pairs), 12)
        found.setdefault(quality, set()).add(shared / union)
    return found[max(found)]


def slow_gland_f1(pred: Map, true: Map) -> float:
    t, p = objects(true), objects(pred)
    hit = set()
    for s in p:
        shared = [len(g & s) for g in t]
        best = int(np.argmax(shared)) if t else 0
        if t and shared[best] and 2 * shared[best] >= len(t[best]):
            hit.add(best)
    return 2 * len(hit) / (len(t) + len(p)) if t or p else math.nan


few_objects = arrays(np.int64, (5, 6), elements=st.integers(0, 3))


@settings(max_examples=60)
@given(pred=few_objects, true=few_objects)
def test_the_others_agree_with_slow_versions(pred: Map, true: Map) -> None:
    a, b = ({tuple(q) for q in np.argwhere(labels).tolist()} for labels in (pred, true))
    if not a and not b:
        return
    assert dice(pred, true) == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
    assert iou(pred, true) == pytest.approx(len(a & b) / len(a | b))
    assert gland_f1(pred, true) == pytest.approx(slow_gland_f1(pred, true))
    assert min(abs(aji_plus(pred, true) - one) for one in slow_aji_plus(pred, true)) < 1e-9
    hits = [v for g in objects(true) for s in objects(pred) if (v := len(g & s) / len(g | s)) > 0.5]
    quality = panoptic(pred, true)
    assert quality.dq == pytest.approx(2 * len(hits) / (len(objects(true)) + len(objects(pred))))
    assert quality.sq == pytest.approx(np.mean(hits) if hits else math.nan, nan_ok=True)


def test_time_grows_with_pixels_not_with_pairs() -> None:
    """Ten thousand objects on 2000² take seconds, not the hours of all pairs."""
    cell = np.zeros((20, 20), np.int64)
    cell[3:15, 4:16] = 1
    numbers = np.arange(1, 100 * 100 + 1).reshape(100, 100)
    true = np.kron(numbers, cell)
    scores = score_objects(np.roll(true, 3, axis=1), true)
    assert scores["aji"] == pytest.approx(9 / 15)
    assert scores["hausdorff"] == pytest.approx(3.0)
