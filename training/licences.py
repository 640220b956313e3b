"""Which data sets a list of files touches, with their licences as the manifest states them."""

from __future__ import annotations

import csv

from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.registry.card import DataSource


def sources_of(lists: list[str], folders: tuple[str, ...] = ("",)) -> list[DataSource]:
    """One record per data set named by the lists; raises if one is not openly licensed.

    Lists hold paths, or stems of the images in the folder of the same position.
    """
    root = data_root("")
    with (root / "MANIFEST.tsv").open(encoding="utf-8") as file:
        manifest = {row["relpath"]: row for row in csv.DictReader(file, delimiter="\t")}
    stems = {path.rsplit(".", 1)[0]: row for path, row in manifest.items()}
    counts: dict[tuple[str, str], int] = {}
    for name, folder in zip(lists, folders, strict=True):
        for line in read_list(root / name):
            row = manifest.get(line) or stems[f"{folder}/images/{line}"]
            if row["licence_class"] != "open":
                raise SystemExit(f"{line} is not openly licensed and may not be in shipped weights")
            key = (row["dataset"], row["licence"])
            counts[key] = counts.get(key, 0) + 1
    return [
        DataSource(name=name, licence=licence[:200], note=f"{count} images")
        for (name, licence), count in sorted(counts.items())
    ]
