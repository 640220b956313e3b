from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_genselfdiff.prediction.cache import Shelf, TileCache
from napari_genselfdiff.prediction.network import Probabilities
from napari_genselfdiff.prediction.picture import Picture
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import RegionDone, predict_region
from napari_genselfdiff.prediction.tiles import tile_at
from napari_genselfdiff.slides.geometry import Region
from tests.conftest import _paint_tissue
from tests.prediction.synthetic import Darkness, make_card

CARD = make_card()
PLACE = tile_at(1, 2, CARD.tile, CARD.halo)
ROOM = 10**9


def answer(seed: int = 0) -> Probabilities:
    rng = np.random.default_rng(seed)
    first = rng.random((1, 2, 96, 96)).astype(np.float16).astype(np.float32)
    first[:, 0] = 1 - first[:, 1]
    distance = rng.random((1, 96, 96)).astype(np.float16).astype(np.float32)
    return Probabilities(first, distance, first)


def shelf(folder: Path, budget: int = ROOM, **changes: Any) -> Shelf:
    given: dict[str, Any] = {"slide_hash": "s", "mpp": 0.5, "model_hash": "m"}
    return TileCache(folder, budget).shelf(card=CARD, **{**given, "profile": Profile(), **changes})


def test_a_tile_comes_back_as_it_was(tmp_path: Path) -> None:
    found = answer()
    assert shelf(tmp_path).get(PLACE) is None
    shelf(tmp_path).put(PLACE, found, 0)
    again = shelf(tmp_path).get(PLACE)
    assert again is not None
    for one, two in zip(found, again, strict=True):
        assert one.tobytes() == two.tobytes()
    assert again.mean is again.classes


@pytest.mark.parametrize(
    "changes",
    [
        {"slide_hash": "t"},
        {"mpp": 0.25},
        {"model_hash": "n"},
        {"profile": Profile(threads=2)},
        {"profile": Profile(flips=2)},
    ],
)
def test_whatever_the_answer_depends_on_has_its_own_place(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    shelf(tmp_path).put(PLACE, answer(), 0)
    assert shelf(tmp_path, **changes).get(PLACE) is None
    assert shelf(tmp_path).get(tile_at(2, 1, CARD.tile, CARD.halo)) is None


@pytest.mark.parametrize("damage", [b"", b"abc", None])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    shelf(tmp_path).put(PLACE, answer(), 0)
    (path,) = tmp_path.glob("*/*.tile")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data) if damage is None else damage)
    assert shelf(tmp_path).get(PLACE) is None
    assert not path.exists()


def test_the_least_recently_used_tiles_go_first(tmp_path: Path) -> None:
    one = shelf(tmp_path / "measure")
    one.put(PLACE, answer(), 0)
    size = sum(p.stat().st_size for p in tmp_path.glob("measure/*/*.tile"))
    kept = shelf(tmp_path / "small", int(3.5 * size))
    tiles = [tile_at(0, column, CARD.tile, CARD.halo) for column in range(4)]
    for number, tile in enumerate(tiles[:3]):
        kept.put(tile, answer(number), 0)
    assert kept.get(tiles[0]) is not None
    kept.put(tiles[3], answer(3), 0)
    assert [kept.get(tile) is not None for tile in tiles] == [True, False, True, True]
    # A smaller budget holds from the next start on.
    cache = TileCache(tmp_path / "small", int(1.5 * size))
    assert cache.used <= 1.5 * size
    assert len(list(tmp_path.glob("small/*/*.tile"))) == 1


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = shelf(tmp_path / "file")
    kept.put(PLACE, answer(), 0)
    assert kept.get(PLACE) is None


class Counting(Darkness):
    """Counts the tiles it is asked for."""

    asked = 0

    def forward(self, x):  # type: ignore[no-untyped-def]
        Counting.asked += len(x)
        return super().forward(x)


def test_panning_back_asks_the_network_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    slide = Picture(_paint_tissue(330, 360, 3)[0], 0.5)

    class Model:
        card = CARD

    def predict(region: Region, kept: Shelf | None) -> tuple[RegionDone, int]:
        before = Counting.asked
        steps = predict_region(slide, Model(), Counting(), region, Profile(), shelf=kept)  # type: ignore[arg-type]
        *_, last = steps
        assert isinstance(last, RegionDone)
        return last, Counting.asked - before

    plain, some = predict(Region(40, 50, 130, 150), None)
    kept = shelf(tmp_path)
    first, asked = predict(Region(40, 50, 130, 150), kept)
    assert asked == some
    again, asked = predict(Region(40, 50, 130, 150), shelf(tmp_path))
    assert asked == 0
    _, asked = predict(Region(60, 50, 130, 150), kept)
    assert asked < some
    for done in (first, again):
        assert done.objects is not None
        assert plain.objects is not None
        assert done.objects.tobytes() == plain.objects.tobytes()
        assert done.confidence.tobytes() == plain.confidence.tobytes()
