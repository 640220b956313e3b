"""How good a segmenter is that has seen few labels, and what pre-training adds.

One row of the table, from recipe to number:

    python benchmarks/label_efficiency.py --rows monuseg_n1 --arms default scratch

What is done already is not done again; several processes may share a folder. Before a list is
scored, the knobs are chosen with ``--tune``, on training images outside of all subsets.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from report import Row, finish

from napari_genselfdiff.evaluation.curves import draw_curves
from napari_genselfdiff.learning.place import open_place
from napari_genselfdiff.learning.study.leaks import check_start
from napari_genselfdiff.learning.study.ledger import JsonLines
from napari_genselfdiff.learning.study.plan import StudyPlan, read_plan, shortened
from napari_genselfdiff.learning.study.run import StudyOptions, run_study
from napari_genselfdiff.learning.study.table import (
    BASE,
    Estimate,
    Record,
    aside_lines,
    cases,
    difference,
    is_again,
    learning_curves,
    summary,
)
from napari_genselfdiff.registry.home import data_home

STUDIES = Path(__file__).parent / "studies"


def main() -> None:
    args = _arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="gsd-study-") as scratch:
        _study(args, Path(scratch))


def _study(args: argparse.Namespace, scratch: Path) -> None:
    plan = read_plan(Path(args.study) if args.study.endswith(".toml") else _shipped(args.study))
    if args.quick and plan.name != "tiny":
        plan = shortened(plan)
    home = scratch if args.quick else data_home() / "studies"
    out = args.out or home / plan.name
    results = JsonLines(out / "runs.jsonl")
    with open_place(args.device) as place:
        if not args.table:
            for line in check_start(plan):
                print(line, flush=True)
            options = StudyOptions(
                phase="tune" if args.tune else "score",
                scored=args.scored or home / "scored.jsonl",
                rows=tuple(args.rows),
                arms=tuple(args.arms),
                again=args.again,
                place=place,
                tell=lambda text: print(text, flush=True),
            )
            for record in run_study(plan, out, options):
                print(*aside_lines([record]), sep="\n", flush=True)
    records = results.read()
    if args.curves:
        names = [
            f"{row}_{arm}" for row in args.rows or _names(plan) for arm in args.arms or plan.arms
        ]
        drawn = {k: v for k, v in learning_curves(records).items() if k in names}
        draw_curves(
            drawn, args.curves, x_name="patches seen", y_name="pixel Dice % on images aside"
        )
    if args.tune:
        print(*aside_lines([r for r in records if r["phase"] == "tune"]), sep="\n")
        return
    finish("label_efficiency", rows_of(records, args.rows), args.json)


def _names(plan: StudyPlan) -> list[str]:
    return [row.name for row in plan.rows]


def rows_of(records: Sequence[Record], only: Sequence[str] = ()) -> list[Row]:
    """The table: pixel Dice and true AJI of every case, and its paired difference to scratch."""
    rows = []
    for row, arm in cases(records, only):
        name = f"{row}_{arm}"
        note = "scored again" if is_again(records, row, arm) else None
        for metric, suffix in (("dice", ""), ("aji", "_aji")):
            rows.append(_row(name + suffix, summary(records, row, arm, metric), note))
        less = None if arm == BASE else difference(records, row, arm)
        if less is not None:
            rows.append(_row(f"{name}_minus_{BASE}", less, f"{row}_{BASE}"))
        if less is not None and arm == "default":
            rows.append(_row(f"{row}_minus_{BASE}", less, f"{row}_{BASE}"))
    return rows


def _row(case: str, found: Estimate | None, reference: str | None) -> Row:
    if found is None:
        return Row(case, None, "points")
    value, low, high = (
        None if math.isnan(number) else 100 * number
        for number in (found.value, found.low, found.high)
    )
    count = found.subsets * found.seeds * found.images
    return Row(case, value, "points", reference=reference, n=count, low=low, high=high)


def _shipped(name: str) -> Path:
    return STUDIES / f"{name}.toml"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    full = "full" if torch.cuda.is_available() else "small"
    parser.add_argument("--study", help="a study of benchmarks/studies, or a TOML file")
    parser.add_argument("--rows", nargs="*", default=[], help="such as monuseg_n1; all")
    parser.add_argument("--arms", nargs="*", default=[], help="such as default scratch; all")
    parser.add_argument("--tune", action="store_true", help="score images aside, not the dev list")
    parser.add_argument("--again", action="store_true", help="score a second configuration")
    parser.add_argument("--table", action="store_true", help="only print what has been measured")
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--scored", type=Path, help="file that remembers what has been scored")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or auto")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", 0)))
    parser.add_argument("--quick", action="store_true", help="tiny, or that study cut short")
    parser.add_argument("--curves", type=Path, metavar="PNG", help="draw Dice over images seen")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    args = parser.parse_args()
    args.study = args.study or ("tiny" if args.quick else full)
    return args


if __name__ == "__main__":
    main()
