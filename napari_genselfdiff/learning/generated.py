"""Tissue that never was: tiles drawn by the diffusion backbone and labelled by a model.

Practising on them instead of stored tiles keeps what a model knew without keeping anybody's image
(generative replay, Shin et al. 2017).
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.answered import Unlabelled, answered
from napari_genselfdiff.learning.objectives import Denoising
from napari_genselfdiff.registry.files import write_whole
from napari_genselfdiff.registry.folder import read_backbone
from napari_genselfdiff.registry.home import cache_home
from napari_genselfdiff.registry.registry import bundled_backbone

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.learning.corrections import CorrectionTile
    from napari_genselfdiff.registry.folder import Backbone, Model

COUNT: Final = 24
SIDE: Final = 192
_AT_ONCE: Final = 4


def generated_tiles(model: Model) -> list[CorrectionTile]:
    """Practice tiles for a model; drawn by the shipped backbone once, labelled each time."""
    return labelled(_kept_images(read_backbone(bundled_backbone())), model)


def _kept_images(backbone: Backbone) -> NDArray[np.uint8]:
    """The backbone's images from the cache; drawn anew where they are missing or damaged."""
    path = cache_home() / "generated" / f"{backbone.hash[:32]}.npy"
    shape = (COUNT, SIDE, SIDE, 3)
    with contextlib.suppress(OSError, ValueError):
        found = np.load(path, allow_pickle=False)
        if found.shape == shape and found.dtype == np.uint8:
            return np.asarray(found)
    images = generated_images(backbone, COUNT, SIDE)
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    with contextlib.suppress(OSError):  # a full disk costs the time to draw them again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getvalue())
    return images


def generated_images(
    backbone: Backbone, count: int, side: int, *, seed: int = 0
) -> NDArray[np.uint8]:
    """Tissue from pure noise by 50 DDIM steps, ``(count, side, side, 3)``.

    Raises
    ------
    ConfigError
        If the backbone learned another pretext than Gaussian diffusion.
    """
    card = backbone.card
    if card.schedule == "masked":
        raise ConfigError(f"the backbone {card.name} learned to fill in, not to draw from noise")
    # type: pydantic checks the name of the schedule
    noise = NoiseConfig(schedule=card.schedule, timesteps=card.timesteps)  # type: ignore[arg-type]
    pretext = Denoising(NoiseSchedule(noise), prediction=card.prediction, seed=seed)
    network = backbone.load()
    drawn = [
        pretext.generate(network, range(start, min(start + _AT_ONCE, count)), (3, side, side))
        for start in range(0, count, _AT_ONCE)
    ]
    pixels = (torch.cat(drawn) + 1) * 127.5
    return np.asarray(pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


def labelled(images: NDArray[np.uint8], model: Model) -> list[CorrectionTile]:
    """Images with what a model says of them as the truth, at the middle of its µm/px range."""
    low, high = model.card.mpp_range
    mpp = (low * high) ** 0.5
    drawn = (Unlabelled(image, mpp, f"generated:{number}") for number, image in enumerate(images))
    return answered(drawn, model.load(), model.card.task)
