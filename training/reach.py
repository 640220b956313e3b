"""Measure how far the network looks: python -m training.reach [MODEL] [--grids].

The right quarter of a tile is replaced by the mirror image of what lies beside it, so that pixels
see other tissue from a known distance on, while the tile's statistics stay what they are. Printed
is how much the answer changes by the distance. It falls over the network's effective reach, the
distance from which on it stays within ``ABOVE_FLOOR`` of its floor: what is left there comes
through the normalisations, which see the whole tile, and no halo can lower it. The halo in a
model's card has to be at least the reach.

``--grids`` also segments images twice, on two grids of tiles half a core apart, for several halos:
how often the two disagree, how good each is, and what it costs. It takes some minutes.

The images are those of the MoNuSeg training list, which no weights have seen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_genselfdiff.evaluation.folders import read_pair
from napari_genselfdiff.evaluation.metrics import aji, dice
from napari_genselfdiff.prediction.network import Network
from napari_genselfdiff.prediction.picture import Picture
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import RegionDone, predict_region
from napari_genselfdiff.registry.card import ModelCard
from napari_genselfdiff.registry.folder import Model, read_model
from napari_genselfdiff.registry.registry import BUNDLED
from napari_genselfdiff.slides.geometry import Region
from training.calibrate import Field, listed

Pixels = NDArray[np.uint8]

LIST = ("labelled/monuseg", "splits/monuseg_train.txt", 0.25)
ABOVE_FLOOR = 1.15
DISTANCES = (0, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64, 96)
SMOOTH = 4  # pixels over which the curve is averaged
GRIDS = ((288, 8), (288, 16), (304, 24), (288, 24), (320, 32))


@dataclass(frozen=True)
class Resized:
    """A model's card with another tile and halo."""

    card: ModelCard


def main() -> None:
    """Print the curve and the reach and, if asked for, the table of halos."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED / "nuclei")
    parser.add_argument("--grids", action="store_true", help="also compare halos")
    asked = parser.parse_args()
    model, fields = read_model(asked.model), listed(*LIST)
    print_curve(model, fields)
    if asked.grids:
        print_grids(model, fields[::6])


def print_curve(model: Model, fields: list[Field]) -> None:
    """Print the change by distance, and the reach."""
    network = Network(model.load(), Profile())
    found = [altered(network, tile) for tile in tiles(fields, model.card.tile)]
    change = np.mean([one for one, _ in found], axis=0)
    flips = np.mean([other for _, other in found], axis=0)
    floor = float(np.median(change[len(change) // 2 :]))
    smooth = np.convolve(change, np.ones(SMOOTH) / SMOOTH, mode="valid")
    beyond = np.flatnonzero(smooth > ABOVE_FLOOR * floor)
    reach = int(beyond[-1]) + 1 if beyond.size else 0
    print(f"{len(found)} tiles of {model.card.tile} px")
    for distance in DISTANCES:
        print(
            f"{distance:3} px away: mean change {change[distance]:.4f}, "
            f"other decision {100 * flips[distance]:.2f} % of pixels"
        )
    print(f"floor {floor:.4f}; effective reach {reach} px; the card's halo is {model.card.halo} px")


def tiles(fields: list[Field], side: int) -> Iterator[Pixels]:
    """The corners of every image, turned so that the altered side is another one each time."""
    for field in fields:
        pixels = read_pair(field.pair)[0]
        for turn, (y, x) in enumerate(((0, 0), (0, -side), (-side, 0), (-side, -side))):
            tile = pixels[y % pixels.shape[0] :, x % pixels.shape[1] :][:side, :side]
            yield np.ascontiguousarray(np.rot90(tile, turn))


def altered(network: Network, tile: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean change and share of other decisions by distance to the altered quarter of a tile.

    Rows near the upper and lower borders are left out.
    """
    cut = tile.shape[1] * 3 // 4
    other = tile.copy()
    other[:, cut:] = tile[:, cut - 1 : 2 * cut - tile.shape[1] - 1 : -1]
    one, two = (1 - network(t[None]).classes[0, 0][:, :cut] for t in (tile, other))
    rows = slice(tile.shape[0] // 8, -tile.shape[0] // 8)
    change = np.abs(one - two)[rows].mean(axis=0)
    flips = ((one >= 0.5) != (two >= 0.5))[rows].mean(axis=0)
    return change[::-1], flips[::-1]


def print_grids(model: Model, fields: list[Field]) -> None:
    """Print what halos cost and bring."""
    print(f"{len(fields)} images, two grids half a core apart")
    print("tile halo   disagree %   Dice    AJI    s per image")
    for side, halo in GRIDS:
        resized = Resized(model.card.model_copy(update={"tile": side, "halo": halo}))
        rows = [two_grids(model, resized, field) for field in fields]
        disagree, overlap, objects, seconds = np.mean(rows, axis=0)
        print(
            f"{side:4} {halo:4} {100 * disagree:11.3f} {100 * overlap:8.2f} "
            f"{100 * objects:6.2f} {seconds:10.2f}"
        )


def two_grids(model: Model, resized: Resized, field: Field) -> tuple[float, float, float, float]:
    """Share of pixels that differ, mean Dice and AJI of the two, processor seconds of one."""
    pixels, mask = read_pair(field.pair)
    truth, half = mask.labels, resized.card.tile // 2 - resized.card.halo
    start = time.process_time()
    found = [shifted(model, resized, pixels, field.mpp, shift) for shift in (0, half)]
    seconds = (time.process_time() - start) / 2
    overlap = np.mean([dice(done.classes > 0, truth > 0) for done in found])
    objects = np.mean([aji(done.objects, truth) for done in found if done.objects is not None])
    differ = (found[0].classes != found[1].classes).mean()
    return float(differ), float(overlap), float(objects), seconds


def shifted(model: Model, resized: Resized, pixels: Pixels, mpp: float, shift: int) -> RegionDone:
    """Segment an image that begins ``shift`` pixels after the origin of the grid."""
    padded = np.pad(pixels, ((shift, 0), (shift, 0), (0, 0)), "reflect")
    region = Region(shift, shift, *pixels.shape[:2])
    profile = Profile()
    *_, done = predict_region(Picture(padded, mpp), resized, model.load(), region, profile)
    assert isinstance(done, RegionDone)
    return done


if __name__ == "__main__":
    main()
