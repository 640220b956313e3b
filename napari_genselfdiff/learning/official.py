"""Take in pre-trained weights of the released GenSelfDiff-HIS code (``.pth``)."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.noise import NoiseConfig
from napari_genselfdiff.backbone.official import from_official
from napari_genselfdiff.backbone.unet import PRESETS, UNetConfig
from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.learning.checkpoint import load_tensors
from napari_genselfdiff.registry.folder import Backbone, write_backbone

if TYPE_CHECKING:
    from pathlib import Path

_ANCHOR = "init_conv.weight"
_MAX_BYTES = 2 * 1024**3


def import_backbone(file: Path, out: Path) -> Backbone:
    """Write the folder of a backbone from a released checkpoint.

    Parameters
    ----------
    file
        A state dict, or a dict that holds one, as ``torch.save`` writes it. Only tensors and
        plain values are read from it; nothing in it is ever run.
    out
        Folder to write.

    Raises
    ------
    ModelFileError
        If the file is no such checkpoint, or one of another network.
    """
    state = from_official(_network(_read(file), file))
    model = Denoiser(_config(state, file))
    wanted = model.state_dict()
    wrong = [k for k in wanted if k not in state or state[k].shape != wanted[k].shape]
    if wrong or state.keys() - wanted.keys():
        raise ModelFileError(
            f"{file} is not the released network for pre-training ({len(wrong)} "
            "of its parameters are missing or have another shape)"
        )
    model.load_state_dict({k: v.float() for k, v in state.items()})
    schedule = NoiseConfig()
    fields = {
        "name": out.name,
        "schedule": schedule.schedule,
        "timesteps": schedule.timesteps,
        "prediction": "epsilon",
        "weighting": "p2",
        "mpp_range": (0.25, 0.25),
        "images_seen": 0,
        "notes": f"Imported from {file.name}, weights of the released GenSelfDiff-HIS code. It was "
        "trained on images scaled to 0-1; how many it saw is not known.",
    }
    return write_backbone(out, fields, model)


def _read(file: Path) -> object:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ModelFileError(f"{file} is larger than the released network can be")
        saved: object = load_tensors(file)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as err:
        if isinstance(err, ModelFileError):
            raise
        first = (str(err).splitlines() or [type(err).__name__])[0]
        raise ModelFileError(f"{file} cannot be read as weights of PyTorch: {first}") from err
    return saved


def _network(saved: object, file: Path) -> dict[str, Tensor]:
    """The network's tensors, freed of whatever training code wrapped around them."""
    values = saved
    while isinstance(values, Mapping) and not any(str(k).endswith(_ANCHOR) for k in values):
        inner: list[Any] = [v for v in values.values() if isinstance(v, Mapping)]
        values = next((v for v in inner if any("." in str(k) for k in v)), None)
    if not isinstance(values, Mapping):
        raise ModelFileError(f"{file} holds no network of the released GenSelfDiff-HIS code")
    prefix = next(str(k) for k in values if str(k).endswith(_ANCHOR)).removesuffix(_ANCHOR)
    return {
        str(k).removeprefix(prefix): v
        for k, v in values.items()
        if str(k).startswith(prefix) and isinstance(v, Tensor)
    }


def _config(state: Mapping[str, Tensor], file: Path) -> UNetConfig:
    """The paper's network with the channels that the weights have."""
    stem = state.get("unet.stem.weight")
    levels: list[int] = []
    while (conv := state.get(f"unet.encoder.{len(levels)}.block1.conv1.weight")) is not None:
        levels.append(int(conv.shape[0]))
    paper = PRESETS["paper"]
    if stem is None or stem.ndim != 4 or len(levels) != len(paper.dims) or max(levels) > 4096:
        raise ModelFileError(f"{file} is not the released network for pre-training")
    return replace(paper, dims=tuple(levels), init_dim=int(stem.shape[0]))
