"""From the runs of a study to its table: means, intervals and paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_genselfdiff.evaluation.bootstrap import crossed_interval, mean_of
from napari_genselfdiff.evaluation.curves import CurvePoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

BASE = "scratch"
Record = dict[str, Any]


class Estimate(NamedTuple):
    """A mean over subsets and images (seeds averaged) with its 95 % interval."""

    value: float
    low: float
    high: float
    subsets: int
    seeds: int
    images: int


def estimate(table: NDArray[np.float64], seeds: int) -> Estimate:
    """Summary of scores ``(subsets, images)``."""
    low, high = crossed_interval(table)
    return Estimate(mean_of(table), low, high, table.shape[0], seeds, table.shape[1])


def scores_of(
    records: Iterable[Record], row: str, arm: str, metric: str
) -> dict[int, dict[int, dict[str, float]]]:
    """Scores by subset, seed and image, NaN where not defined; of the configuration scored last."""
    mine = [r for r in records if (r["row"], r["arm"]) == (row, arm) and "scores" in r]
    found: dict[int, dict[int, dict[str, float]]] = {}
    for record in mine:
        if record["config_hash"] != mine[-1]["config_hash"]:
            continue
        values = {
            name: np.nan if image[metric] is None else float(image[metric])
            for name, image in record["scores"].items()
        }
        found.setdefault(record["subset"], {})[record["seed"]] = values
    return found


def summary(records: Sequence[Record], row: str, arm: str, metric: str = "dice") -> Estimate | None:
    """Mean of an arm in a row, or None without a scored run."""
    found = scores_of(records, row, arm, metric)
    if not found:
        return None
    images = sorted({name for seeds in found.values() for one in seeds.values() for name in one})
    table = np.array(
        [
            [mean_of([one[name] for one in seeds.values()]) for name in images]
            for seeds in found.values()
        ]
    )
    return estimate(table, min(len(seeds) for seeds in found.values()))


def difference(
    records: Sequence[Record], row: str, arm: str, base: str = BASE, metric: str = "dice"
) -> Estimate | None:
    """Paired difference of two arms on equal subsets, seeds and images, or None without any."""
    one, two = (scores_of(records, row, name, metric) for name in (arm, base))
    table, counts = [], []
    for subset in sorted(one.keys() & two.keys()):
        seeds = sorted(one[subset].keys() & two[subset].keys())
        if seeds:
            counts.append(len(seeds))
            table.append(
                [
                    mean_of([one[subset][s][name] - two[subset][s][name] for s in seeds])
                    for name in sorted(one[subset][seeds[0]])
                ]
            )
    return estimate(np.array(table), min(counts)) if table else None


def cases(records: Sequence[Record], rows: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Rows and arms that have scored runs, in the order they came."""
    found = [(r["row"], r["arm"]) for r in records if "scores" in r]
    return [case for case in dict.fromkeys(found) if not rows or case[0] in rows]


def is_again(records: Iterable[Record], row: str, arm: str) -> bool:
    """Whether the case was scored with another configuration before."""
    return any(r["again"] for r in records if (r["row"], r["arm"]) == (row, arm))


def aside_lines(records: Iterable[Record]) -> list[str]:
    """One line a run: how good it was on the images aside, and how long it took."""
    lines = []
    for record in records:
        shown = [
            f"{record['case']} {record['config_hash'][:6]} {record['subset']}/{record['seed']}"
        ]
        shown += [f"{seen}: {100 * value:.1f}" for seen, value in record.get("curve", [])]
        for name in ("aside", "aside_raw", "aside_flips"):
            if record.get(name):
                shown.append(f"{name} {100 * mean_of(list(record[name].values())):.2f}")
        if record.get("stopped"):
            shown.append(f"stopped: {record['stopped']}")
        lines.append("  ".join([*shown, f"{record['seconds']:.0f} s"]))
    return lines


def learning_curves(records: Sequence[Record]) -> dict[str, list[CurvePoint]]:
    """Dice (0-100) on the images aside over images seen, by case.

    The mean over runs, and the lowest and highest of them: a spread, no interval. Only runs that
    can be compared count: subsets and seeds that every arm of the row has, scored on the same
    images aside as the last run of the row.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for record in _comparable([r for r in records if r.get("curve")]):
        for seen, value in record["curve"]:
            found.setdefault(record["case"], {}).setdefault(seen, []).append(100 * value)
    return {
        case: [
            CurvePoint(float(seen), float(np.mean(values)), min(values), max(values))
            for seen, values in sorted(marks.items())
        ]
        for case, marks in found.items()
    }


def _comparable(records: Sequence[Record]) -> list[Record]:
    kept = []
    for row in dict.fromkeys(r["row"] for r in records):
        mine = [r for r in records if r["row"] == row]
        same = [r for r in mine if r["aside"].keys() == mine[-1]["aside"].keys()]
        runs = [{(r["subset"], r["seed"]) for r in same if r["arm"] == arm} for arm in _arms(mine)]
        shared = set.intersection(*runs)
        kept += [r for r in same if (r["subset"], r["seed"]) in shared]
    return kept


def _arms(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(r["arm"] for r in records))
