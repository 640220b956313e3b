"""A pixel size nobody measured is called assumed in everything that is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tifffile

from napari_genselfdiff.annotation.exchange.outgoing import KINDS, export_file
from napari_genselfdiff.annotation.measure import measure
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, open_store


def shapes(path: Path) -> Any:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return json.loads(text)["genselfdiff"]["mpp_assumed"]


def table(path: Path) -> Any:
    read = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    return bool(read["mpp_assumed"].all() if read["mpp_assumed"].any() else False)


def labels(path: Path) -> Any:
    with tifffile.TiffFile(path) as tif:
        return '<M K="mpp_assumed">true</M>' in str(tif.ome_metadata)


SAID = {"shapes": shapes, "table": table, "labels": labels}


@pytest.mark.parametrize("assumed", [True, False])
def test_every_export_says_so(tmp_path: Path, assumed: bool) -> None:
    store = open_store(tmp_path / "case.svs.gsd.zarr", (400, 400), mpp_assumed=assumed)
    store.add_task(NUCLEI)
    window = disks(Region(0, 0, 400, 400), (100, 100, 20), (200, 300, 15))
    store.write_prediction("Nuclei", window, model_hash="m")
    for suffix, kind in KINDS.items():
        path = tmp_path / f"out{suffix}"
        export_file(store, "Nuclei", path)
        assert SAID[kind](path) is assumed, suffix
    assert measure(store, "Nuclei").mpp_assumed is assumed
    store.close()
    again = AnnotationStore.open_read_only(store.path)
    assert again.mpp_assumed is assumed
    again.close()
    # The OME-Zarr labels are the annotations themselves, which say it of the slide.
    record = json.loads((store.path / "zarr.json").read_text())["attributes"]["gsd"]
    assert record["slide"]["mpp_assumed"] is assumed
