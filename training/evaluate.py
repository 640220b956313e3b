"""Score a model: python training/evaluate.py --model DIR --images DIR --masks DIR --out FILE."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_genselfdiff.commands.evaluate import evaluate_model
from napari_genselfdiff.evaluation.report import table, write_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--mpp", type=float, help="micrometre per pixel of the images")
    parser.add_argument("--predictions", type=Path, help="folder for the predicted labels")
    parser.add_argument("--pictures", type=Path, help="folder for the best, median, worst image")
    parser.add_argument("--out", type=Path, required=True, help="report (JSON)")
    args = parser.parse_args()
    report = evaluate_model(
        args.model,
        args.images,
        args.masks,
        mpp=args.mpp,
        predictions=args.predictions,
        pictures=args.pictures,
    )
    write_report(report, args.out)
    print(table(report))


if __name__ == "__main__":
    main()
