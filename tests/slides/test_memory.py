"""Ten thousand reads leave no more memory taken than a thousand, measured by the system."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.slides.test_colors import profile

READS = """
import sys
from pathlib import Path
import numpy as np
import psutil
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.openslide_reader import open_with_openslide
from napari_genselfdiff.slides.slide import Slide, open_slide
path, reader, colors = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
slide = open_slide(path)
if reader == "openslide":
    slide = Slide(path, open_with_openslide(path, "generic"))
slide = slide.in_colors(colors)
assert slide.reader == reader
rng = np.random.default_rng(0)
height, width = slide.shape
for number in range(10_001):
    y, x = (int(n) for n in rng.integers(-200, (height, width)))
    slide.read(Region(y, x, 256, 256), float(rng.choice([1.0, 1.0, 2.0, 3.3])))
    if number % 1000 == 0:
        print(psutil.Process().memory_info().rss // 2**20, flush=True)
assert slide.damaged_tiles == 0
"""


def write(path: Path, tissue: np.ndarray[Any, Any]) -> Path:
    """A pyramid of 400 MB of pixels, more than the cache of tiles holds."""
    whole = np.tile(tissue, (11, 12, 1))
    with tifffile.TiffWriter(path) as tif:
        for step in (1, 2, 4):
            tif.write(
                np.ascontiguousarray(whole[::step, ::step]),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(step > 1),
                iccprofile=profile() if step == 1 else None,
                metadata=None,
            )
    return path


@pytest.mark.timeout(3600)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "colors"), [("tiff", "stored"), ("tiff", "srgb"), ("openslide", "stored")]
)
def test_memory_is_flat(
    tmp_path: Path, make_tissue: Callable[..., Any], reader: str, colors: str
) -> None:
    pytest.importorskip("psutil")
    if reader == "openslide":
        pytest.importorskip("openslide")
    slide = write(tmp_path / "a.tif", make_tissue(1000, 1000)[0])
    done = subprocess.run(
        [sys.executable, "-c", READS, str(slide), reader, colors],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    taken = [int(line) for line in done.stdout.split()]
    assert len(taken) == 11
    # By then the cache is full; what comes afterwards would be a leak.
    assert max(taken[3:]) <= 1.05 * taken[2] + 8, taken
