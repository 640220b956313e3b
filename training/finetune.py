"""Fine-tune a backbone for a task: python -m training.finetune RECIPE [KEY=VALUE ...] --out DIR.

The same as `genselfdiff finetune`. On N GPUs: torchrun --nproc-per-node N -m training.finetune ...
"""

from __future__ import annotations

import sys

from napari_genselfdiff.cli import app

if __name__ == "__main__":
    app(["finetune", *sys.argv[1:]], prog_name="genselfdiff")
