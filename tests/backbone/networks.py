"""Networks small enough for tests."""

from __future__ import annotations

from napari_genselfdiff.backbone.unet import UNetConfig

TINY = UNetConfig(
    preset="fast",
    dims=(8, 16),
    init_dim=8,
    patch=2,
    stem_kernel=3,
    attention=("none", "linear"),
    time="film",
    join_first_skip=True,
    head="shuffle",
)
