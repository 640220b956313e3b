"""The sample slides that ship with the package; `SOURCES.md` names their origin and licence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Literal, get_args
from uuid import uuid4

from napari_genselfdiff.errors import ConfigError

SampleName = Literal["cmu_small_region", "tnbc_pyramid", "tnbc_pyramid_masks"]
"""What ships: a slide to look at, a slide with labels, and those labels (16-bit instance map)."""

_FILES: Final[dict[str, str]] = {
    "cmu_small_region": "CMU-1-Small-Region.svs",
    "tnbc_pyramid": "tnbc_pyramid.ome.tif",
    "tnbc_pyramid_masks": "tnbc_pyramid_masks.png",
}
FIELD: Final = 512
"""Side in pixels of one field of the labelled slide, which is a 3 x 4 grid of fields."""


def sample_path(name: SampleName | str) -> Path:
    """Return where a shipped sample lies; read it, but write nothing beside it.

    Raises
    ------
    ConfigError
        If there is no such sample.
    """
    if name not in _FILES:
        raise ConfigError(
            f"there is no sample called {name!r}; choose one of {', '.join(get_args(SampleName))}"
        )
    return Path(__file__).parent / _FILES[name]


def copy_sample(name: SampleName | str, folder: str | Path) -> Path:
    """Return a copy of a sample in ``folder``, so that annotations can lie beside it.

    A copy of the right size that is already there is kept.
    """
    source = sample_path(name)
    target = Path(folder) / source.name
    if target.is_file() and target.stat().st_size == source.stat().st_size:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
