"""The shipped recipes, and what separates `official` from `paper`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.io import imsave

from napari_genselfdiff.backbone.heads import SegmentationOutput
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.data import ArraySource, Batch, PatchSampler
from napari_genselfdiff.learning.finish import finish_backbone
from napari_genselfdiff.learning.pretrain import pretrain
from napari_genselfdiff.learning.recipe import (
    RECIPES,
    FinetuneRecipe,
    PretrainRecipe,
    UnlabelledData,
    read_recipe,
)
from napari_genselfdiff.learning.sources import unlabelled_sources
from tests.backbone.networks import TINY
from tests.learning import tiny

FINETUNED = {"nuclei", "default_finetune", "official_finetune", "paper_finetune"}
GOLDEN = Path(__file__).parents[1] / "golden" / "losses_and_schedule.npz"
OLD_PRETRAIN = {
    "name": "old",
    "preset": "fast",
    "data": {"root": "", "list": "splits/pretrain_open.txt", "folders": [], "sets": []},
    "noise": {"timesteps": 1000, "schedule": "quadratic"},
    "weighting": "uniform",
    "prediction": "epsilon",
    "patch": {"size": 128, "mpp_range": [0.25, 0.7], "rotate": True, "stain": None},
    "loop": {"total_images": 40000, "batch": 32, "clip": 1.0, "ema_decay": 0.998},
    "snapshots": {"every_images": 3200},
}
MINIMAL: dict[str, Any] = {"name": "n", "data": {}, "loop": {"total_images": 8}}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        inside = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        leaves |= inside if inside is not None else {prefix + key: value}
    return leaves


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read_and_survives_its_json(path: Path) -> None:
    recipe: PretrainRecipe | FinetuneRecipe
    if path.stem in FINETUNED:
        recipe = read_recipe(FinetuneRecipe, path.stem)
    else:
        recipe = read_recipe(PretrainRecipe, path.stem)
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe


def test_only_the_named_defects_separate_official_from_paper() -> None:
    official, paper = (
        flat(read_recipe(PretrainRecipe, name).model_dump()) for name in ("official", "paper")
    )
    assert {key: official[key] for key in official if official[key] != paper[key]} == {
        "name": "official",
        "preset": "paper",
        "init": "released",
        "loop.reduction": "sum",
    }
    assert (paper["preset"], paper["init"], paper["loop.reduction"]) == (
        "paper_skip",
        "default",
        "mean",
    )


def test_only_the_named_defects_separate_the_fine_tunings() -> None:
    official, paper = (
        flat(read_recipe(FinetuneRecipe, f"{name}_finetune").model_dump())
        for name in ("official", "paper")
    )
    assert {key: official[key] for key in official if official[key] != paper[key]} == {
        "name": "official_finetune",
        "preset": "paper",
        "start": "runs/official",
        "init": "released",
        "loss.released_focal": True,
        "loss.released_structural": True,
        "patch.input_range": "unit",
    }
    assert official["loop.betas"] == (0.5, 0.999)
    assert official["loop.total_images"] == 150 * 30 * 144


def test_the_official_recipes_loss_is_the_golden_one() -> None:
    """What the loop minimises, from the recipe on: the released focal + structural loss."""
    stored = np.load(GOLDEN)
    logits = torch.from_numpy(stored["softmax"]).log()
    classes = torch.from_numpy(stored["labels"])
    known, distance = torch.ones_like(classes, dtype=torch.bool), torch.rand(2, 32, 32)
    batch = Batch(torch.zeros(2, 3, 32, 32), (0, 1), classes, distance, known)
    recipe = read_recipe(FinetuneRecipe, "official_finetune")
    loss, _ = recipe.loss.score(SegmentationOutput(logits, distance[:, None]), batch)
    wanted = float(stored["focal_gamma2"]) + float(stored["ss_beta01_C001"])
    assert float(loss.mean()) == pytest.approx(wanted, rel=1e-5)


def test_the_papers_patches_are_untouched_crops_on_the_grid() -> None:
    recipe = read_recipe(PretrainRecipe, "paper")
    image = np.random.default_rng(0).integers(0, 256, (400, 330, 3), np.uint8)
    sampler = PatchSampler([ArraySource(image, None)], recipe.patch, seed=0)
    crops = {}
    for y in (0, 64, 128):
        for x in (0, 64):
            crop = image[y : y + 256, x : x + 256].transpose(2, 0, 1).astype(int)
            for rows in (1, -1):
                for columns in (1, -1):
                    flipped = crop[:, ::rows, ::columns]
                    crops[flipped[:, ::64, ::64].tobytes()] = flipped, (y, x, rows, columns)
    seen = set()
    for index in range(40):
        patch = sampler.batch([index]).images[0]
        pixels = ((patch.numpy() + 1) * 127.5).round().astype(int)
        whole, place = crops[pixels[:, ::64, ::64].tobytes()]
        np.testing.assert_array_equal(pixels, whole)
        seen.add(place)
    assert len(seen) > 12


def test_a_run_of_before_is_still_understood() -> None:
    recipe = PretrainRecipe.model_validate_json(json.dumps(OLD_PRETRAIN))
    assert (recipe.pretext, recipe.init, recipe.start) == ("noise", "default", "scratch")
    assert recipe.loop.reduction == "mean"


@pytest.mark.parametrize(
    ("settings", "vain"),
    [
        ({"pretext": "masked", "prediction": "v"}, "prediction"),
        ({"pretext": "masked", "noise": {"schedule": "cosine"}}, "noise"),
        ({"masking": {"patch": 4}}, "masking"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], vain: str) -> None:
    with pytest.raises(ValueError, match=f"does not use {vain}"):
        PretrainRecipe.model_validate(MINIMAL | settings)


def test_the_word_none_takes_a_value_away(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('name = "r"\n[data]\n[loop]\ntotal_images = 8\nclip = "none"\n')
    recipe = read_recipe(PretrainRecipe, file, ["patch.stain=none", "loop.micro_batch=none"])
    assert recipe.loop.clip is None
    assert recipe.patch.stain is None


def test_a_masked_run_ends_in_a_backbone_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    fill(tmp_path, "a", "b")
    settings = {
        "name": "masked",
        "preset": "tiny",
        "pretext": "masked",
        "masking": {"patch": 4, "timesteps": 100},
        "data": {"root": str(tmp_path), "folders": ["images"]},
        "patch": {"size": 32, "skip_glass": False},
        "loop": {"total_images": 8, "batch": 4, "warmup_images": 0},
    }
    recipe, out = PretrainRecipe.model_validate(settings), tmp_path / "run"
    reports = list(pretrain(recipe, out))
    assert 0 < reports[-1].loss < 1
    card = finish_backbone(recipe, out).card
    assert (card.schedule, card.timesteps, card.prediction) == ("masked", 100, "sample")


def fill(folder: Path, *stems: str) -> None:
    """Pictures of these stems in ``images/``."""
    (folder / "images").mkdir()
    for seed, stem in enumerate(stems):
        imsave(folder / "images" / f"{stem}.png", tiny.tissue(seed)[0], check_contrast=False)


class TestListedImages:
    def test_only_these_are_read(self, tmp_path: Path) -> None:
        fill(tmp_path, "a", "b", "c")
        (tmp_path / "list.txt").write_text("c\na\n")
        sources = unlabelled_sources(self._data(tmp_path))
        assert [source.path.stem for source in sources] == ["c", "a"]
        assert [source.weight for source in sources] == [3.0, 3.0]

    def test_a_missing_one_is_named(self, tmp_path: Path) -> None:
        fill(tmp_path, "a")
        (tmp_path / "list.txt").write_text("a\nz\n")
        with pytest.raises(ConfigError, match=r"1 of 2 images of list\.txt .* first is z"):
            unlabelled_sources(self._data(tmp_path))

    def test_folders_beside_them_are_refused(self) -> None:
        change = ['data.folders=["/slides"]']
        with pytest.raises(ConfigError, match=r"pass data\.sets=\[\]"):
            read_recipe(PretrainRecipe, "paper", change)
        recipe = read_recipe(PretrainRecipe, "paper", [*change, "data.sets=[]"])
        assert recipe.data.folders == ("/slides",)

    def _data(self, root: Path) -> UnlabelledData:
        sets = [{"folder": "images", "list": "list.txt", "weight": 3.0}]
        return UnlabelledData.model_validate({"root": str(root), "sets": sets})
