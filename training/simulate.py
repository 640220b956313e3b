"""Simulate users who correct and refine: python training/simulate.py --images DIR --masks DIR.

Prints Dice on untouched halves against user actions, corrected pixels and seconds. A run that was
stopped goes on where it was: every image and seed is written to --out when it is done.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from napari_genselfdiff.evaluation.curves import CurvePoint, draw_curves
from napari_genselfdiff.evaluation.folders import pair_folders, read_pair
from napari_genselfdiff.learning import simulation
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.prediction.profile import default_profile
from napari_genselfdiff.registry.registry import Registry

_PLOTTED = ("actions", "dice", "low", "high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--list", type=Path, help="file that names a stem a line; all images")
    parser.add_argument("--mpp", type=float, default=0.25, help="micrometre per pixel")
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--user", choices=("sparse", "dense"), default="sparse")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--seeds", type=int, default=3, help="orders of the images")
    parser.add_argument("--group", type=int, default=1, help="images that are corrected together")
    parser.add_argument("--budget-seconds", type=float, default=30.0)
    parser.add_argument("--png", type=Path, help="also draw Dice against user actions")
    parser.add_argument("--out", type=Path, required=True, help="report (JSON); resumed")
    args = parser.parse_args()
    model = Registry().resolve(args.model)
    pairs = {pair.name: pair for pair in pair_folders(args.images, args.masks)}
    config = simulation.SimulationConfig(
        user=args.user,
        views=tuple(args.views),
        refine=RefineConfig(budget_s=args.budget_seconds),
    )

    def read(names: Sequence[str]) -> list[simulation.Picture]:
        task = model.card.task
        return [simulation.read_picture(n, *read_pair(pairs[n]), args.mpp, task) for n in names]

    names = read_list(args.list) if args.list else sorted(pairs)
    for report in simulation.simulate_all(
        read, names, model, default_profile(), config, args.out, seeds=args.seeds, group=args.group
    ):
        run = report["runs"][-1]
        last = run["points"][-1]
        print(f"{run['key']}: Dice {run['points'][0]['dice']:.3f} → {last['dice']:.3f}", flush=True)
        for point in simulation.curve(report):
            print("  " + "  ".join(f"{key} {value:.4g}" for key, value in point.items()))
        if args.png:
            rows = [CurvePoint(*(p[k] for k in _PLOTTED)) for p in simulation.curve(report)]
            axes = {"x_name": "user actions", "y_name": "Dice on untouched halves"}
            draw_curves({f"{args.user} user": rows}, args.png, **axes)


if __name__ == "__main__":
    main()
