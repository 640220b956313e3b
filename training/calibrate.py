"""Calibrate a model's confidence: python -m training.calibrate [MODEL] [--check] [--lists …].

Fits one temperature on images of training lists that the model never learned from: those that its
recipe left out (``leave_out``), and every fifth of the MoNuSeg training list. Writes it with its
numbers into the card. The error after calibration is measured by two-fold cross-fitting: on images
the temperature was not fitted to. Labels do not change. Run it again whenever the weights change.

The printed table also tells what averaging over flips, over timesteps and over the surroundings
brings. A pixel is wrong where what is drawn and the truth differ in object or background; borders
count like everything else. ``--check`` writes nothing; ``--lists`` also measures lists that are
scored (NAME:FOLDER:MPP), with the temperature of the card, which was not fitted to them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import Pair, pair_folders, read_pair
from napari_genselfdiff.learning.recipe import LabelledSet, data_root
from napari_genselfdiff.learning.sources import left_out, read_list
from napari_genselfdiff.prediction import confidence
from napari_genselfdiff.prediction.confidence import (
    auroc,
    calibrated,
    calibration_error,
    fit_temperature,
    reliability,
    temperature,
)
from napari_genselfdiff.prediction.picture import Picture
from napari_genselfdiff.prediction.profile import Profile, available_cores
from napari_genselfdiff.prediction.region import RegionDone, predict_region
from napari_genselfdiff.registry.card import Calibration
from napari_genselfdiff.registry.folder import Model, read_model, with_card
from napari_genselfdiff.registry.registry import BUNDLED
from napari_genselfdiff.slides.geometry import Region

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "nuclei-reliability.png"
TIMESTEPS = (0, 100)
VIEWS = (1, 2, 4)
WORKERS = available_cores()


@dataclass(frozen=True)
class Field:
    """An image whose truth is known, and its µm per pixel."""

    pair: Pair
    mpp: float


@dataclass(frozen=True)
class Judged:
    """Confidence of the drawn class of every pixel of an image, and whether it is right."""

    confidence: NDArray[np.float32]
    right: NDArray[np.bool_]

    def cooled(self, heat: float) -> Judged:
        """The same after calibration."""
        return replace(self, confidence=calibrated(self.confidence, heat).astype(np.float32))


def main() -> None:
    """Measure, print, and write the card unless told not to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED / "nuclei")
    parser.add_argument("--check", action="store_true", help="print only")
    parser.add_argument("--lists", nargs="*", default=[], metavar="NAME:FOLDER:MPP")
    asked = parser.parse_args()
    model = read_model(asked.model)
    if asked.lists:
        for text in asked.lists:
            name, folder, mpp = text.split(":")
            table(model, name, listed(folder, f"splits/{name}.txt", float(mpp)))
        return
    parts = {"left out of training": held_out(model), "monuseg_train, every fifth": unseen()}
    judged = [table(model, name, fields, steps=True) for name, fields in parts.items()]
    views = {flips: [j for part in judged for j in part[flips]] for flips in VIEWS}
    found = calibrate(views)
    print(found.model_dump_json(indent=1))
    if not asked.check:
        draw(views[1], found.temperature["1"]).save(PICTURE)
        with_card(model, calibration=found.model_dump())


def table(
    model: Model, name: str, fields: Sequence[Field], *, steps: bool = False
) -> dict[int, list[Judged]]:
    """Print what every way of averaging gives on some images; what they are, by number of views."""
    print(f"{name}: {len(fields)} images", flush=True)
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        folder, plain = model.path, [1] * len(fields)
        folders = [folder] * len(fields)
        say("one view, every pixel alone", list(pool.map(judge_alone, folders, fields, plain)))
        views = {
            flips: list(pool.map(judge, folders, fields, [flips] * len(fields))) for flips in VIEWS
        }
        for flips, judged in views.items():
            say(f"{flips} view{'s' if flips > 1 else ''}", judged)
            heat = temperature(model.card, flips)
            if heat != 1:
                say(f"  temperature {heat}", [j.cooled(heat) for j in judged])
        if steps:
            found = list(pool.map(over_timesteps, folders, fields, views[1]))
            say(f"timesteps {model.card.timestep}, {TIMESTEPS}", found)
    return views


def unseen() -> list[Field]:
    """Images of a training list that no weights have seen."""
    return listed("labelled/monuseg", "splits/monuseg_train.txt", 0.25)[::5]


def held_out(model: Model) -> list[Field]:
    """Images of the model's training lists that its recipe left out, of known resolution."""
    sets = [LabelledSet(**part) for part in model.card.recipe["data"]["sets"]]
    found = [
        field
        for part in sets
        if part.mpp is not None and part.leave_out
        for field in listed(part.folder, part.list or "", part.mpp)
        if left_out(field.pair.name, part)
    ]
    if len(found) < 2:
        raise ConfigError(f"{model.path} was trained on every image of its lists; none is left")
    return found


def listed(folder: str, names: str, mpp: float) -> list[Field]:
    """Images of a list."""
    root = data_root("")
    stems = set(read_list(root / names))
    pairs = pair_folders(root / folder / "images", root / folder / "masks")
    return [Field(pair, mpp) for pair in pairs if pair.name in stems]


def predicted(model: Model, field: Field, segmenter: Any, flips: int = 1) -> RegionDone:
    """What the program says of an image."""
    picture = Picture(read_pair(field.pair)[0], field.mpp)
    profile = Profile(flips=flips)
    *_, done = predict_region(picture, model, segmenter, Region(0, 0, *picture.shape), profile)
    if not isinstance(done, RegionDone) or done.region.shape != picture.shape:
        raise ConfigError(f"{field.pair.name} is not of the model's resolution; leave it out")
    return done


def judge(folder: Path, field: Field, flips: int) -> Judged:
    """Compare the answer of the model in a folder with the truth, pixel by pixel."""
    model = read_model(folder)
    done = predicted(model, field, model.load(), flips)
    truth = read_pair(field.pair)[1].labels > 0
    right = (done.classes > 0) == truth
    return Judged(done.confidence.astype(np.float32).ravel(), right.ravel())


def judge_alone(folder: Path, field: Field, flips: int) -> Judged:
    """As :func:`judge`, without the surroundings of a pixel in its confidence."""
    share, confidence.OWN = confidence.OWN, 1.0
    try:
        return judge(folder, field, flips)
    finally:
        confidence.OWN = share


def over_timesteps(folder: Path, field: Field, known: Judged) -> Judged:
    """Confidence in the same labels averaged over timesteps."""
    model = read_model(folder)
    drawn = predicted(model, field, model.load()).classes > 0
    total = known.confidence.astype(np.float32)
    for timestep in TIMESTEPS:
        segmenter = model.load()
        segmenter.timestep = timestep
        other = predicted(model, field, segmenter)
        sure = other.confidence.astype(np.float32)
        total = total + np.where((other.classes > 0) == drawn, sure, 1 - sure).ravel()
    return replace(known, confidence=(total / (1 + len(TIMESTEPS))).astype(np.float32))


def joined(judged: Sequence[Judged]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """All pixels of some images."""
    return np.concatenate([j.confidence for j in judged]), np.concatenate([j.right for j in judged])


def calibrate(views: dict[int, list[Judged]]) -> Calibration:
    """Temperatures on all images; the error after them on images they were not fitted to."""
    before = calibration_error(*joined(views[1]))
    crossed, rights = [], []
    for fit, test in folds(views[1]):
        sure, right = joined(test)
        crossed.append(calibrated(sure, fit_temperature(*joined(fit))))
        rights.append(right)
    after = calibration_error(np.concatenate(crossed), np.concatenate(rights))
    heats = {str(flips): fit_temperature(*joined(judged)) for flips, judged in views.items()}
    return Calibration(
        temperature={name: round(heat, 3) for name, heat in heats.items()},  # type: ignore[misc]
        ece_before=round(before, 4),
        ece_after=round(after, 4),
        auroc=round(auroc(*joined(views[1])) or 0.0, 4),
        images=len(views[1]),
        data="images of training lists that were never trained on; two-fold cross-fitted",
    )


def folds(judged: list[Judged]) -> Iterator[tuple[list[Judged], list[Judged]]]:
    """Every second image to fit on, the others to measure, and the other way round."""
    yield judged[::2], judged[1::2]
    yield judged[1::2], judged[::2]


def say(name: str, judged: Sequence[Judged]) -> None:
    """Print what one way of measuring gives."""
    sure, right = joined(judged)
    error, rank = calibration_error(sure, right), auroc(sure, right)
    print(f"  {name:28} wrong {1 - right.mean():.4f}  ECE {error:.4f}  AUROC {rank or 0:.4f}")


def draw(judged: Sequence[Judged], heat: float, side: int = 360, edge: int = 46) -> Image.Image:
    """Reliability plot: share that is right against confidence, before (grey) and after (blue)."""
    picture = Image.new("RGB", (side + 2 * edge, side + 2 * edge), "white")
    pen = ImageDraw.Draw(picture)

    def at(x: float, y: float) -> tuple[float, float]:
        return edge + x * side, edge + (1 - y) * side

    pen.rectangle((*at(0, 1), *at(1, 0)), outline="#404040")
    pen.line((at(0, 0), at(1, 1)), fill="#b0b0b0")
    sure, right = joined(judged)
    rows = (("#888888", sure), ("#0072B2", calibrated(sure, heat)))
    for color, values in rows:
        points = [at(mean, share) for mean, share, n in reliability(values, right) if n > 200]
        pen.line(points, fill=color, width=3)
        for x, y in points:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color)
    pen.text((edge, side + edge + 8), "0", fill="black")
    pen.text((edge + side - 6, side + edge + 8), "1", fill="black")
    pen.text((edge + side / 2 - 30, side + edge + 8), "confidence", fill="black")
    pen.text((4, edge - 16), "share that is right", fill="black")
    pen.text((edge + 12, edge + 12), "grey: as the network says", fill="#666666")
    pen.text((edge + 12, edge + 28), f"blue: temperature {heat:.2f}", fill="#0072B2")
    return picture


if __name__ == "__main__":
    main()
