"""What Refine is compared with: a scratch network, a random forest, scikit-image's segmenter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import Values
from numpy.typing import NDArray
from refine_lab import Lab, corrected_run, corrections, restained, shifted_pair
from report import Row, points

from napari_genselfdiff.backbone.heads import Segmenter, build_segmenter
from napari_genselfdiff.evaluation.metrics import dice
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.learning.first import FIRST
from napari_genselfdiff.learning.simulation import Picture, halves, refine_once
from napari_genselfdiff.registry.folder import Model, read_model, write_model

VIEWS_OF_A_PICTURE = 3  # there is room for in the half that is corrected
RIVALS = ("scratch", "forest", "skimage")
_MOST_PIXELS = 40_000  # a forest learns from; more only take longer
_INHERITED = ("task", "mpp_range", "tile", "halo", "min_object_um2")


def rival_run(lab: Lab, number: int, views: int) -> Values:
    """Dice of Refine and of its rivals, 0-1.

    All get the same corrections, and what learns by steps the same time.
    """
    count = -(-views // VIEWS_OF_A_PICTURE)
    names = [lab.names[(7 * number + i) % len(lab.names)] for i in range(count)]
    pictures = [restained(lab.picture(name)) for name in names]
    ours = corrected_run(lab, number, pictures, f"rivals-{views}", views)
    tiles = corrections(lab, number, pictures, views)
    start = scratch(lab.model, lab.place("scratch", views, number), number)
    # random weights know nothing that would have to be changed slowly
    config = replace(FIRST, budget_s=lab.budget_s, seed=number, layer_decay=1.0)
    out = lab.place("scratch-refined", views, number)
    fresh = refine_once(start, start, tiles, lab.profile, config, out)
    return {
        **ours,
        "scratch": lab.dice(pictures, read_model(fresh.model)),
        "forest": _untouched(lambda image: forest(tiles, image, lab.model), pictures),
        "skimage": _untouched(lambda image: skimage_segmenter(tiles, image), pictures),
    }


def long_run(lab: Lab, number: int) -> Values:
    """Dice of ten minutes of fine-tuning on three views, all weights, nothing held back, 0-1."""
    _, picture = shifted_pair(lab, number)
    tiles = corrections(lab, number, [picture])
    config = replace(
        lab.settings(number),
        budget_s=20 * lab.budget_s,
        most_steps=100_000,
        practice="none",
        blends=(1.0,),
    )
    out = lab.place("long", number)
    result = refine_once(lab.model, lab.model, tiles, lab.profile, config, out)
    found = lab.dice([picture], read_model(result.model))
    return {"long": found, "patches": result.images_seen, "seconds": result.seconds}


def _untouched(
    segment: Callable[[NDArray[np.uint8]], NDArray[Any]], pictures: Sequence[Picture]
) -> float:
    """Mean Dice on the halves that nobody corrected."""
    found = []
    for picture in pictures:
        half = halves(picture.classes.shape)[1].slices
        found.append(dice(segment(picture.image[half]), picture.classes[half]))
    return float(np.mean(found))


def rival_rows(runs: Sequence[Values], views: int) -> Iterator[Row]:
    """Refine minus its rivals."""
    for name in RIVALS if runs else ():
        yield _lead(f"vs_{name}_{views}_tiles", runs, [run[name] for run in runs])


def long_rows(ours: dict[int, Values], longer: dict[int, Values]) -> Iterator[Row]:
    """Refine minus ten minutes of fine-tuning on the same views."""
    both = sorted(ours.keys() & longer.keys())
    if both:
        theirs = [longer[number]["long"] for number in both]
        yield _lead("vs_ten_minutes_3_tiles", [ours[number] for number in both], theirs)


def _lead(case: str, runs: Sequence[Values], dice: Sequence[float]) -> Row:
    """Refine, in use after the comparison, minus another way to learn."""
    ours, theirs = np.array([run["in_use"] for run in runs]), np.array(dice)
    said = f"{100 * theirs.mean():.1f} points, Refine {100 * ours.mean():.1f}"
    return points(case, ours - theirs, said)


def scratch(like: Model, folder: Path, seed: int) -> Model:
    """The same network with random weights."""
    torch.manual_seed(seed)
    network = like.load()
    fresh = build_segmenter(network.config, network.n_classes, network.timestep)
    return write_model(folder, {k: getattr(like.card, k) for k in _INHERITED}, fresh)


def forest(tiles: list[CorrectionTile], image: NDArray[np.uint8], model: Model) -> NDArray[Any]:
    """Classes of ``image`` by a random forest on the features the model's head reads."""
    network = model.load()
    learnt = _fitted([(network_features(network, t.image), t) for t in tiles])
    return _predicted(learnt, network_features(network, image))


def skimage_segmenter(tiles: list[CorrectionTile], image: NDArray[np.uint8]) -> NDArray[Any]:
    """Classes of ``image`` by scikit-image's trainable segmenter: filters and a random forest."""
    learnt = _fitted([(filter_features(t.image), t) for t in tiles])
    return _predicted(learnt, filter_features(image))


def network_features(network: Segmenter, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Last decoder level of a network for every pixel, ``(H, W, C)``."""
    import torch.nn.functional as F

    height, width = image.shape[:2]
    multiple = network.config.multiple
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 127.5 - 1
    x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    with torch.inference_mode():
        features = network.unet(x, network.times(x))
        features = F.interpolate(features, x.shape[-2:], mode="bilinear")
    return np.asarray(features[0, :, :height, :width].permute(1, 2, 0).numpy())


def filter_features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Intensities, edges and textures at several scales, ``(H, W, C)``; scikit-image's set."""
    from skimage.feature import multiscale_basic_features

    return np.asarray(
        multiscale_basic_features(image, sigma_min=1, sigma_max=16, channel_axis=-1), np.float32
    )


def _fitted(parts: list[tuple[NDArray[np.float32], CorrectionTile]]) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    x = np.concatenate([features[tile.known] for features, tile in parts])
    y = np.concatenate([tile.classes[tile.known] for _, tile in parts])
    chosen = np.random.default_rng(0).permutation(len(x))[:_MOST_PIXELS]
    learnt = RandomForestClassifier(n_estimators=100, max_depth=16, n_jobs=-1, random_state=0)
    return learnt.fit(x[chosen], y[chosen])


def _predicted(learnt: Any, features: NDArray[np.float32]) -> NDArray[Any]:
    flat = features.reshape(-1, features.shape[-1])
    parts = [learnt.predict(part) for part in np.array_split(flat, max(len(flat) // 200_000, 1))]
    return np.concatenate(parts).reshape(features.shape[:2])
