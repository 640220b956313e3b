"""How long 500,000 objects take to be written, and how much memory: GeoJSON, CSV, Parquet.

The annotations are made on the spot and measured as always: form and confidence; the slide itself
is not there, so stains are left out. Every file is written by a process of its own, whose memory
at its peak is counted whole.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from report import Row, arguments, finish

from napari_genselfdiff.annotation.exchange.outgoing import export_file
from napari_genselfdiff.annotation.store import MODEL, AnnotationStore, Window
from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.slides.geometry import Region

SIDE, PITCH = 2048, 24  # of a block, and from one nucleus to the next, in pixels of 0.25 µm
PER_BLOCK = (SIDE // PITCH) ** 2
FILES = ("geojson", "geojson.gz", "csv", "parquet")


def main() -> None:
    """Write every kind of file, or the one that is named."""
    if len(sys.argv) == 4 and sys.argv[1] == "write":
        print(json.dumps(written(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    asked = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder), 20_000 if asked.quick else 500_000)
        rows = []
        for suffix in FILES:
            command = [sys.executable, __file__, "write", str(store), f"{folder}/objects.{suffix}"]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            name, n = suffix.replace(".", "_"), found["objects"]
            rows.append(Row(f"{name}_s", round(found["seconds"], 1), "s", n=n))
            rows.append(Row(f"{name}_peak_gib", round(found["gib"], 2), "GiB", n=n))
    finish("export", rows, asked.json)


def written(store: Path, file: Path) -> dict[str, float]:
    """Write a file; seconds, memory, and the number of objects."""
    opened = AnnotationStore.open_read_only(store)
    start = time.perf_counter()
    said = export_file(opened, NUCLEI.name, file)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gib": peak, "objects": int(said.split()[0])}


def make(folder: Path, number: int) -> Path:
    """Make annotations with about so many nuclei on a slide that does not exist."""
    across = blocks_across(number)
    store = AnnotationStore.open(
        folder / "made.gsd.zarr",
        slide_path="made.svs",
        slide_hash="0" * 64,
        shape=(across * SIDE, across * SIDE),
        mpp=0.25,
        mpp_assumed=False,
    )
    fill(store, number)
    store.close()
    return store.path


def fill(store: AnnotationStore, number: int) -> None:
    """Put about so many nuclei into empty annotations of a slide as large as they need."""
    across = blocks_across(number)
    store.add_task(NUCLEI)
    whole = Region(0, 0, across * SIDE, across * SIDE)
    store.write_blocks(NUCLEI.name, _windows(store, across, number), region=whole, what="Made")


def blocks_across(number: int) -> int:
    """Blocks along a side of the slide."""
    return int(np.ceil(np.sqrt(number / PER_BLOCK)))


def _windows(store: AnnotationStore, across: int, number: int) -> Iterator[Window]:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    side = SIDE // PITCH
    cells = rows // PITCH * side + columns // PITCH
    ellipse = (rows % PITCH - 11) ** 2 + 1.6 * (columns % PITCH - 11) ** 2 < 90
    ellipse &= (rows < side * PITCH) & (columns < side * PITCH)
    for block in range(min(round(number / PER_BLOCK), across**2)):
        first = store.new_ids(PER_BLOCK)
        ids = np.where(ellipse, cells + first, 0).astype(np.uint32)
        y, x = divmod(block, across)
        region = Region(y * SIDE, x * SIDE, SIDE, SIDE)
        sure = dict.fromkeys(range(first, first + PER_BLOCK), 0.8)
        provenance = np.full(region.shape, MODEL, np.uint8)
        yield Window(region, ellipse.astype(np.uint8), ids, provenance, sure)


if __name__ == "__main__":
    main()
