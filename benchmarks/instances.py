"""How fast touching objects are divided, and how well, against scikit-image's watershed.

Both get the same foreground, distance and markers. Times are those of the thread that computes
(neighbours on the machine cannot stretch them as much), for a view of 1024² pixels and what is read
around it. Accuracies are means over whole images of training lists; ``--lists`` names others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from report import Row, finish, parser
from scipy import ndimage
from skimage.segmentation import watershed

from napari_genselfdiff.evaluation.folders import pair_folders, read_pair
from napari_genselfdiff.evaluation.metrics import aji, panoptic
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.prediction.answers import Readable, TileReader, blended
from napari_genselfdiff.prediction.instances import foreground_mask, instances
from napari_genselfdiff.prediction.network import Network
from napari_genselfdiff.prediction.picture import Picture
from napari_genselfdiff.prediction.profile import Profile, available_cores
from napari_genselfdiff.prediction.tiles import model_downsample
from napari_genselfdiff.registry.card import ModelCard
from napari_genselfdiff.registry.folder import Model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide

VIEW = Region(700, 600, 1024, 1024)
AROUND = 64  # pixels beside a view that are divided with it
MPP = 0.25
FOLDERS = {"monuseg": "labelled/monuseg", "tnbc": "labelled/tnbc"}
EIGHT = np.ones((3, 3), np.int8)
Floats = NDArray[np.float32]
Divide = Callable[[Floats, Floats, ModelCard, float], NDArray[np.uint32]]


def ours(foreground: Floats, distance: Floats, card: ModelCard, mpp: float) -> NDArray[np.uint32]:
    """The package's own."""
    return instances(foreground, distance, foreground[None], card, mpp)[1]


def flooded(
    foreground: Floats, distance: Floats, card: ModelCard, mpp: float
) -> NDArray[np.uint32]:
    """Flooding from the same markers; foreground without any is labelled."""
    mask = foreground_mask(foreground, card, mpp)
    markers, count = ndimage.label(mask & (distance > card.marker_threshold), structure=EIGHT)
    found = np.asarray(watershed(-distance, markers, mask=mask, connectivity=2))  # type: ignore[no-untyped-call]
    rest, _ = ndimage.label(mask & (found == 0), structure=EIGHT)
    return np.where(rest > 0, rest + count, found).astype(np.uint32)


def maps(model: Model, network: Network, slide: Readable, region: Region) -> tuple[Floats, Floats]:
    """Foreground and distance of a region, as Predict computes them."""
    reader = TileReader(slide, model.card, model_downsample(slide.mpp, model.card.mpp_range))
    answers = []
    for tile in reader.needed(region):
        answers += reader.decide([tile], network(reader.read([tile])), preview=False)
    found = blended(answers, model.card, region)
    return found[:-2].sum(axis=0), found[-2]


def speed_rows(model: Model, network: Network, rounds: int) -> list[Row]:
    """Milliseconds of one thread."""
    with open_slide(sample_path("cmu_small_region")) as slide:
        mpp = slide.mpp or MPP
        foreground, distance = maps(model, network, slide, VIEW.padded(AROUND))
    times: dict[Divide, list[float]] = {ours: [], flooded: []}
    for _ in range(rounds + 1):
        for divide, spent in times.items():
            start = time.thread_time()
            divide(foreground, distance, model.card, mpp)
            spent.append(1e3 * (time.thread_time() - start))
    mine, theirs = times[ours][1:], times[flooded][1:]
    ratio = statistics.median(t / m for t, m in zip(theirs, mine, strict=True))
    return [
        Row("instances_region1024", statistics.median(mine), "ms", ratio, "scikit-image", rounds),
        Row("scikit_image_region1024", statistics.median(theirs), "ms", n=rounds),
    ]


def accuracy_rows(model: Model, network: Network, name: str, every: int) -> list[Row]:
    """True AJI and PQ of both on a list."""
    scores: dict[str, list[tuple[float, float]]] = {"instances": [], "scikit_image": []}
    for pixels, truth in images(name, every):
        region = Region(0, 0, *pixels.shape[:2])
        foreground, distance = maps(model, network, Picture(pixels, MPP), region)
        for case, divide in (("instances", ours), ("scikit_image", flooded)):
            found = divide(foreground, distance, model.card, MPP)
            scores[case].append((aji(found, truth), panoptic(found, truth).pq))
    rows = []
    for case, values in scores.items():
        for metric, value in zip(("aji", "pq"), np.mean(values, axis=0), strict=True):
            rows.append(Row(f"{case}_{metric}_{name}", 100 * float(value), "points", n=len(values)))
    return rows


def images(name: str, every: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.integer]]]:
    """Images of a list with their true objects."""
    root, folder = data_root(""), FOLDERS[name.split("_")[0]]
    stems = set(read_list(root / "splits" / f"{name}.txt"))
    pairs = pair_folders(root / folder / "images", root / folder / "masks")
    for pair in [p for p in pairs if p.name in stems][::every]:
        pixels, mask = read_pair(pair)
        yield pixels, mask.labels


def main() -> None:
    reader = parser("Speed and accuracy of dividing objects.")
    reader.add_argument("--lists", nargs="*", default=["monuseg_train", "tnbc_train"])
    asked = reader.parse_args()
    model = Registry().resolve("default")
    network = Network(model.load(), Profile(threads=available_cores()))
    rows = speed_rows(model, network, 3 if asked.quick else 15)
    for name in asked.lists:
        rows += accuracy_rows(model, network, name, 5 if asked.quick else 1)
    finish("instances", rows, asked.json)


if __name__ == "__main__":
    main()
