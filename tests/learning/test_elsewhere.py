"""Places nobody looked at: which they are, what is kept there, and what is refused for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_genselfdiff.annotation.window import ACCEPTED
from napari_genselfdiff.learning.answered import Unlabelled, answered
from napari_genselfdiff.learning.elsewhere import PLACES, SIDE, CorrectedSlide, read_elsewhere
from napari_genselfdiff.learning.gate import LEAST_LIKENESS
from napari_genselfdiff.learning.lesson import KEEP, REPLAY, RESERVE, prepare, with_elsewhere
from napari_genselfdiff.learning.refine import RefineRequest, RefineResult, refine
from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.scoring import classify
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.folder import Model, read_model, write_model
from napari_genselfdiff.slides.geometry import Region
from tests.learning import tiny

GLASS = 2  # columns of places to the right that hold nothing
CONFIG = RefineConfig(
    budget_s=60.0, patch=64, batch=4, lr=2e-3, most_steps=40, fewest_steps=40, blends=(1.0,)
)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 x 4 places with tissue and two columns of glass."""
    pixels = np.full((5 * SIDE, (4 + GLASS) * SIDE, 3), 245, np.uint8)
    pixels[:, : 4 * SIDE] = tiny.tissue(7, 5 * SIDE)[0][:, : 4 * SIDE]
    path = tmp_path_factory.mktemp("slides") / "slide.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def young(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The model of these tests as if Refine had begun it: without any tiles of its own."""
    trained = read_model(base)
    fields = {"task": tiny.NUCLEI, "mpp_range": (0.25, 0.5), "tile": 64, "halo": 16}
    model = write_model(tmp_path_factory.mktemp("m") / "young", fields, trained.load())
    assert not any((model.path / part).exists() for part in (KEEP, REPLAY, RESERVE))
    return model


def places(pictures: list[Unlabelled]) -> list[Region]:
    corners = [picture.source.split(":")[-1].split(",") for picture in pictures]
    return [Region(int(y), int(x), SIDE, SIDE) for y, x in corners]


@given(
    checked=st.lists(
        st.builds(
            Region,
            st.integers(0, 1200),
            st.integers(0, 1200),
            st.integers(1, 600),
            st.integers(1, 600),
        ),
        max_size=4,
    ),
    seed=st.integers(0, 9),
)
@settings(max_examples=15)
def test_places_hold_tissue_that_nobody_checked(
    slide: Path, young: Model, checked: list[Region], seed: int
) -> None:
    given_to = CorrectedSlide(slide, 0.25, checked)
    found = read_elsewhere([given_to], young.card, seed=seed)
    where = places(found)
    assert len(set(where)) == len(where) <= PLACES
    assert not any(a.intersection(b) for a in where for b in checked)
    assert all(region.x < 4 * SIDE for region in where)
    free = [
        Region(y * SIDE, x * SIDE, SIDE, SIDE)
        for y in range(5)
        for x in range(4)
        if not any(Region(y * SIDE, x * SIDE, SIDE, SIDE).intersection(b) for b in checked)
    ]
    assert len(where) == min(PLACES, len(free))
    again = read_elsewhere([given_to], young.card, seed=seed)
    assert [picture.source for picture in again] == [picture.source for picture in found]


def test_several_slides_share_the_places_and_small_ones_do_not_matter(
    slide: Path, young: Model, tmp_path: Path
) -> None:
    small = tmp_path / "small.png"
    Image.fromarray(tiny.tissue(3, 100)[0]).save(small)
    slides = [CorrectedSlide(small, 0.25, []), CorrectedSlide(slide, 0.25, [])]
    found = read_elsewhere(slides, young.card)
    assert len(found) == 1 + 5 * 4
    assert found[0].image.shape == (100, 100, 3)
    assert all(picture.mpp == 0.25 for picture in found)


def test_only_sure_answers_count(base: Path) -> None:
    model = read_model(base)
    picture = Unlabelled(tiny.tissue(4)[0], 0.25, "here")
    (every,) = answered([picture], model.load(), tiny.NUCLEI)
    (sure,) = answered([picture], model.load(), tiny.NUCLEI, sure=0.8)
    assert every.known.all()
    assert 0.5 < sure.known.mean() < 1.0
    assert np.array_equal(sure.classes, every.classes)
    assert sure.provenance.max() == ACCEPTED
    assert sure.objects is not None
    assert (sure.objects > 0).sum() == (sure.classes > 0).sum()


def test_who_has_tiles_to_practise_on_does_not_look_elsewhere(
    base: Path, young: Model, slide: Path
) -> None:
    slides, tiles = [CorrectedSlide(slide, 0.25, [])], [tiny.tile(1)]
    for path, config, is_looked_at in (
        (base, CONFIG, False),
        (young.path, CONFIG, True),
        (young.path, replace(CONFIG, practice="none"), False),
    ):
        lesson = prepare(path, path, tiles, config)
        more = with_elsewhere(lesson, slides, config, Profile())
        assert bool(more.elsewhere) == is_looked_at
        if is_looked_at:
            assert len(more.replay) == 2 * 20 // 3 + 1
            assert len(more.elsewhere) == 20 // 3
            both = {tile.source for tile in (*more.replay, *more.elsewhere)}
            assert len(both) == 20
        else:
            assert more == lesson


def refined(young: Model, out: Path, slides: list[CorrectedSlide]) -> RefineResult:
    """Learnt from tiles in which somebody erased every nucleus."""
    nothing = np.zeros((128, 128), np.uint8)
    tiles = [replace(tiny.tile(n), classes=nothing, objects=None) for n in (1, 2, 3)]
    request = RefineRequest(young.path, young.path, tiles, out, "refined", CONFIG, slides=slides)
    *_, result = refine(request, Profile())
    assert isinstance(result, RefineResult)
    return result


def agreement(model: Model, with_model: Model) -> float:
    """Dice between two models on tissue of its own."""
    image = tiny.tissue(60, 256)[0]
    a, b = (classify(one.load(), image) > 0 for one in (model, with_model))
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_what_is_unlearnt_elsewhere_is_noticed_there(
    young: Model, slide: Path, tmp_path: Path
) -> None:
    """Without other places the comparison cannot know, and says so."""
    alone = refined(young, tmp_path / "alone", [])
    assert alone.verdict.elsewhere is None
    assert alone.verdict.decision == "better"
    assert "Nothing else was compared" in alone.verdict.sentence
    guarded = refined(young, tmp_path / "guarded", [CorrectedSlide(slide, 0.25, [])])
    likeness = guarded.verdict.elsewhere
    assert likeness is not None
    assert likeness > agreement(read_model(alone.model), young) + 0.2
    assert (likeness < LEAST_LIKENESS) == guarded.verdict.strays
    assert "Nothing else" not in guarded.verdict.sentence
