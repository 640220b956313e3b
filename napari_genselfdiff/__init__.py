"""Interactive annotation of whole-slide histology with a diffusion-pre-trained segmenter."""

from __future__ import annotations

__version__ = "0.1.0"
