"""Fine-tuning from labelled files: several classes, and pixels nobody labelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from napari_genselfdiff.backbone.heads import Segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.learning.data import PatchConfig, PatchSampler
from napari_genselfdiff.learning.finetune import finetune, start_segmenter
from napari_genselfdiff.learning.finish import finish_model
from napari_genselfdiff.learning.loop import LoopConfig, TrainState, train
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.recipe import FinetuneRecipe, read_recipe
from napari_genselfdiff.registry.registry import Registry
from tests.backbone.networks import TINY
from tests.learning import tiny

COLOURS = {1: (95, 65, 140), 2: (120, 160, 60)}


def write_two_classes(folder: Path, seed: int) -> None:
    """Tissue whose discs are of two classes by colour, with an 8-bit mask."""
    image, ids = tiny.tissue(seed)
    classes = np.where(ids > 0, 1 + ids % 2, 0).astype(np.uint8)
    for value, colour in COLOURS.items():
        image[classes == value] = colour
    for name, pixels in (("images", image), ("masks", classes)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{seed}.png")


def two_class_recipe(root: Path) -> FinetuneRecipe:
    classes = [
        {"value": v, "name": name, "color": "#0072B2", "key": str(v)}
        for v, name in ((1, "Violet"), (2, "Green"))
    ]
    settings: dict[str, Any] = {
        "name": "two",
        "preset": "tiny",
        "start": "scratch",
        "task": {"name": "Two", "kind": "objects", "mpp": 0.25, "classes": classes},
        "data": {"root": str(root), "sets": [{"folder": "two", "mpp": 0.25}]},
        "patch": {"size": 48, "mpp_range": [0.25, 0.25], "stain": None},
        "loop": {"total_images": 320, "batch": 4, "lr": 6e-3, "ema_decay": 0.8},
        "snapshots": {"tiles": 0},
    }
    return FinetuneRecipe.model_validate(settings)


def test_several_classes_from_files_to_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    for seed in (0, 1):
        write_two_classes(tmp_path / "two", seed)
    recipe, out = two_class_recipe(tmp_path), tmp_path / "run"
    list(finetune(recipe, out))
    model = finish_model(recipe, out)
    assert [spec.name for spec in model.card.task.classes] == ["Violet", "Green"]
    write_two_classes(tmp_path / "new", 2)
    image, truth = (
        np.asarray(Image.open(tmp_path / "new" / kind / "2.png")) for kind in ("images", "masks")
    )
    x = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
    with torch.inference_mode():
        found = model.load()(x).logits[0].argmax(0).numpy()
    for value in COLOURS:
        overlap = ((found == value) & (truth == value)).sum()
        assert 2 * overlap / ((found == value).sum() + (truth == value).sum()) > 0.8


def test_wrong_labels_at_unknown_pixels_change_no_weight() -> None:
    """Training with nonsense where nothing is known gives the very same network, bit by bit."""
    known = np.zeros((128, 128), bool)
    known[20:90, 30:110] = True
    first = tiny.source(0)
    assert first.truth is not None
    partial = first.truth._replace(known=known)
    nonsense = np.random.default_rng(0).integers(0, 2, known.shape).astype(np.uint8)
    spoilt = partial._replace(
        classes=np.where(known, partial.classes, nonsense),
        distance=np.where(known, partial.distance, nonsense * 0.7).astype(np.float32),
    )
    weights = []
    for truth in (partial, spoilt):
        torch.manual_seed(0)
        config = LoopConfig(total_images=16, batch=4, warmup_images=0, ema_decay=0.0)
        state = TrainState.create(Segmenter(TINY, 1, 50), config)
        patches = PatchConfig(size=64, rotate=False, free_zoom=(1, 1), mpp_range=(0.25, 0.25))
        sampler = PatchSampler([replace(first, truth=truth)], patches, 0)
        for _ in train(state, sampler.batch, Segmentation(), config):
            pass
        weights.append(cast("Segmenter", state.model).state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_fine_tuning_recipe_starts_from_a_model_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The U-Net of a model that learned another set: how other open labels are used."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    write_two_classes(tmp_path / "two", 0)
    recipe = two_class_recipe(tmp_path)
    short = recipe.model_copy(update={"loop": replace(recipe.loop, total_images=8)})
    list(finetune(short, tmp_path / "first"))
    before = finish_model(short, tmp_path / "first").load()
    again = short.model_copy(
        update={
            "start": str(tmp_path / "first"),
            "loop": replace(short.loop, lr=1e-12, weight_decay=0.0, warmup_images=0),
        }
    )
    list(finetune(again, tmp_path / "second"))
    after = finish_model(again, tmp_path / "second").load()
    for name, value in after.unet.state_dict().items():
        torch.testing.assert_close(value, before.unet.state_dict()[name])


def test_the_shipped_model_is_a_start_too() -> None:
    """Track B of a label study: other open labels first."""
    recipe = read_recipe(FinetuneRecipe, "default_finetune", ["start=bundled_nuclei"])
    ours = start_segmenter(recipe).unet.state_dict()
    shipped = Registry().resolve("nuclei").load().unet.state_dict()
    assert ours.keys() == shipped.keys()
    assert all(torch.equal(ours[name], shipped[name]) for name in ours)


def test_the_shipped_default_begins_with_the_backbone() -> None:
    recipe = read_recipe(FinetuneRecipe, "default_finetune")
    assert (recipe.start, recipe.preset) == ("bundled", "fast")
