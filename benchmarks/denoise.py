"""What backbones make of noised tissue: squared error, SSIM and fine detail of the mended tiles.

    python benchmarks/denoise.py bundled runs/mine

The tiles are cut from training lists that no shipped backbone learns from (MoNuSeg at 0.25 and
0.5 µm/px, GlaS at 0.62), and noised to t = 100, 250 and 500 of 1,000 with the same noise for all.
``once`` is one pass of the network, ``ddim`` the steps that ``progress.png`` shows. ``detail`` is
the deviation of what is finer than two pixels as a share of the real tile's: above 100 % there is
grain, below it the tile is blurred. ``box`` is the reference anybody can make: the mean over the
square of pixels that leaves the smallest error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from report import Row, finish, parser
from torch import Tensor, nn

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule, Prediction, Schedule
from napari_genselfdiff.backbone.sampler import ddim
from napari_genselfdiff.backbone.weights import read_weights
from napari_genselfdiff.evaluation.folders import pair_folders, read_pair
from napari_genselfdiff.learning.losses import similarity
from napari_genselfdiff.learning.objectives import Denoising
from napari_genselfdiff.learning.recipe import PretrainRecipe, data_root
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.learning.start import preset, start_file
from napari_genselfdiff.registry.folder import CARD_FILE, read_backbone

SIDE, BATCH, SEED = 128, 16, 5
TIMES = (100, 250, 500)
# Folder, list and the factors by which its images are made smaller.
SETS = (
    ("labelled/monuseg", "splits/monuseg_train.txt", (1, 2)),
    ("labelled/glas", "splits/glas_train.txt", (1,)),
)
Learnt = tuple[nn.Module, NoiseSchedule, Prediction]


def main() -> None:
    reader = parser("How well backbones mend noised tissue.")
    reader.add_argument("backbones", nargs="+", help="bundled, folders or runs")
    args = reader.parse_args()
    tiles = real_tiles(6 if args.quick else 30)
    found = [row for name in args.backbones for row in rows(name, tiles)]
    finish("denoise", [*box_rows(tiles), *found], args.json)


def rows(name: str, tiles: Tensor) -> Iterator[Row]:
    """Every measure of one backbone at every timestep."""
    learnt = read_learnt(start_file(name).parent)
    few = tiles[::4]
    for t in TIMES:
        case, steps = f"{Path(name).name} t={t}", max(1, round(50 * t / 1000))
        once = torch.cat([mend(learnt, tiles, at, t, steps=1) for at in starts(tiles)])
        slow = torch.cat([mend(learnt, few, at, t, steps=steps) for at in starts(few)])
        yield from measures(f"{case} once", once, tiles)
        yield from measures(f"{case} ddim", slow, few)


def box_rows(tiles: Tensor) -> Iterator[Row]:
    """The same measures of plain averaging, which knows nothing of tissue."""
    schedule = NoiseSchedule(NoiseConfig())
    for t in TIMES:
        noised = torch.cat([add_noise(schedule, tiles, at, t) for at in starts(tiles)])
        plain = noised / schedule.alpha_bar[t].sqrt().float()
        blurred = [box(plain, side) for side in range(1, 16, 2)]
        best = min(blurred, key=lambda mended: float((mended - tiles).square().mean()))
        yield from measures(f"box t={t}", best.clamp(-1, 1), tiles)


def measures(case: str, mended: Tensor, real: Tensor) -> Iterator[Row]:
    """Squared error, SSIM and fine detail of mended tiles."""
    error, n = (mended - real).square().mean(), len(real)
    yield Row(f"{case} squared error", 1000 * float(error), "1e-3", n=n)
    yield Row(f"{case} ssim", 100 * float(similarity(mended, real).mean()), "%", n=n)
    share = fine(mended).std() / fine(real).std()
    yield Row(f"{case} detail", 100 * float(share), "% of real", n=n)


def starts(tiles: Tensor) -> range:
    """First tile of every batch."""
    return range(0, len(tiles), BATCH)


def mend(learnt: Learnt, tiles: Tensor, at: int, t: int, *, steps: int) -> Tensor:
    """What a backbone makes of one batch of tiles, noised to ``t``; noise by tile number."""
    model, schedule, prediction = learnt
    noised = add_noise(schedule, tiles, at, t)
    return ddim(model, schedule, noised, start=t, steps=steps, prediction=prediction)


def add_noise(schedule: NoiseSchedule, tiles: Tensor, at: int, t: int) -> Tensor:
    """A batch of tiles, noised to ``t``; the noise depends on the tile's number."""
    real = tiles[at : at + BATCH]
    indices = range(at, at + len(real))
    noise, _ = Denoising(schedule, seed=SEED).draw(indices, tuple(real.shape[1:]))
    return schedule.add_noise(real, noise, torch.full((len(real),), t))


def fine(images: Tensor) -> Tensor:
    """What is finer than two pixels: the image less the mean of every 3 × 3 pixels."""
    return images - box(images, 3)


def box(images: Tensor, side: int) -> Tensor:
    """Mean of the square of ``side`` pixels (odd) around every pixel."""
    reach = side // 2
    return F.avg_pool2d(F.pad(images, (reach,) * 4, mode="reflect"), side, stride=1)


def read_learnt(folder: Path) -> Learnt:
    """Network, schedule and prediction of a backbone, or of a run that is not finished."""
    if (folder / CARD_FILE).exists():
        card = (backbone := read_backbone(folder)).card
        config = NoiseConfig(schedule=cast(Schedule, card.schedule), timesteps=card.timesteps)
        return backbone.load(), NoiseSchedule(config), card.prediction
    recipe = PretrainRecipe.model_validate(json.loads((folder / "recipe.json").read_text()))
    model = Denoiser(preset(recipe.preset)).eval()
    read_weights(folder / "weights.safetensors", model)
    return model, NoiseSchedule(recipe.noise), recipe.prediction


def real_tiles(count: int) -> Tensor:
    """Central tiles ``(B, 3, SIDE, SIDE)`` in [-1, 1] of ``count`` images of each list."""
    root, found = data_root(""), []
    for folder, names, factors in SETS:
        pairs = {p.name: p for p in pair_folders(root / folder / "images", root / folder / "masks")}
        for stem in sorted(read_list(root / names))[:count]:
            image = torch.from_numpy(np.array(read_pair(pairs[stem])[0]))
            image = image.permute(2, 0, 1).float() / 127.5 - 1
            found += [_centre(F.avg_pool2d(image[None], by)[0]) for by in factors]
    return torch.stack(found)


def _centre(image: Tensor) -> Tensor:
    top, left = ((side - SIDE) // 2 for side in image.shape[-2:])
    return image[:, top : top + SIDE, left : left + SIDE]


if __name__ == "__main__":
    main()
