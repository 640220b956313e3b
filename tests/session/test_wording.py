"""Plain words."""

from __future__ import annotations

import pytest

from napari_genselfdiff.annotation.tasks import NUCLEI, REGIONS
from napari_genselfdiff.session import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (61, "1 min 1 s"), (1200, "20 min"), (3900, "1 h 5 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("part", "words"), [(0, "0 %"), (1, "< 1 %"), (500, "50 %"), (999, "> 99 %"), (1000, "100 %")]
)
def test_share_never_hides_what_is_there(part: int, words: str) -> None:
    assert wording.share(part, 1000) == words


def test_things_are_counted_in_the_words_of_the_task() -> None:
    assert wording.things(NUCLEI, 1) == "1 nucleus"
    assert wording.things(NUCLEI, 1204) == "1,204 nuclei"
    assert wording.things(REGIONS) == "areas"


def test_coverage_tells_unknown_from_looked_at() -> None:
    pixels = {"unknown": 870, "model": 90, "accepted": 40, "human": 0}
    words = wording.coverage(pixels)
    assert words == (
        "69 % model only, 31 % accepted, 0 % corrected by hand. 87 % of the slide is unknown."
    )
    pixels |= {"unknown": 0, "human": 1}
    assert "unknown" not in wording.coverage(pixels)
    assert "< 1 % corrected" in wording.coverage(pixels)
    nothing = {"unknown": 10, "model": 0, "accepted": 0, "human": 0}
    assert "Nothing annotated" in wording.coverage(nothing)


def test_kept_is_said_only_where_something_was_kept() -> None:
    assert wording.kept(0, 0, NUCLEI) == ""
    assert wording.kept(14, 900, NUCLEI).startswith("Kept 14 nuclei")
