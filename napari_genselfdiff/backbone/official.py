"""Names of the released GenSelfDiff-HIS code, mapped to ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_genselfdiff.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_BLOCK = {
    "mlp.1": "time",
    "block1.proj": "conv1",
    "block1.norm": "norm1",
    "block2.proj": "conv2",
    "block2.norm": "norm2",
    "res_conv": "shortcut",
}
_ATTENTION = {
    "fn.norm": "norm",
    "fn.fn.to_qkv": "qkv",
    "fn.fn.to_out.0": "out",
    "fn.fn.to_out.1": "out_norm",
    "fn.fn.to_out": "out",
}


def our_name(official: str) -> str:
    """Our parameter name for one of the official code; ModelFileError when it has none.

    Our names have the prefixes ``unet.`` and ``head.`` of :class:`heads.Denoiser`.
    """
    name = official.removeprefix("net.")
    stem, _, kind = name.rpartition(".")
    top = {
        "init_conv": "unet.stem",
        "time_mlp.1": "unet.time_embedding.expand",
        "time_mlp.3": "unet.time_embedding.project",
        "final_conv.1": "head.out",
    }
    if stem in top:
        return f"{top[stem]}.{kind}"
    patterns = {
        r"downs\.(\d)\.(0|1)\.(.+)": ("unet.encoder.{0}.block{1}.", _BLOCK),
        r"downs\.(\d)\.2\.(.+)": ("unet.encoder.{0}.attention.", _ATTENTION),
        r"ups\.(\d)\.(0|1)\.(.+)": ("unet.decoder.{0}.block{1}.", _BLOCK),
        r"ups\.(\d)\.2\.(.+)": ("unet.decoder.{0}.attention.", _ATTENTION),
        r"mid_block(1|2)\.(.+)": ("unet.middle{0}.", _BLOCK),
        r"mid_attn\.(.+)": ("unet.middle_attention.", _ATTENTION),
        r"final_conv\.0\.(.+)": ("head.block.", _BLOCK),
        r"downs\.(\d)\.3": ("unet.down.{0}", {}),
        r"ups\.(\d)\.3": ("unet.up.{0}", {}),
    }
    for pattern, (ours, parts) in patterns.items():
        match = re.fullmatch(pattern, stem)
        if match is None:
            continue
        groups = list(match.groups())
        part = groups.pop() if parts else None
        if len(groups) == 2:
            groups[1] = str(int(groups[1]) + 1)
        if part is None:
            return f"{ours.format(*groups)}.{kind}"
        if part in parts:
            return f"{ours.format(*groups)}{parts[part]}.{kind}"
    raise ModelFileError(f"{official!r} is not a parameter of the official network")


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official state dict under our names."""
    return {our_name(name): tensor for name, tensor in state.items()}
