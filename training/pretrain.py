"""Pre-train a diffusion backbone: python -m training.pretrain RECIPE [KEY=VALUE ...] --out DIR.

The same as `genselfdiff pretrain`. On N GPUs: torchrun --nproc-per-node N -m training.pretrain ...
"""

from __future__ import annotations

import sys

from napari_genselfdiff.cli import app

if __name__ == "__main__":
    app(["pretrain", *sys.argv[1:]], prog_name="genselfdiff")
