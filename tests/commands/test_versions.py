"""Versions on the command line: compare, delete, and going back to the very same answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.commands.exchange import reopen
from napari_genselfdiff.evaluation.pictures import write_png
from napari_genselfdiff.registry.folder import Model, read_model, write_model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.slides.geometry import Region
from tests.commands.conftest import Run
from tests.registry.networks import network, task

FIELDS = {"task": task(), "mpp_range": (0.25, 0.5), "tile": 128, "halo": 16}


@pytest.fixture
def child(model: Model, home: Path, tmp_path: Path) -> Model:
    """Return a model refined from the one in use, not in use itself."""
    gate = {"decision": "not_better", "old": 0.5, "new": 0.25}
    fields = {**FIELDS, "parent": model.hash, "gate": gate}
    tiles = {"corrections/0000.labels.png": b"x", "corrections/0000.png": b"y"}
    made = write_model(tmp_path / "child", fields, network(1), extras=tiles)
    return Registry(home).add(made.path)


def labels_hash(run: Run, slide: Path, speed: Any, out: Path) -> str:
    """SHA-256 of what the model in use says about a region."""
    run("segment", slide, "--region", "0,0,128,128", "--out", out, *speed)
    store = AnnotationStore.open_read_only(out)
    digest = hashlib.sha256()
    for array in ("classes", "objects"):
        digest.update(np.ascontiguousarray(store.levels("Nuclei", array)[0][:128, :128]).tobytes())
    store.close()
    return digest.hexdigest()


def test_going_back_gives_the_very_same_answers(
    run: Run, slide: Path, model: Model, speed: Any, tmp_path: Path
) -> None:
    before = labels_hash(run, slide, speed, tmp_path / "before.gsd.zarr")
    corrections = tmp_path / "before.gsd.zarr"
    store = reopen(corrections)
    store.accept("Nuclei", Region(0, 0, 128, 128))
    store.close()
    refined, budget = tmp_path / "refined", ("--budget-seconds", 1)
    run("refine", slide, "--store", corrections, "--out", refined, *budget, *speed)
    run("models", "use", refined)
    used = Registry().resolve("default")
    assert used.card.parent == model.hash
    assert used.card.weights_sha256 != model.card.weights_sha256
    used_weights = used.weights.read_bytes()
    labels_hash(run, slide, speed, tmp_path / "refined.gsd.zarr")
    run("models", "rollback")
    assert labels_hash(run, slide, speed, tmp_path / "after.gsd.zarr") == before
    run("models", "use", "refined")
    assert Registry().resolve("default").weights.read_bytes() == used_weights


def test_other_weights_give_another_hash(
    run: Run, slide: Path, model: Model, child: Model, speed: Any, tmp_path: Path
) -> None:
    """What the test above relies on: its hash notices another model."""
    one = labels_hash(run, slide, speed, tmp_path / "a.gsd.zarr")
    run("models", "use", "child")
    assert labels_hash(run, slide, speed, tmp_path / "b.gsd.zarr") != one


def test_list_and_show_say_where_a_version_comes_from(run: Run, model: Model, child: Model) -> None:
    rows = {r["name"]: r for r in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert rows["child"]["parent_name"] == "tiny"
    assert rows["child"]["data_sha256"] == child.card.data_sha256
    assert (rows["child"]["tiles"], rows["tiny"]["tiles"]) == (1, 0)
    line = next(x for x in run("models", "list").stdout.splitlines() if "child" in x)
    assert "tiny" in line
    assert "not better, Dice 0.50 → 0.25" in line
    assert str(child.card.data_sha256) in run("models", "show", "child").stdout


def test_compare(run: Run, model: Model, child: Model) -> None:
    said = run("models", "compare", "tiny", "child").stdout
    assert "Child was refined from tiny." in said
    found = json.loads(run("models", "compare", "child", "--json").stdout)
    assert [m["hash"] for m in found["models"]] == [child.hash, model.hash]
    assert found["same_answers"] is False
    assert found["scores"] is None
    same = json.loads(run("models", "compare", "tiny", "tiny", "--json").stdout)
    assert same["same_answers"] is True


def test_compare_on_images(
    run: Run, model: Model, child: Model, make_tissue: Any, speed: Any, tmp_path: Path
) -> None:
    for number in range(2):
        image, ids = make_tissue(128, 128, number)
        write_png(tmp_path / "images" / f"{number}.png", image)
        write_png(tmp_path / "masks" / f"{number}.png", ids)
    folders = ("--images", tmp_path / "images", "--masks", tmp_path / "masks", "--mpp", 0.25)
    command = ("models", "compare", "tiny", "child", *folders, *speed)
    dice = json.loads(run(*command, "--json").stdout)["scores"]["metrics"]["dice"]
    assert dice["difference"] == pytest.approx(dice["second"] - dice["first"])
    assert dice["n"] == 2
    assert "on 2 images, same images" in run(*command).stdout
    run("models", "compare", "tiny", "child", *folders[:2], code=2)


def test_only_models_of_one_task_are_compared(run: Run, model: Model, tmp_path: Path) -> None:
    other = write_model(tmp_path / "o", {**FIELDS, "task": task("Glands")}, network(1))
    assert "only models of one task" in run("models", "compare", other.path, code=1).stderr


def test_delete(run: Run, model: Model, child: Model) -> None:
    assert "in use" in run("models", "delete", "tiny", "--force", code=1).stderr
    run("models", "use", "child")
    assert "from it came child" in run("models", "delete", "tiny", code=1).stderr
    run("models", "delete", "tiny", "--force")
    assert not model.path.exists()
    assert read_model(child.path).hash == child.hash
    assert "came with" in run("models", "delete", "nuclei", "--force", code=1).stderr


def test_every_command_removes_what_a_killed_one_left(run: Run, home: Path, model: Model) -> None:
    left = home / "models" / ".mine.0123.partial"
    left.mkdir()
    run("models", "list")
    assert not left.exists()
