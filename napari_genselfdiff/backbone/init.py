"""How the weights of a new network are drawn."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Init = Literal["default", "released"]


@torch.no_grad()
def initialise(module: nn.Module, how: Init) -> None:
    """Draw a module's weights anew, in place, from the global generator.

    ``default`` leaves what PyTorch drew. ``released`` is what the released code of
    GenSelfDiff-HIS does: the weights of every convolution and the scale of every group
    normalisation from N(0, 0.01²), so that every block starts almost switched off.
    """
    if how == "default":
        return
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm)):
            part.weight.normal_(0, 0.01)
