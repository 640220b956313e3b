"""``genselfdiff segment`` on regions, whole slides and lists; nothing checked is ever changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_genselfdiff.annotation.store import HUMAN, MODEL, AnnotationStore
from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.exchange import reopen
from napari_genselfdiff.registry.folder import Model
from napari_genselfdiff.slides.geometry import Region
from tests.commands.conftest import Run

WHOLE = Region(0, 0, 500, 600)


def _read(path: Path, region: Region = WHOLE) -> Any:
    store = AnnotationStore.open_read_only(path)
    try:
        return store.read("Nuclei", region)
    finally:
        store.close()


def test_region_lands_beside_the_slide(run: Run, slide: Path, speed: Any, model: Model) -> None:
    result = run("segment", slide, "--region", "100,120,200,256", *speed)
    assert "case.tif: " in result.stdout
    store = slide.with_name("case.tif.gsd.zarr")
    window = _read(store)
    inside = np.zeros(window.classes.shape, bool)
    inside[100:300, 120:376] = True
    np.testing.assert_array_equal(window.provenance > 0, inside)
    assert set(np.unique(window.classes)) <= {0, 1}
    record = json.loads(next(store.glob("runs/*/run.json")).read_text())
    assert record["region"] == [100, 120, 200, 256]
    assert record["model"]["hash"] == model.hash
    assert record["profile"]["threads"] == 1


def test_shapes_carry_what_an_export_measures(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    store, at_once, later = slide.with_name("case.tif.gsd.zarr"), "a.geojson", "b.geojson"
    region = "--region", "100,120,200,256"
    run("segment", slide, *region, "--geojson", tmp_path / at_once, *speed)
    run("export", store, "--to", tmp_path / later)
    a, b = (json.loads((tmp_path / name).read_text())["features"] for name in (at_once, later))
    assert a == b
    assert all("Haematoxylin OD mean" in shape["properties"]["measurements"] for shape in a)
    assert a


def test_same_profile_gives_the_same_bytes(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        run("segment", slide, "--region", "0,0,300,300", "--out", tmp_path / name, *speed)
    a, b = (_read(tmp_path / name / "case.tif.gsd.zarr") for name in ("a", "b"))
    np.testing.assert_array_equal(a.classes, b.classes)
    np.testing.assert_array_equal(a.ids, b.ids)


def test_whole_slide_agrees_with_a_region_of_it(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole.gsd.zarr", tmp_path / "part.gsd.zarr"
    run("segment", slide, "--out", whole, *speed)
    run("segment", slide, "--out", part, "--region", "0,0,500,600", *speed)
    seen = _read(whole).provenance == MODEL
    assert seen.mean() > 0.5
    np.testing.assert_array_equal(_read(whole).classes[seen], _read(part).classes[seen])


def test_what_a_person_said_stays(run: Run, slide: Path, speed: Any) -> None:
    run("segment", slide, "--region", "0,0,300,300", *speed)
    store = reopen(slide.with_name("case.tif.gsd.zarr"))
    spot = Region(50, 50, 60, 60)
    before = store.read("Nuclei", spot)
    after = before.copy()
    after.classes[:], after.ids[:] = 1, 4_000_000_000
    store.write_edit("Nuclei", before, after, what="Brush")
    store.close()
    result = run("segment", slide, "--region", "0,0,300,300", *speed)
    kept = _read(slide.with_name("case.tif.gsd.zarr"), spot)
    assert (kept.classes == 1).all()
    assert (kept.provenance == HUMAN).all()
    assert "Kept" in result.stdout


def test_list_of_slides_goes_on_after_a_bad_one(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    bad = tmp_path / "notes.svs"
    bad.write_text("no slide")
    second = Path(shutil.copy(slide, tmp_path / "second.tif"))
    names = tmp_path / "slides.txt"
    names.write_text(f"# three\n{slide}\n\n{bad}\n{second}\n")
    result = run(
        "segment", "--list", names, "--region", "0,0,64,64", "--out", tmp_path / "o", *speed, code=1
    )
    assert result.stderr.count("Error: ") == 1
    assert f"{bad}: notes.svs is a text file" in result.stderr
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "case.tif.gsd.zarr",
        "second.tif.gsd.zarr",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "at least one slide"),
        (["a.svs", "--region", "1,2,3"], "four whole numbers"),
        (["a.svs", "b.svs", "--out", "x.gsd.zarr"], "must be a folder"),
        (["a.svs", "b.svs", "--geojson", "x.geojson"], "must be a folder"),
        (["a.svs", "--mpp", "fine"], "mpp"),
    ],
)
def test_wrong_use_is_exit_2(run: Run, arguments: list[str], says: str) -> None:
    result = run("segment", *arguments, code=2)
    assert says in " ".join(result.stderr.replace("│", " ").split())


def test_region_off_the_slide_is_refused(run: Run, slide: Path, speed: Any) -> None:
    result = run("segment", slide, "--region", "9000,0,10,10", *speed, code=1)
    assert "outside the slide of 500 x 600" in result.stderr


def test_unknown_pixel_size_must_be_stated(
    run: Run, make_slide: Callable[..., Path], tmp_path: Path, speed: Any
) -> None:
    path = make_slide(tmp_path / "silent.tif", 300, 300, mpp=None, levels=1)
    result = run("segment", path, "--region", "0,0,64,64", *speed, code=1)
    assert "--mpp" in result.stderr
    assert not list(tmp_path.glob("*.gsd.zarr"))
    run("segment", path, "--region", "0,0,64,64", "--mpp", 0.25, *speed)
    store = AnnotationStore.open_read_only(tmp_path / "silent.tif.gsd.zarr")
    assert (store.mpp, store.mpp_assumed) == (0.25, True)
    store.close()


def test_task_without_a_model_is_explained(run: Run, slide: Path, speed: Any) -> None:
    result = run("segment", slide, "--task", "Glands", *speed, code=1)
    assert "no model for the task Glands" in result.stderr


def test_model_of_another_task_is_refused(run: Run, slide: Path, speed: Any, model: Model) -> None:
    result = run("segment", slide, "--task", "Glands", "--model", model.path, *speed, code=1)
    assert "is for the task Nuclei, not Glands" in result.stderr


def test_annotations_open_elsewhere_are_left_alone(run: Run, slide: Path, speed: Any) -> None:
    run("segment", slide, "--region", "0,0,64,64", *speed)
    store = reopen(slide.with_name("case.tif.gsd.zarr"))
    try:
        result = run("segment", slide, "--region", "0,0,64,64", *speed, code=1)
    finally:
        store.close()
    assert result.stderr.count("\n") == 1


def test_full_disk_is_one_line_and_loses_nothing(
    run: Run, slide: Path, speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("segment", slide, "--region", "0,0,64,64", *speed)
    path = slide.with_name("case.tif.gsd.zarr")
    before = _read(path)

    replace, refused = Path.replace, []

    def full(self: Path, target: Path) -> Path:
        if "labels" in Path(target).parts or "journal" in str(target):
            refused.append(target)
            raise OSError(28, "No space left on device", str(target))
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        result = run("segment", slide, "--region", "64,64,64,64", *speed, code=1)
    assert refused
    assert "the disk is full" in result.stderr
    assert result.stderr.count("\n") == 1
    after = _read(path)
    np.testing.assert_array_equal(after.classes, before.classes)
    np.testing.assert_array_equal(after.provenance, before.provenance)


def test_corrupt_tile_is_counted_and_the_rest_is_done(
    run: Run, make_slide: Callable[..., Path], tmp_path: Path, speed: Any
) -> None:
    path = make_slide(tmp_path / "spoilt.tif", 600, 600, levels=1)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        start, size = page.dataoffsets[1], page.databytecounts[1]
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    result = run("segment", path, "--region", "100,100,300,300", *speed)
    assert "Careful: spoilt.tif: 1 tile could not be decoded" in result.stderr
    assert (_read(tmp_path / "spoilt.tif.gsd.zarr").provenance == MODEL).sum() == 300 * 300


def test_altered_model_is_refused_before_anything_is_written(
    run: Run, slide: Path, speed: Any, model: Model
) -> None:
    weights = bytearray(model.weights.read_bytes())
    weights[-1] ^= 1
    model.weights.write_bytes(weights)
    result = run("segment", slide, *speed, code=1)
    assert "weights.safetensors" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [p.name for p in slide.parent.iterdir()] == ["case.tif"]


def test_corrupt_annotations_are_refused_and_kept(run: Run, slide: Path, speed: Any) -> None:
    run("segment", slide, "--region", "0,0,64,64", *speed)
    root = slide.with_name("case.tif.gsd.zarr") / "zarr.json"
    root.write_text(root.read_text()[:100])
    result = run("segment", slide, "--region", "0,0,64,64", *speed, code=1)
    assert result.stderr.count("\n") == 1
    assert len(root.read_text()) == 100


def test_read_only_folder_sends_annotations_to_the_users_folder(
    run: Run, slide: Path, speed: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run as root, whom no permission bit stops.
    monkeypatch.setattr(os, "access", lambda _path, mode, **_: not mode & os.W_OK)
    run("segment", slide, "--region", "0,0,64,64", *speed)
    assert len(list((home / "annotations").glob("case.tif-*.gsd.zarr"))) == 1
    assert [p.name for p in slide.parent.iterdir()] == ["case.tif"]


def test_a_folder_that_is_really_read_only(
    slide: Path, speed: Any, home: Path, model: Model
) -> None:
    """As above, with permission bits that hold, in a process of its own."""
    obeying: list[str] = []
    if os.geteuid() == 0:  # root obeys them only without this capability
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is needed to test permissions as root")
        obeying = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]
    command = [*obeying, sys.executable, "-c", "from napari_genselfdiff.cli import app; app()"]
    command += ["segment", str(slide), "--region", "0,0,64,64", *map(str, speed)]
    slide.parent.chmod(0o555)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "GENSELFDIFF_HOME": str(home)},
            timeout=120,
            check=False,
        )
    finally:
        slide.parent.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert len(list((home / "annotations").glob("case.tif-*.gsd.zarr"))) == 1
    assert [p.name for p in slide.parent.iterdir()] == ["case.tif"]


def test_output_folder_that_cannot_be_made_is_one_line(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = run("segment", slide, "--out", tmp_path / "file" / "o", *speed, code=1)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")


def test_progress_in_a_log_is_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("case.tif") as show:
        for done in range(101):
            show(done / 100, "left")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[5] == "case.tif: 50% left"
