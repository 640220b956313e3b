"""``genselfdiff models``: list, show, use, go back, take in, give away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.registry.folder import Model, read_backbone, write_model
from tests.commands.conftest import Run
from tests.registry.networks import make_backbone, network, task

FIELDS = {"task": task(), "mpp_range": (0.25, 0.5), "tile": 128, "halo": 16}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Return the folder of another model of the same task."""
    return write_model(tmp_path / "other", FIELDS, network(1)).path


def test_list_marks_what_is_in_use(run: Run, model: Model, other: Path) -> None:
    run("models", "import", other)
    rows = {r["name"]: r for r in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert rows["tiny"]["in_use"] is True
    assert rows["tiny"]["hash"] == model.hash
    assert rows["other"]["in_use"] is False
    lines = run("models", "list").stdout.splitlines()
    assert [line[0] for line in lines if "tiny" in line] == ["*"]


def test_use_and_go_back(run: Run, model: Model, other: Path) -> None:
    run("models", "import", other)
    run("models", "use", "other")
    assert json.loads(run("models", "show", "--json").stdout)["name"] == "other"
    assert "tiny is in use" in run("models", "rollback").stdout
    assert json.loads(run("models", "show", "--json").stdout)["hash"] == model.hash


def test_going_back_too_far_is_explained(run: Run, other: Path) -> None:
    run("models", "use", other)
    # The shipped model, where there is one, is what came before.
    result = run("models", "rollback", "--task", "Glands", code=1)
    assert "no earlier model of the task Glands" in result.stderr


def test_exported_model_comes_back_the_same(
    run: Run, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("models", "export", "tiny", tmp_path / "tiny.zip")
    monkeypatch.setenv("GENSELFDIFF_HOME", str(tmp_path / "elsewhere"))
    run("models", "import", tmp_path / "tiny.zip")
    shown = json.loads(run("models", "show", "tiny", "--json").stdout)
    assert shown["hash"] == model.hash


def test_unknown_model_lists_the_known_ones(run: Run, model: Model) -> None:
    assert "default, " in run("models", "show", "nothing", code=1).stderr
    assert model.card.name in run("models", "use", "nothing", code=1).stderr


@pytest.mark.parametrize("spoil", ["missing", "altered", "card"])
def test_damaged_model_is_one_line(run: Run, model: Model, spoil: str) -> None:
    if spoil == "missing":
        model.weights.unlink()
    elif spoil == "altered":
        model.weights.write_bytes(model.weights.read_bytes()[:-1] + b"\xff")
    else:
        (model.path / "model.json").write_text("{")
    for command in (("show", "tiny"), ("use", str(model.path))):
        result = run("models", *command, code=1)
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert "Error: tiny: " in run("models", "list").stderr


def test_file_that_is_no_archive_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_text("no zip")
    assert run("models", "import", tmp_path / "model.zip", code=1).stderr.count("\n") == 1


def test_a_backbone_is_taken_in_used_shown_given_away_and_deleted(run: Run, tmp_path: Path) -> None:
    mine = make_backbone(tmp_path / "scanner", 3)
    assert "scanner is in" in run("models", "import", mine.path).stdout
    assert "New tasks start from the backbone scanner" in run("models", "use", "scanner").stdout
    said = json.loads(run("models", "list", "--json").stdout)
    rows = {row["name"]: row for row in said["backbones"]}
    assert (rows["scanner"]["in_use"], rows["backbone"]["in_use"]) == (True, False)
    assert rows["scanner"]["hash"] == mine.hash
    lines = run("models", "list").stdout.splitlines()
    assert [line[0] for line in lines if "scanner" in line] == ["*"]
    assert json.loads(run("models", "show", "scanner", "--json").stdout)["images_seen"] == 30
    assert "diffusion backbone" in run("models", "show", "scanner").stdout
    run("models", "export", "scanner", tmp_path / "scanner.zip")
    assert "in use for new tasks" in run("models", "delete", "scanner", code=1).stderr
    run("models", "use", "backbone")
    run("models", "delete", "scanner")
    run("models", "import", tmp_path / "scanner.zip")
    assert "scanner" in run("models", "list").stdout
    assert "scanner" not in run("models", "list", "--task", "Nuclei").stdout


def test_a_backbone_that_is_gone_is_complained_about(run: Run, home: Path, tmp_path: Path) -> None:
    run("models", "use", make_backbone(tmp_path / "scanner", 3).path)
    shutil.rmtree(home / "backbones" / "scanner")
    assert "The backbone in use, 'scanner', is gone" in run("models", "list").stderr


def _official(model: Denoiser) -> dict[str, torch.Tensor]:
    """Names as the released code gives them, found by asking for each of ours."""
    from napari_genselfdiff.backbone import official

    blocks = {ours: theirs for theirs, ours in official._BLOCK.items()}
    parts = {"norm": "fn.norm", "qkv": "fn.fn.to_qkv", "out": "fn.fn.to_out.0"}
    parts["out_norm"] = "fn.fn.to_out.1"
    names = {}
    for ours, tensor in model.state_dict().items():
        *path, part, kind = ours.split(".")
        place = ".".join(path)
        if part in ("stem", "expand", "project") or place == "head":
            top = {
                "stem": "init_conv",
                "expand": "time_mlp.1",
                "project": "time_mlp.3",
                "out": "final_conv.1",
            }
            names[f"{top[part]}.{kind}"] = tensor
            continue
        side = {"encoder": "downs", "decoder": "ups", "down": "downs", "up": "ups"}
        if path[:2] in (["unet", "down"], ["unet", "up"]):
            names[f"{side[path[1]]}.{part}.3.{kind}"] = tensor
        elif path[0] == "head":
            names[f"final_conv.0.{blocks[part]}.{kind}"] = tensor
        elif path[1].startswith("middle"):
            middle = path[1].removeprefix("middle")
            if middle == "_attention":
                plain = {**parts, "out": "fn.fn.to_out"}
                names[f"mid_attn.{plain[part]}.{kind}"] = tensor
            else:
                names[f"mid_block{middle}.{blocks[part]}.{kind}"] = tensor
        else:
            level, inside = path[2], path[3]
            index = 2 if inside == "attention" else int(inside.removeprefix("block")) - 1
            known = parts if inside == "attention" else blocks
            names[f"{side[path[1]]}.{level}.{index}.{known[part]}.{kind}"] = tensor
    return names


@pytest.mark.parametrize("wrapped", ["plain", "lightning"])
def test_released_weights_become_a_backbone(run: Run, tmp_path: Path, wrapped: str) -> None:
    from dataclasses import replace

    from napari_genselfdiff.backbone.unet import PRESETS

    torch.manual_seed(0)
    denoiser = Denoiser(replace(PRESETS["paper"], dims=(8, 16, 24, 32), init_dim=5))
    state = _official(denoiser)
    if wrapped == "lightning":
        state = {f"model.{name}": tensor for name, tensor in state.items()}
    saved = {"epoch": 3, "state_dict": state} if wrapped != "plain" else state
    torch.save(saved, tmp_path / "released.pth")
    run("models", "import-official", tmp_path / "released.pth", "--out", tmp_path / "backbone")
    found = read_backbone(tmp_path / "backbone").load().state_dict()
    assert all(torch.equal(found[k], v) for k, v in denoiser.state_dict().items())


def test_what_is_no_checkpoint_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    import pickle

    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(pytest.fail))
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    for name in ("text", "code", "other", "none"):
        file = tmp_path / f"{name}.pth"
        result = run("models", "import-official", file, "--out", tmp_path / "o", code=1)
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()
