"""``genselfdiff pretrain``, ``finetune`` and ``refine`` end with folders that can be used."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from napari_genselfdiff.annotation.store import HUMAN, AnnotationStore
from napari_genselfdiff.commands import console, learn
from napari_genselfdiff.commands.exchange import reopen
from napari_genselfdiff.learning import elsewhere, first
from napari_genselfdiff.learning.loop import Report
from napari_genselfdiff.registry.folder import Model, read_backbone, read_model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import CELLS, disks
from tests.commands.conftest import Run
from tests.registry.networks import make_backbone

RECIPE = """
name = "small"
preset = "fast"
{more}
[patch]
size = 64
skip_glass = false
[loop]
total_images = 4
batch = 2
lr = 1e-3
[snapshots]
every_images = 2
tiles = 1
[data]
root = {root}
"""
FINETUNE = """
start = "scratch"
[task]
name = "Nuclei"
kind = "objects"
mpp = 0.25
classes = [{ value = 1, name = "Nucleus", color = "#0072B2", key = "1" }]
"""


@pytest.fixture
def recipes(tmp_path: Path, crops_dir: Path) -> dict[str, Path]:
    """Return two recipes of a few seconds, on the crops of the tests."""
    root = json.dumps(str(crops_dir))
    pretrain, finetune = tmp_path / "pretrain.toml", tmp_path / "finetune.toml"
    pretrain.write_text(RECIPE.format(root=root, more="") + 'folders = ["images"]\n')
    sets = 'sets = [{ folder = ".", mpp = 0.25 }]\n'
    finetune.write_text(RECIPE.format(root=root, more=FINETUNE) + sets)
    return {"pretrain": pretrain, "finetune": finetune}


def test_pretrained_backbone_starts_a_model(
    run: Run, recipes: dict[str, Path], tmp_path: Path
) -> None:
    backbone, out = tmp_path / "backbone", tmp_path / "nuclei"
    run("pretrain", recipes["pretrain"], "--out", backbone)
    card = read_backbone(backbone).card
    assert (card.name, card.images_seen) == ("small", 4)
    run("finetune", recipes["finetune"], f"start={backbone}", "loop.seed=3", "--out", out)
    model = read_model(out)
    assert model.card.task.name == "Nuclei"
    assert model.card.recipe["loop"]["seed"] == 3
    assert model.card.recipe["images_seen"] == 4
    model.load()
    # Going on with what has ended changes nothing.
    run(
        "finetune",
        recipes["finetune"],
        f"start={backbone}",
        "loop.seed=3",
        "--out",
        out,
        "--resume",
    )
    assert read_model(out).hash == model.hash
    again = run("finetune", recipes["finetune"], "--out", out, code=1)
    assert "--resume" in again.stderr


def test_a_scanner_is_learned_within_a_budget_and_put_to_use(
    run: Run, crops_dir: Path, tmp_path: Path
) -> None:
    """``adapt`` stopped by the clock, gone on with to its end, and then what new tasks start at."""
    folders = json.dumps([str(crops_dir / "images")])
    out = tmp_path / "scanner"
    settings = (
        "pretrain", "adapt", f"data.folders={folders}", "data.mpp=0.25", "patch.size=64",
        "loop.total_images=80", "loop.batch=4", "loop.precision=fp32", "snapshots.tiles=0",
        "--out", out, "--device", "cpu",
    )  # fmt: skip
    run(*settings, "--budget-minutes", 0.01)
    seen = read_backbone(out).card.images_seen
    assert 0 < seen < 80
    run(*settings, "--budget-minutes", 10, "--resume")
    backbone = read_backbone(out)
    assert backbone.card.images_seen == 80
    run("models", "use", out)
    assert Registry().backbones.active().hash == backbone.hash


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("loop.batsh=3", "loop.batsh"),
        ("loop.batch=many", "loop.batch"),
        ("nothing", "KEY=VALUE"),
        ("data.root=/nowhere", "/nowhere"),
    ],
)
def test_bad_setting_is_one_line(
    run: Run, recipes: dict[str, Path], tmp_path: Path, change: str, says: str
) -> None:
    result = run("pretrain", recipes["pretrain"], change, "--out", tmp_path / "o", code=1)
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_unknown_recipe_lists_the_shipped_ones(run: Run, tmp_path: Path) -> None:
    assert "nuclei" in run("finetune", "lungs", "--out", tmp_path / "o", code=1).stderr


def test_interrupt_stops_after_saving(capsys: pytest.CaptureFixture[str]) -> None:
    saved, before = [], signal.getsignal(signal.SIGINT)

    def reports(stop: Any) -> Iterator[Report]:
        for seen in range(1, 100):
            yield Report(seen, 99, 0.5, {}, 1.0, 1.0)
            if seen == 2:
                os.kill(os.getpid(), signal.SIGINT)
            if stop():
                saved.append(seen)
                return

    with console.stoppable() as stop, pytest.raises(typer.Exit):
        learn._follow("Training", reports(stop), stop)
    assert saved == [2]
    assert "--resume goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def corrected(run: Run, slide: Path, speed: Any) -> Path:
    """Return a slide with a predicted region that somebody accepted."""
    run("segment", slide, "--region", "0,0,256,256", *speed)
    store = reopen(slide.with_name("case.tif.gsd.zarr"))
    store.accept("Nuclei", Region(0, 0, 256, 256))
    store.close()
    return slide


def test_refined_model_comes_with_a_verdict(
    run: Run, corrected: Path, model: Model, speed: Any, tmp_path: Path
) -> None:
    out, report = tmp_path / "refined", tmp_path / "report.json"
    before = model.weights.read_bytes()
    run("refine", corrected, "--out", out, "--budget-seconds", 1, "--json", report, *speed)
    refined = read_model(out)
    assert refined.card.parent == model.hash
    assert model.weights.read_bytes() == before
    said = json.loads(report.read_text())
    assert said["hash"] == refined.hash
    assert said["parent"] == {"name": model.card.name, "hash": model.hash}
    assert said["accepted"] in (True, False, None)
    assert said["sentence"]
    run("models", "import", out)
    run("refine", corrected, "--out", out, *speed, code=1)


def test_first_model_of_a_task(
    run: Run, corrected: Path, speed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make_backbone(tmp_path / "scanner")
    run("models", "use", backbone.path)
    quick = replace(first.FIRST, patch=64, fewest_steps=2)
    monkeypatch.setattr(first, "FIRST", quick)
    store = reopen(corrected.with_name("case.tif.gsd.zarr"))
    store.add_task(CELLS)
    view = Region(0, 0, 256, 256)
    drawn = disks(view, (60, 60, 20), (180, 100, 25), value=7)
    drawn = replace(drawn, provenance=np.where(drawn.classes > 0, HUMAN, 0).astype(np.uint8))
    store.write_edit("Cells", store.read("Cells", view), drawn, what="Brush")
    store.accept("Cells", view)
    store.close()
    out, report = tmp_path / "cells", tmp_path / "report.json"
    arguments = ("--task", "Cells", "--budget-seconds", 1, "--json", report)
    result = run("refine", corrected, "--out", out, *arguments, *speed)
    assert "first model for Cells" in result.stdout
    assert read_model(out).card.task == CELLS
    assert read_model(out).card.recipe["base"] == backbone.hash
    assert json.loads(report.read_text())["parent"] is None
    run("models", "import", out)
    run("models", "use", "cells")
    monkeypatch.setattr(elsewhere, "SIDE", 64)  # there is room for such places beside the view
    again = run("refine", corrected, "--out", tmp_path / "more", *arguments, *speed)
    assert "refined from cells" in again.stdout
    assert 0 <= json.loads(report.read_text())["elsewhere"] <= 1


def test_stores_are_given_in_the_order_of_the_slides(
    run: Run, corrected: Path, speed: Any, tmp_path: Path
) -> None:
    store = corrected.with_name("case.tif.gsd.zarr")
    moved = store.rename(tmp_path / "moved.gsd.zarr")
    out, seconds = tmp_path / "refined", ("--budget-seconds", 1)
    assert "moved" not in run("refine", corrected, "--out", out, *seconds, *speed, code=1).stderr
    two = run("refine", corrected, "--store", moved, moved, "--out", out, *speed, code=2)
    assert "one for each" in two.stderr
    run("refine", corrected, "--store", moved, "--out", out, *seconds, *speed)


def test_nothing_to_learn_from_is_explained(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    run("segment", slide, "--region", "0,0,64,64", *speed)
    result = run("refine", slide, "--out", tmp_path / "refined", *speed, code=1)
    assert "nothing to learn from yet" in result.stderr
    assert not (tmp_path / "refined").exists()


def test_annotations_of_another_slide_are_refused(
    run: Run, corrected: Path, make_slide: Any, speed: Any, tmp_path: Path
) -> None:
    other = make_slide(tmp_path / "other.tif", 500, 600, levels=1, seed=5)
    store = corrected.with_name("case.tif.gsd.zarr")
    arguments = ("refine", other, "--store", store, "--out", tmp_path / "refined")
    assert "another slide" in run(*arguments, *speed, code=1).stderr
    seen = AnnotationStore.open_read_only(store)
    assert seen.summary("Nuclei")["pixels"]["accepted"] == 256 * 256
    seen.close()
