"""Corrections leave one machine as a file, and come back as a model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.annotation.window import ACCEPTED
from napari_genselfdiff.commands.exchange import reopen
from napari_genselfdiff.learning.bundle import read_bundle
from napari_genselfdiff.registry.folder import Model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.slides.geometry import Region
from tests.commands.conftest import Run


@pytest.fixture
def packed(run: Run, slide: Path, speed: Any, tmp_path: Path) -> Path:
    """Return a bundle of a slide on which somebody accepted a region."""
    run("segment", slide, "--region", "0,0,128,128", *speed)
    store = reopen(slide.with_name("case.tif.gsd.zarr"))
    store.accept("Nuclei", Region(0, 0, 128, 128))
    store.close()
    run("bundle", slide, "--to", tmp_path / "case.gsd-bundle.zip")
    return tmp_path / "case.gsd-bundle.zip"


def test_there_and_back(
    run: Run,
    packed: Path,
    slide: Path,
    model: Model,
    made: Path,
    speed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other machine has the model but neither slide nor annotations."""
    home = Registry().root
    slide.unlink()
    monkeypatch.setenv("GENSELFDIFF_HOME", str(tmp_path / "elsewhere"))
    run("models", "import", made)
    out, report = tmp_path / "refined", tmp_path / "report.json"
    how = ("--model", "tiny", "--budget-seconds", 1, "--json", report)
    run("refine", "--bundle", packed, "--out", out, *how, *speed)
    assert json.loads(report.read_text())["tiles"] == 1
    assert json.loads(report.read_text())["model"] == str(out)
    assert sorted(p.name for p in out.parent.iterdir() if "refined" in p.name) == ["refined"]
    run("models", "import", out)
    run("models", "export", "refined", tmp_path / "refined.zip")

    monkeypatch.setenv("GENSELFDIFF_HOME", str(home))
    run("models", "import", tmp_path / "refined.zip")
    registry = Registry()
    back = registry.resolve("refined")
    assert [m.hash for m in registry.lineage(back)][:2] == [back.hash, model.hash]
    assert registry.active("Nuclei").hash == model.hash


def test_what_is_in_it(run: Run, packed: Path, slide: Path, tmp_path: Path) -> None:
    (tile,) = read_bundle(packed).tiles
    assert int((tile.provenance == ACCEPTED).sum()) == 128 * 128
    with zipfile.ZipFile(packed) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    for name in (b"case", str(tmp_path).encode()):
        assert name not in everything
    named = tmp_path / "named.zip"
    run("bundle", slide, "--to", named, "--names")
    assert [s.name for s in read_bundle(named).card.slides] == ["case.tif"]
    np.testing.assert_array_equal(read_bundle(named).tiles[0].image, tile.image)


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_damaged_file_is_one_line(
    run: Run, packed: Path, speed: Any, tmp_path: Path, keep: int
) -> None:
    packed.write_bytes(packed.read_bytes()[:keep])
    result = run("refine", "--bundle", packed, "--out", tmp_path / "o", *speed, code=1)
    assert "no readable zip file" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_wrong_use(run: Run, make_slide: Callable[..., Path], model: Model, tmp_path: Path) -> None:
    slide, out = tmp_path / "a.tif", tmp_path / "o"
    run("refine", slide, "--bundle", tmp_path / "b.zip", "--out", out, code=2)
    run("refine", "--out", out, code=2)
    run("bundle", "--to", tmp_path / "b.zip", code=2)
    assert "name it" in run("bundle", slide, "--to", tmp_path / "b.tar", code=1).stderr
    assert (
        run("refine", "--bundle", tmp_path / "no.zip", "--out", out, code=1).stderr.count("\n") == 1
    )
