from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_genselfdiff.backbone.heads import Segmenter
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.before_after import RefinePreview
from napari_genselfdiff.learning.blend import Asides, Limit, blend
from napari_genselfdiff.learning.corrections import CorrectionTile, class_index, read_tiles
from napari_genselfdiff.learning.lesson import CORRECTIONS, RESERVE
from napari_genselfdiff.learning.refine import (
    RefineProgress,
    RefineRequest,
    RefineResult,
    refine,
)
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.scoring import classify, on_known
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.folder import read_model
from tests.learning import tiny

CONFIG = RefineConfig(
    budget_s=8.0,
    patch=64,
    batch=4,
    lr=2e-3,
    most_steps=40,
    fewest_steps=40,
    blends=(1.0,),  # a network this small has no other way to unlearn
)


@pytest.fixture(scope="module")
def refined(base: Path) -> RefineResult:
    """The base refined on three tiles of pale nuclei."""
    return run(request(base, base.parent / "refined"))


def pale(seed: int) -> CorrectionTile:
    return tiny.recoloured(tiny.tile(seed))


def dice(model: Path, tile: CorrectionTile) -> float:
    answer, truth = classify(read_model(model).load(), tile.image) > 0, tile.classes > 0
    return float(2 * (answer & truth).sum() / (answer.sum() + truth.sum()))


def request(base: Path, out: Path, **changes: object) -> RefineRequest:
    tiles = [pale(1), pale(2), pale(3)]
    whole = RefineRequest(base, base, tiles, out, "refined-1", CONFIG)
    return replace(whole, **changes)  # type: ignore[arg-type]


def run(request: RefineRequest) -> RefineResult:
    items = list(refine(request, Profile()))
    assert isinstance(items[-1], RefineResult)
    progress = [item for item in items[:-1] if isinstance(item, RefineProgress)]
    previews = [item for item in items if isinstance(item, RefinePreview)]
    assert len(previews) == 1
    assert len(progress) + 1 == len(items) - 1
    done = [item.done for item in progress]
    assert done == sorted(done)
    return items[-1]


def test_corrections_make_a_better_model_on_tissue_nobody_touched(
    base: Path, refined: RefineResult
) -> None:
    assert refined.verdict.decision == "better", refined.verdict.sentence
    old, new = refined.verdict.right["corrected"]
    assert 0 <= old < new <= 1
    # The verdict is about the file: what is on disk really answers better somewhere else.
    assert dice(refined.model, pale(50)) > dice(base, pale(50)) + 0.1
    assert dice(refined.model, tiny.tile(51)) > dice(base, tiny.tile(51)) - 0.05


def test_the_new_model_says_where_it_comes_from(base: Path, refined: RefineResult) -> None:
    card = read_model(refined.model).card
    assert card.parent == read_model(base).hash
    assert card.gate is not None
    assert card.gate["decision"] == "better"
    tiles = read_tiles(refined.model / CORRECTIONS)
    assert [tile.source for tile in tiles] == ["test:1:pale", "test:2:pale", "test:3:pale"]


def test_deleted_false_objects_teach(base: Path, tmp_path: Path) -> None:
    """Known background removes such false positives elsewhere."""
    yy, xx = np.mgrid[:128, :128]

    def with_soot(seed: int) -> tuple[CorrectionTile, NDArray[np.bool_]]:
        tile = tiny.tile(seed)
        dots = np.zeros((128, 128), bool)
        for y, x in np.random.default_rng(seed).integers(8, 120, (8, 2)):
            dots |= (yy - y) ** 2 + (xx - x) ** 2 < 36
        dots &= tile.classes == 0
        image = tile.image.copy()
        image[dots] = (40, 90, 40)  # green dirt, not haematoxylin
        return replace(tile, image=image), dots

    tiles = [with_soot(seed)[0] for seed in (21, 22, 23)]
    result = run(request(base, tmp_path / "clean", tiles=tiles))
    elsewhere, dots = with_soot(60)
    false = [
        float((classify(read_model(m).load(), elsewhere.image)[dots] > 0).mean())
        for m in (base, result.model)
    ]
    assert false[0] > 0.3
    assert false[1] < 0.5 * false[0]


def test_earlier_corrections_stay_in_the_line(
    base: Path, refined: RefineResult, tmp_path: Path
) -> None:
    quick = replace(CONFIG, most_steps=4, fewest_steps=4)
    more = request(base, tmp_path / "two", current=refined.model, tiles=[pale(4)], config=quick)
    sources = [tile.source for tile in read_tiles(run(more).model / CORRECTIONS)]
    assert sources == [f"test:{n}:pale" for n in (1, 2, 3, 4)]


def test_shuffled_labels_are_refused(base: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tiles = [tiny.tile(n) for n in (11, 12, 13)]
    noise = [
        replace(t, classes=rng.permutation(t.classes.ravel()).reshape(128, 128), objects=None)
        for t in tiles
    ]
    result = run(request(base, tmp_path / "bad", tiles=noise))
    assert result.verdict.decision == "not_better", result.verdict.sentence


def test_stopping_leaves_nothing(base: Path, tmp_path: Path) -> None:
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 5

    items = list(refine(request(base, tmp_path / "out"), Profile(), should_stop=stop))
    assert not any(isinstance(item, RefineResult) for item in items)
    assert not (tmp_path / "out").exists()


def test_concluding_judges_what_was_learnt_so_far(base: Path, tmp_path: Path) -> None:
    enough: list[bool] = []
    long = replace(CONFIG, most_steps=10_000, budget_s=600.0)
    steps = refine(
        request(base, tmp_path / "out", config=long),
        Profile(),
        should_conclude=lambda: bool(enough),
    )
    items = []
    for item in steps:
        items.append(item)
        if isinstance(item, RefineProgress) and item.images_seen >= 2 * CONFIG.batch:
            enough.append(True)
    result = items[-1]
    assert isinstance(result, RefineResult)
    assert result.images_seen == 2 * CONFIG.batch
    assert read_model(result.model).card.gate is not None


def test_nothing_known_is_a_clear_error(base: Path, tmp_path: Path) -> None:
    tiles = [tiny.tile(1, provenance=1)]
    with pytest.raises(ConfigError, match="nothing to learn from"):
        list(refine(request(base, tmp_path / "out", tiles=tiles), Profile()))


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_tiles_work(base: Path, tmp_path: Path, count: int) -> None:
    tiles = [tiny.tile(n) for n in range(count)]
    quick = replace(CONFIG, most_steps=12, fewest_steps=12)
    result = run(request(base, tmp_path / "out", tiles=tiles, config=quick))
    assert result.n_tiles == count
    assert result.picture.image.shape == (128, 128, 3)


NOTHING = Asides([], [])


class TestBlend:
    """Going back towards the base, as far as what it knew asks for."""

    INDEX = class_index(tiny.NUCLEI)

    def limit(self, base: Path, allowed: float = 0.005) -> Limit:
        reserve = read_tiles(base / RESERVE)
        return Limit(reserve, on_known(read_model(base).load(), reserve, self.INDEX), allowed)

    def ruined(self, base: Path) -> Segmenter:
        """Every answer is background."""
        learnt = read_model(base).load()
        assert learnt.head.out.bias is not None
        with torch.no_grad():
            learnt.head.out.bias.copy_(torch.tensor([50.0, -50.0, 0.0]))
        return learnt

    def test_goes_back_as_far_as_the_reserve_asks(self, base: Path) -> None:
        start, learnt = read_model(base).load(), self.ruined(base)
        limits = [self.limit(base)]
        assert blend(learnt, start, limits, NOTHING, self.INDEX, (1.0, 0.5, 0.0)) == 0.0
        for a, b in zip(learnt.parameters(), start.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_keeps_everything_where_nothing_is_lost(self, base: Path) -> None:
        start, learnt = read_model(base).load(), read_model(base).load()
        bias = learnt.head.out.bias
        assert bias is not None
        with torch.no_grad():
            bias.add_(0.01)
        goal = bias.clone()
        limits = [self.limit(base)]
        assert blend(learnt, start, limits, NOTHING, self.INDEX, (0.5, 1.0)) == 1.0
        torch.testing.assert_close(bias, goal)

    def test_goes_back_further_where_the_next_limit_asks(self, base: Path) -> None:
        start, limits = read_model(base).load(), [self.limit(base, 2.0), self.limit(base)]
        learnt = self.ruined(base)
        assert blend(learnt, start, limits, NOTHING, self.INDEX, (1.0, 0.0)) == 0.0

    def test_gives_up_the_last_limit_first(self, base: Path) -> None:
        start, limits = read_model(base).load(), [self.limit(base, 2.0), self.limit(base)]
        learnt = self.ruined(base)
        assert blend(learnt, start, limits, NOTHING, self.INDEX, (1.0, 0.9)) == 1.0
        assert blend(learnt, start, limits[::-1], NOTHING, self.INDEX, (1.0, 0.9)) == 0.9
