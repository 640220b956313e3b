"""Going on from a backbone: the shipped one, one's own, and ones that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.backbone.weights import read_state, write_weights
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.learning.finetune import start_segmenter
from napari_genselfdiff.learning.finish import finish_backbone
from napari_genselfdiff.learning.pretrain import pretrain
from napari_genselfdiff.learning.recipe import FinetuneRecipe, PretrainRecipe, read_recipe
from napari_genselfdiff.learning.start import start_denoiser, start_file
from napari_genselfdiff.registry.folder import read_backbone
from tests.backbone.networks import TINY
from tests.learning import pictures, tiny


def adapt(*overrides: str) -> PretrainRecipe:
    return read_recipe(PretrainRecipe, "adapt", list(overrides))


def test_adapt_begins_with_the_shipped_backbone() -> None:
    """Also: the recipe's pretext is the one the shipped backbone learned."""
    shipped = read_state(start_file("bundled"))
    ours = start_denoiser(adapt()).state_dict()
    assert ours.keys() == shipped.keys()
    assert all(torch.equal(ours[name], shipped[name]) for name in ours)


def test_another_pretext_is_refused_with_the_settings_that_fit() -> None:
    with pytest.raises(ConfigError, match=r"another pretext.*noise\.schedule=quadratic"):
        start_denoiser(adapt("noise.schedule=cosine"))
    with pytest.raises(ConfigError, match=r"prediction=v, .* or begin with start=scratch"):
        start_denoiser(adapt("prediction=epsilon"))
    start_denoiser(adapt("prediction=epsilon", "start=scratch"))


def test_a_new_head_on_the_old_u_net_takes_any_pretext() -> None:
    shipped = read_state(start_file("bundled"))
    ours = start_denoiser(adapt("prediction=sample", "start_head=new")).state_dict()
    body = [name for name in ours if name.startswith("unet.")]
    assert all(torch.equal(ours[name], shipped[name]) for name in body)
    drawn = [n for n in ours if n.startswith("head.") and not torch.equal(ours[n], shipped[n])]
    assert {name.split(".")[1] for name in drawn} == {"expand", "look", "mix", "out"}


def test_an_old_head_may_learn_another_pretext() -> None:
    shipped = read_state(start_file("bundled"))
    ours = start_denoiser(adapt("noise.schedule=cosine", "start_head=reuse")).state_dict()
    assert all(torch.equal(ours[name], shipped[name]) for name in ours)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    write_weights(tmp_path / "weights.safetensors", Denoiser(TINY))
    with pytest.raises(ModelFileError, match="another network than fast"):
        start_denoiser(adapt(f"start={tmp_path}"))
    with pytest.raises(ModelFileError, match="is missing"):
        start_denoiser(adapt(f"start={tmp_path / 'no'}"))


def test_learning_a_scanner_gives_a_backbone_to_fine_tune(tmp_path: Path) -> None:
    """The whole way on a synthetic slide: adapt, finish, start a segmenter from the folder."""
    for number in range(2):
        level = tiny.tissue(number, 256)[0]
        pictures.write_slide(tmp_path / "slides" / f"{number}.tif", [level])
    (tmp_path / "slides" / "notes.txt").write_text("not a slide")
    folders = json.dumps([str(tmp_path / "slides")])
    recipe = adapt(
        f"data.folders={folders}", "patch.size=32", "loop.total_images=4", "loop.batch=2",
        "loop.warmup_images=2", "loop.precision=fp32", "loop.ema_decay=0.5", "snapshots.tiles=0",
    )  # fmt: skip
    out = tmp_path / "mine"
    assert [report.images_seen for report in pretrain(recipe, out)] == [2, 4]
    backbone = finish_backbone(recipe, out)
    assert backbone.card.images_seen == 4
    inherited = read_backbone(start_file("bundled").parent).card.data
    assert [d.name for d in backbone.card.data] == [*(d.name for d in inherited), "slides"]
    learnt = read_backbone(out).load().state_dict()
    shipped = read_state(start_file("bundled"))
    apart = max(float((learnt[name] - shipped[name]).abs().max()) for name in shipped)
    assert 0 < apart < 0.01
    nuclei = read_recipe(FinetuneRecipe, "nuclei", [f"start={out}"])
    unet = start_segmenter(nuclei).unet.state_dict()
    assert all(torch.equal(unet[name], learnt[f"unet.{name}"]) for name in unet)
    again = start_denoiser(adapt(f"start={out}")).state_dict()
    assert all(torch.equal(again[name], learnt[name]) for name in learnt)
