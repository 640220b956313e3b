"""A class added to a task that has a model: the head gets one more output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_genselfdiff.annotation.window import ACCEPTED, HUMAN
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.corrections import (
    BEFORE,
    CorrectionTile,
    class_index,
    labels,
    relabelled,
)
from napari_genselfdiff.learning.data import Batch
from napari_genselfdiff.learning.growing import (
    Growing,
    find_homes,
    grown,
    joined,
    left_open,
    older,
    wanted_task,
)
from napari_genselfdiff.learning.lesson import Asked, prepare
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.refine import RefineRequest, RefineResult, refine
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.scoring import as_asked, classify, whole_input
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.card import ClassSpec
from napari_genselfdiff.registry.folder import read_model
from tests.learning import tiny

BROWN = ClassSpec(value=2, name="Plasma cell", color="#E69F00", key="2")
BOTH = tiny.NUCLEI.model_copy(update={"classes": (*tiny.NUCLEI.classes, BROWN)})


def two_kinds(seed: int, provenance: int = HUMAN) -> CorrectionTile:
    """A tile in which every second nucleus is brown, and called a plasma cell."""
    tile = tiny.tile(seed, provenance=provenance)
    assert tile.objects is not None
    brown = (tile.objects > 0) & (tile.objects % 2 == 0)
    image = tile.image.copy()
    image[brown] = (140, 90, 30)
    classes = np.where(brown, np.uint8(2), tile.classes)
    return replace(tile, image=image, classes=classes, source=f"kinds:{seed}")


def dice(model: Path, tile: CorrectionTile, value: int) -> float:
    answer, truth = classify(read_model(model).load(), tile.image) == value, tile.classes == value
    return float(2 * (answer & truth).sum() / (answer.sum() + truth.sum()))


@pytest.fixture(scope="module")
def learnt(base: Path) -> RefineResult:
    """The base, refined on three tiles with a class it does not know."""
    tiles = [two_kinds(1), two_kinds(2), two_kinds(3)]
    config = RefineConfig(
        budget_s=1.0, patch=64, lr=2e-3, most_steps=16, fewest_steps=16, blends=(1.0,)
    )
    out = base.parent / "two-kinds"
    request = RefineRequest(base, base, tiles, out, "two-kinds", config, Asked(BOTH, {}))
    *_, last = refine(request, Profile())
    assert isinstance(last, RefineResult)
    return last


def test_the_new_class_is_found_on_tissue_nobody_touched(base: Path, learnt: RefineResult) -> None:
    elsewhere = two_kinds(50)
    assert dice(learnt.model, elsewhere, 2) > 0.5
    assert dice(learnt.model, elsewhere, 1) > 0.5
    usual = tiny.tile(51)  # what it knew it still knows
    assert dice(learnt.model, usual, 1) > dice(base, usual, 1) - 0.05


def test_the_verdict_compares_the_new_class_with_none(learnt: RefineResult) -> None:
    verdict = learnt.verdict
    assert verdict.decision == "better", verdict.sentence
    assert verdict.classes["Plasma cell"][0] == 0.0
    assert verdict.classes["Plasma cell"][1] > 0.3
    assert "Plasma cell" in verdict.sentence
    assert "absent before" in verdict.sentence


def test_the_card_names_the_classes(learnt: RefineResult) -> None:
    card = read_model(learnt.model).card
    assert [(c.value, c.name) for c in card.task.classes] == [(1, "Nucleus"), (2, "Plasma cell")]


def test_a_later_refine_keeps_the_class(base: Path, learnt: RefineResult) -> None:
    again = prepare(
        learnt.model, base, [two_kinds(4)], RefineConfig(practice="none"), Asked(BOTH, {})
    )
    assert again.fresh == []
    assert dict(again.homes) == {2: 1}
    assert again.start().n_classes == 2
    assert len(again.tiles) == 4


@pytest.mark.parametrize("home", [0, 1])
def test_a_new_output_changes_no_answer(base: Path, home: int) -> None:
    segmenter = read_model(base).load()
    wide = grown(segmenter, tiny.NUCLEI, BOTH, {2: home})
    x = whole_input(segmenter, tiny.tile(60).image)
    with torch.inference_mode():
        old, new = (network(x).logits.softmax(1) for network in (segmenter, wide))
        torch.testing.assert_close(wide(x).distance, segmenter(x).distance)
    both = new[:, home] + new[:, 2]  # it shares what its home had, the rest is as it was
    torch.testing.assert_close(both, old[:, home], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(new[:, 1 - home], old[:, 1 - home], atol=1e-6, rtol=1e-4)
    assert (new[:, 2] < new[:, home]).all()
    assert grown(segmenter, tiny.NUCLEI, tiny.NUCLEI, {}) is segmenter


def test_an_output_of_a_class_that_is_gone_is_left_out(base: Path) -> None:
    segmenter = read_model(base).load()
    wide = grown(segmenter, tiny.NUCLEI, BOTH, {2: 0})
    back = grown(wide, BOTH, tiny.NUCLEI, {})
    assert back.n_classes == 1
    torch.testing.assert_close(back.head.out.weight, segmenter.head.out.weight)


def test_the_home_is_what_the_model_called_it(base: Path) -> None:
    segmenter = read_model(base).load()
    split = replace(tiny.tile(1), classes=tiny.tile(1).classes * np.uint8(2))
    assert find_homes(segmenter, tiny.NUCLEI, BOTH, [split]) == {2: 1}
    beside = replace(split, classes=np.where(split.classes == 0, 2, 0).astype(np.uint8))
    assert find_homes(segmenter, tiny.NUCLEI, BOTH, [beside]) == {2: 0}
    assert find_homes(segmenter, tiny.NUCLEI, BOTH, []) == {2: 0}


class TestWantedTask:
    def test_only_drawn_classes_come_in(self) -> None:
        assert wanted_task(tiny.NUCLEI, BOTH, {}, [tiny.tile(1)]) == tiny.NUCLEI
        assert wanted_task(tiny.NUCLEI, BOTH, {}, [two_kinds(1)]) == BOTH
        unseen = two_kinds(1, provenance=1)  # a model's answer, which nobody looked at
        assert wanted_task(tiny.NUCLEI, BOTH, {}, [unseen]) == tiny.NUCLEI

    def test_merged_classes_go_and_renamed_ones_are_renamed(self) -> None:
        cell = tiny.NUCLEI.classes[0].model_copy(update={"name": "Cell"})
        now = tiny.NUCLEI.model_copy(update={"classes": (cell,)})
        assert wanted_task(BOTH, now, {2: 1}, [tiny.tile(1)]) == now

    def test_a_name_taken_twice_is_one_clear_line(self) -> None:
        theirs = BOTH.model_copy(
            update={"classes": (BOTH.classes[0], BROWN.model_copy(update={"value": 3, "key": ""}))}
        )
        tile = replace(two_kinds(1), classes=(two_kinds(1).classes == 2).astype(np.uint8) * 3)
        with pytest.raises(ConfigError, match="same name"):
            wanted_task(BOTH, theirs, {}, [tile])


class TestJoined:
    """Several slides, each with classes of its own."""

    def test_all_classes_come_together(self) -> None:
        cell = tiny.NUCLEI.classes[0].model_copy(update={"name": "Cell"})
        renamed = tiny.NUCLEI.model_copy(update={"classes": (cell,)})
        both = joined(tiny.NUCLEI, [renamed, BOTH])
        assert [spec.name for spec in both.classes] == ["Cell", "Plasma cell"]
        assert joined(tiny.NUCLEI, []) == tiny.NUCLEI

    def test_one_number_for_two_new_classes_is_refused(self) -> None:
        mitosis = BROWN.model_copy(update={"name": "Mitosis"})
        other = tiny.NUCLEI.model_copy(update={"classes": (*tiny.NUCLEI.classes, mitosis)})
        with pytest.raises(ConfigError, match="Mitosis, Plasma cell"):
            joined(tiny.NUCLEI, [BOTH, other])


class TestOlderLabels:
    """What was checked before a class existed leaves open whether it is there."""

    def test_only_accepted_pixels_of_tiles_without_it_are_open(self) -> None:
        tile = tiny.tile(1, provenance=ACCEPTED)
        tile.provenance[:10] = HUMAN
        opened, drawn = left_open([tile, two_kinds(2)], {2: 1})
        assert dict(opened.open) == {2: 1}
        assert not drawn.open
        said = labels(opened, BOTH, opened.known).classes
        np.testing.assert_array_equal(said >= BEFORE, ~opened.human)
        np.testing.assert_array_equal(said % BEFORE, tile.classes)
        (base_tile,) = older([tiny.tile(3)], {2: 1})
        assert (labels(base_tile, BOTH, base_tile.known).classes >= BEFORE).all()

    def test_they_are_judged_in_the_classes_of_their_time(self) -> None:
        (tile,) = older([tiny.tile(3)], {2: 1})
        answer = np.full(tile.classes.shape, 2)
        assert (as_asked(answer, tile, class_index(BOTH)) == 1).all()
        assert (as_asked(answer, two_kinds(3), class_index(BOTH)) == 2).all()

    def test_they_do_not_speak_against_the_new_class(self) -> None:
        """Calling an older nucleus a plasma cell costs nothing, calling it background does."""
        loss = Growing(Segmentation(distance=0.0), ((2, 1),))
        images, known = torch.zeros(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
        older_nucleus = torch.full((1, 8, 8), 1 + BEFORE)

        def cost(channel: int, classes: torch.Tensor) -> float:
            says = tiny.Says(channel)
            batch = Batch(images, (0,), classes, torch.zeros(1, 8, 8), known)
            return float(loss(says, batch)[0])

        assert cost(2, older_nucleus) == pytest.approx(cost(1, older_nucleus), abs=1e-5)
        assert cost(0, older_nucleus) > cost(1, older_nucleus) + 1
        assert cost(2, older_nucleus - BEFORE) > cost(1, older_nucleus - BEFORE) + 1


def test_merged_classes_are_called_as_they_are_now() -> None:
    (tile,) = relabelled([two_kinds(1)], {2: 1})
    np.testing.assert_array_equal(tile.classes > 0, two_kinds(1).classes > 0)
    assert set(np.unique(tile.classes)) == {0, 1}
