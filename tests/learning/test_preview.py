from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_genselfdiff.learning.before_after import RefinePreview
from napari_genselfdiff.learning.lesson import Lesson, prepare
from napari_genselfdiff.learning.preview import Cached, PreviewConfig, cut_patch, first_look
from napari_genselfdiff.learning.refine import RefineProgress, RefineRequest, refine
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.scoring import classify
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.folder import read_model
from tests.learning import tiny


def lesson(base: Path) -> Lesson:
    tiles = [tiny.recoloured(tiny.tile(seed)) for seed in (1, 2, 3)]
    return prepare(base, base, tiles, RefineConfig())


def test_the_head_alone_gets_better_and_nothing_on_disk_changes(base: Path) -> None:
    before = {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}
    taught = lesson(base)
    looked = first_look(taught, 0, Profile())
    assert looked.preview.better, looked.preview.sentence
    assert looked.preview.new > looked.preview.old
    assert looked.s_per_pixel > 0
    picture = looked.preview.picture
    assert picture is not None
    assert picture.known.any()
    assert (picture.before != picture.after).any()
    assert before == {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}


def test_what_it_is_compared_with_is_the_model_in_use(base: Path) -> None:
    taught = lesson(base)
    picture = first_look(taught, 0, Profile()).preview.picture
    assert picture is not None
    (place,) = [t for t in taught.tiles if np.array_equal(t.image, picture.image)]
    answer = classify(read_model(base).load(), place.image)
    assert np.array_equal(answer, picture.before)


def test_a_preview_comes_before_the_first_step(base: Path, tmp_path: Path) -> None:
    config = RefineConfig(budget_s=1.0, patch=64, batch=2, most_steps=2, fewest_steps=1)
    tiles = [tiny.recoloured(tiny.tile(seed)) for seed in (1, 2)]
    steps = refine(RefineRequest(base, base, tiles, tmp_path / "out", "r", config), Profile())
    stages = [item.stage if isinstance(item, RefineProgress) else type(item) for item in steps]
    assert stages.index(RefinePreview) < stages.index("learning")


def test_words() -> None:
    better = RefinePreview(better=True, old=0.712, new=0.741, picture=None, seconds=2.31)
    assert "Dice 0.71 → 0.74" in better.sentence
    assert "2.3 s" in better.sentence
    assert "Still learning" in RefinePreview(False, 0.7, 0.6, None).sentence


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 60), st.integers(20, 60))
def test_a_patch_turns_features_and_labels_alike(index: int, height: int, width: int) -> None:
    """Features that spell out the labels still do so in every patch."""
    rng = np.random.default_rng(index)
    small = torch.from_numpy(rng.integers(0, 2, (height, width)))
    large = small.repeat_interleave(2, 0).repeat_interleave(2, 1)
    cached = Cached(small[None].float(), large, large.float(), large > 0, (2 * height, 2 * width))
    packed, classes, distance, known = cut_patch([cached], index, PreviewConfig(patch=32), 2)
    assert classes.shape == (32, 32)
    again = packed[0].repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(again, classes.float())
    assert torch.equal(distance, classes.float())
    assert torch.equal(known, classes > 0)
