"""Measure how far the network looks: python -m training.reach [MODEL] [--places N].

Two tiles of the model's size, half a tile apart, see the same pixels: near the border of one they
lie in the middle of the other. Printed is how much the two disagree by the distance to the border.
It falls over the network's effective reach and then stays at a floor that no halo can lower,
because the normalisations see the statistics of the whole tile. The halo in a model's card has to
be at least the reach.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_genselfdiff.prediction.network import Network
from napari_genselfdiff.prediction.profile import Profile, available_cores
from napari_genselfdiff.registry.folder import read_model
from napari_genselfdiff.registry.registry import BUNDLED
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide

SLIDES = {"tnbc_pyramid": 512, "cmu_small_region": 2048}
"""Samples, and the side of the fields they are joined from: no pair of tiles crosses a seam."""
ABOVE_FLOOR = 1.15
SMOOTH = 4  # pixels over which the curve is averaged


def main() -> None:
    """Print the curve and the reach."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED / "nuclei")
    parser.add_argument("--places", type=int, default=24, help="pairs of tiles per slide")
    asked = parser.parse_args()
    model = read_model(asked.model)
    network = Network(model.load(), Profile(threads=available_cores()))
    side = model.card.tile
    total, flipped = np.zeros(side // 2), np.zeros(side // 2)
    for name, field in SLIDES.items():
        with open_slide(sample_path(name)) as slide:
            for left, right in pairs(slide, side, field, asked.places):
                difference, flips = disagreement(network, left, right)
                total += difference
                flipped += flips
    n = asked.places * len(SLIDES)
    curve = np.convolve(total / n, np.ones(SMOOTH) / SMOOTH, mode="valid")
    floor = float(np.median(curve[len(curve) // 2 :]))
    reach = int(np.argmax(curve <= ABOVE_FLOOR * floor)) + SMOOTH // 2
    for distance in (0, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64):
        if distance < side // 2:
            print(
                f"{distance:3} px from the border: mean difference {total[distance] / n:.4f}, "
                f"other decision {100 * flipped[distance] / n:.2f} % of pixels"
            )
    print(f"floor {floor:.4f}; effective reach {reach} px; the card's halo is {model.card.halo} px")


def pairs(slide: Any, side: int, field: int, places: int) -> list[tuple[Any, Any]]:
    """Tiles half a tile apart, at random places of the fields of a slide."""
    rng = np.random.default_rng(0)
    height, width = slide.shape
    found: list[tuple[Any, Any]] = []
    while len(found) < places:
        y0 = int(rng.integers(0, max(height // field, 1))) * field
        x0 = int(rng.integers(0, max(width // field, 1))) * field
        y = y0 + int(rng.integers(0, min(field, height) - side + 1))
        x = x0 + int(rng.integers(0, min(field, width) - 3 * side // 2 + 1))
        tiles = [slide.read(Region(y, x + shift, side, side)) for shift in (0, side // 2)]
        if tiles[0].mean() < 225:  # tissue
            found.append((tiles[0], tiles[1]))
    return found


def disagreement(
    network: Network, left: NDArray[np.uint8], right: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean difference and share of other decisions by distance to the nearer border.

    Rows near the upper and lower borders of both tiles are left out.
    """
    half = left.shape[1] // 2
    one = 1 - network(left[None]).classes[0, 0][:, half:]
    two = 1 - network(right[None]).classes[0, 0][:, :half]
    rows = slice(left.shape[0] // 4, -left.shape[0] // 4)
    difference = np.abs(one - two)[rows].mean(axis=0)
    flips = ((one >= 0.5) != (two >= 0.5))[rows].mean(axis=0)
    # The border of one tile is on the right, that of the other on the left.
    return (difference + difference[::-1]) / 2, (flips + flips[::-1]) / 2


if __name__ == "__main__":
    main()
