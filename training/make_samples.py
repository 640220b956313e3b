"""Compose the labelled sample slide from its ten published fields, and cut the tests' crops.

    GENSELFDIFF_DATA=DIR python training/make_samples.py

Reads `labelled/tnbc`, `labelled/dsb2018_colour`, `splits` and `slides` of the data folder; writes
`napari_genselfdiff/samples/` and `tests/data/`. One row of the slide per patient (06, 07, 08), the
fields edge to edge on a grid of 512 pixels, so that every tile of 256 lies inside one field.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "napari_genselfdiff" / "samples"
CROPS = ROOT / "tests" / "data"
FIELD = 512
MPP = 0.25
LEVELS = 3
# Training lists only: the lists that are scored stay out of the tests' data too.
CROP_FIELDS = [
    ("tnbc", "01_1", (128, 128)),
    ("tnbc", "03_2", (0, 256)),
    ("tnbc", "05_4", (200, 60)),
    ("dsb2018_colour", "0e21d7b3eea8cdbb", (0, 0)),
]


def read_field(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return the image and the instance map of one field."""
    (image,) = (folder / "images").glob(f"{name}.*")
    rgb = np.asarray(Image.open(image).convert("RGB"))
    return rgb, np.asarray(Image.open(folder / "masks" / f"{name}.png")).astype(np.uint16)


def compose(data: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Lay the fields out, one patient a row; ids are unique over the slide."""
    names = (data / "splits" / "tnbc_dev.txt").read_text(encoding="utf-8").split()
    rows = [[n for n in names if n.startswith(patient)] for patient in ("06", "07", "08")]
    shape = len(rows) * FIELD, max(map(len, rows)) * FIELD
    slide = np.full((*shape, 3), 255, np.uint8)
    instances = np.zeros(shape, np.uint16)
    for row, fields in enumerate(rows):
        for column, name in enumerate(fields):
            at = np.s_[row * FIELD : (row + 1) * FIELD, column * FIELD : (column + 1) * FIELD]
            rgb, ids = read_field(data / "labelled" / "tnbc", name)
            slide[at] = rgb
            values, index = np.unique(ids, return_inverse=True)
            fresh = np.arange(len(values)) + int(instances.max())
            fresh[values == 0] = 0
            instances[at] = fresh[index].reshape(ids.shape)
    return slide, instances


def write_pyramid(path: Path, level: NDArray[np.uint8]) -> None:
    """Write an OME-TIFF pyramid with its pixel size; halves are 2 x 2 means."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for index in range(LEVELS):
            tif.write(
                level,
                photometric="rgb",
                tile=(256, 256),
                compression="jpeg",
                compressionargs={"level": 94},
                subsampling=(1, 1),
                subifds=LEVELS - 1 if index == 0 else None,
                subfiletype=1 if index else 0,
                resolution=(1e4 / (MPP * 2**index),) * 2,
                resolutionunit="CENTIMETER",
                metadata={
                    "axes": "YXS",
                    "PhysicalSizeX": MPP,
                    "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": MPP,
                    "PhysicalSizeYUnit": "µm",
                }
                if index == 0
                else None,
            )
            height, width = level.shape[:2]
            quads = level.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
            level = np.rint(quads).astype(np.uint8)


def write_crops(data: Path) -> None:
    """Cut 256 x 256 crops with masks for the tests, lossless."""
    for folder in ("images", "masks"):
        (CROPS / folder).mkdir(parents=True, exist_ok=True)
    for dataset, name, (y, x) in CROP_FIELDS:
        rgb, ids = read_field(data / "labelled" / dataset, name)
        box = np.s_[y : y + 256, x : x + 256]
        Image.fromarray(rgb[box]).save(CROPS / "images" / f"{dataset}_{name}.png", optimize=True)
        Image.fromarray(ids[box]).save(CROPS / "masks" / f"{dataset}_{name}.png", optimize=True)


def main() -> None:
    """Make everything anew."""
    data = Path(os.environ.get("GENSELFDIFF_DATA", ROOT.parent / "shared" / "data"))
    slide, instances = compose(data)
    write_pyramid(SAMPLES / "tnbc_pyramid.ome.tif", slide)
    Image.fromarray(instances).save(SAMPLES / "tnbc_pyramid_masks.png", optimize=True)
    shutil.copyfile(data / "slides" / "CMU-1-Small-Region.svs", SAMPLES / "CMU-1-Small-Region.svs")
    write_crops(data)


if __name__ == "__main__":
    main()
