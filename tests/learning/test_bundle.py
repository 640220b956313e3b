"""Corrections as one file: nothing is lost on the way, and no file from outside is believed."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.learning import bundle as bundle_module
from napari_genselfdiff.learning.bundle import (
    BUNDLE_FILE,
    SlideRef,
    read_bundle,
    tiles_for,
    write_bundle,
)
from napari_genselfdiff.learning.corrections import CorrectionTile
from napari_genselfdiff.registry.card import ClassSpec
from napari_genselfdiff.registry.folder import Model, data_hash, write_model
from tests.learning import tiny
from tests.registry.networks import network

SLIDES = [SlideRef(hash="ab" * 32)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models") / "nuclei"
    return write_model(folder, {"task": tiny.NUCLEI, "mpp_range": (0.25, 0.5)}, network())


@pytest.fixture
def packed(model: Model, tmp_path: Path) -> Path:
    path = tmp_path / "fixes.gsd-bundle.zip"
    write_bundle(path, [tiny.tile(1, 64), mixed(2)], model, SLIDES)
    return path


def mixed(seed: int) -> CorrectionTile:
    """A tile of which every part is known in another way."""
    tile = tiny.tile(seed, 64)
    return replace(tile, provenance=np.repeat(np.arange(4, dtype=np.uint8), 16)[:, None] * np.ones(
        64, np.uint8
    ))  # fmt: skip


def rewrite(path: Path, change: dict[str, bytes | None], *, signed: bool = False) -> Path:
    """Copy a bundle with entries changed, added or (None) left out; ``signed`` mends the digest."""
    with zipfile.ZipFile(path) as old:
        entries: dict[str, bytes | None] = {i.filename: old.read(i) for i in old.infolist()}
    whole = {k: v for k, v in {**entries, **change}.items() if v is not None}
    if signed:
        card = json.loads(whole[BUNDLE_FILE])
        card["data_sha256"] = data_hash({k: v for k, v in whole.items() if k != BUNDLE_FILE})
        whole[BUNDLE_FILE] = json.dumps(card).encode()
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(target, "w") as new:
        for name, data in whole.items():
            new.writestr(name, data)
    return target


def refused(path: Path, words: str) -> None:
    with pytest.raises(ModelFileError, match=words) as caught:
        read_bundle(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "/gsd-bundle-" not in str(caught.value)  # nobody knows that folder


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_nothing_is_lost_on_the_way(packed: Path, model: Model) -> None:
    read = read_bundle(packed)
    for sent, got in zip([tiny.tile(1, 64), mixed(2)], read.tiles, strict=True):
        np.testing.assert_array_equal(got.image, sent.image)
        np.testing.assert_array_equal(got.classes, sent.classes)
        np.testing.assert_array_equal(got.provenance, sent.provenance)
        assert got.objects is not None
        assert sent.objects is not None
        pairs = set(zip(got.objects.ravel(), sent.objects.ravel(), strict=True))
        assert len(pairs) == len(np.unique(sent.objects))  # renumbered, one to one
        assert (got.mpp, got.source) == (sent.mpp, sent.source)
    assert read.card.task == tiny.NUCLEI
    assert (read.card.model, read.card.model_hash) == (model.card.name, model.hash)
    assert read.card.slides == tuple(SLIDES)


def test_equal_corrections_give_equal_bytes(packed: Path, model: Model, tmp_path: Path) -> None:
    again = tmp_path / "again.gsd-bundle.zip"
    write_bundle(again, [tiny.tile(1, 64), mixed(2)], model, SLIDES)
    assert again.read_bytes() == packed.read_bytes()


def test_unknown_tiles_are_left_out(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    write_bundle(path, [tiny.tile(1, 64, provenance=1), tiny.tile(2, 64, provenance=2)], model, [])
    assert [tile.source for tile in read_bundle(path).tiles] == ["test:2"]
    with pytest.raises(ConfigError, match="nothing to hand over"):
        write_bundle(path, [tiny.tile(1, 64, provenance=1)], model, [])


class TestTilesFor:
    def test_a_later_tile_replaces_an_earlier_one(self, packed: Path, model: Model) -> None:
        bundle = read_bundle(packed)
        newer = replace(bundle, tiles=[replace(bundle.tiles[0], mpp=0.5)])
        tiles = tiles_for(model, [bundle, newer])
        assert [tile.mpp for tile in tiles] == [0.5, 0.25]

    def test_another_task_is_refused(self, packed: Path, model: Model) -> None:
        bundle = read_bundle(packed)
        for task in (
            tiny.NUCLEI.model_copy(update={"name": "Glands"}),
            tiny.NUCLEI.model_copy(
                update={"classes": (ClassSpec(value=2, name="Other", color="#000000"),)}
            ),
        ):
            card = bundle.card.model_copy(update={"task": task})
            with pytest.raises(ConfigError, match="the corrections are for"):
                tiles_for(model, [replace(bundle, card=card)])

    def test_another_resolution_is_refused(self, packed: Path, model: Model) -> None:
        bundle = read_bundle(packed)
        card = bundle.card.model_copy(update={"mpp": (1.0, 1.0)})
        with pytest.raises(ConfigError, match="1-1 µm per pixel"):
            tiles_for(model, [replace(bundle, card=card)])


class TestHostile:
    @pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "..\\evil.png", "tiles/../x"])
    def test_paths_that_lead_outside(self, packed: Path, name: str) -> None:
        refused(rewrite(packed, {name: b"x"}), "leads outside")

    @pytest.mark.parametrize("name", ["run.py", "tiles/run.py", "tiles/a/b.png", "weights"])
    def test_foreign_files(self, packed: Path, name: str) -> None:
        refused(rewrite(packed, {name: b"x"}), "no bundle has")

    @pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.99])
    def test_cut_off(self, packed: Path, keep: float) -> None:
        data = packed.read_bytes()
        packed.write_bytes(data[: int(keep * len(data))])
        refused(packed, "no readable zip")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({BUNDLE_FILE: None}, "no bundle of corrections"),
            ({BUNDLE_FILE: b"{"}, "not JSON"),
            ({BUNDLE_FILE: b"{}"}, "not valid"),
            ({BUNDLE_FILE: b" " * (5 * 2**20)}, "too large"),
            ({"tiles/0000.png": b"other"}, "altered"),
            ({"tiles/0000.png": None}, "altered"),
        ],
    )
    def test_contents(self, packed: Path, change: dict[str, bytes | None], words: str) -> None:
        refused(rewrite(packed, change), words)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"tiles/tiles.json": None}, "cannot be used"),
            ({"tiles/tiles.json": b"{}"}, "not a list"),
            ({"tiles/tiles.json": b"[1]"}, "cannot be"),
            ({"tiles/tiles.json": b"[[[["}, "cannot be"),
            ({"tiles/tiles.json": b"[]"}, "holds 0 tiles where bundle.json says 2"),
            ({"tiles/0000.png": b"no picture"}, "cannot be used"),
            ({"tiles/0000.png": png(np.zeros((64, 64), np.uint8))}, "does not fit"),
            ({"tiles/0000.png": png(np.zeros((9, 9, 3), np.uint8))}, "does not fit"),
            ({"tiles/0000.png": png(np.zeros((1, 2049, 3), np.uint8))}, "more than a tile"),
            ({"tiles/0000.labels.png": png(np.zeros((192, 64, 3), np.uint8))}, "does not fit"),
            ({"tiles/0000.labels.png": png(np.full((192, 64), 9, np.uint16))}, "a tile has"),
        ],
    )
    def test_tiles_with_a_right_digest(
        self, packed: Path, change: dict[str, bytes | None], words: str
    ) -> None:
        refused(rewrite(packed, change, signed=True), words)

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("image", "../../x.png", "outside"),
            ("image", None, "cannot be"),
            ("labels", "0000.png", "does not fit"),
            ("mpp", "NaN", "nan µm per pixel"),
            ("mpp", 1e9, "µm per pixel"),
            ("mpp", "x", "cannot be"),
            ("objects", False, "no objects in a task of objects"),
            ("source", "a\nb", "a name that cannot be one"),
            ("source", "x" * 201, "a name that cannot be one"),
        ],
    )
    def test_index(self, packed: Path, key: str, value: object, words: str) -> None:
        with zipfile.ZipFile(packed) as archive:
            index = json.loads(archive.read("tiles/tiles.json"))
        index[0][key] = value
        change: dict[str, bytes | None] = {"tiles/tiles.json": json.dumps(index).encode()}
        refused(rewrite(packed, change, signed=True), words)

    def test_bombs(self, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value, words in (
            ("_MAX_BYTES", 1000, "more than a bundle can have"),
            ("_MAX_FILE_BYTES", 100, "too large"),
            ("_MAX_PIXELS", 5000, "holds 8192 pixels"),
            ("MAX_TILES", 1, "more than any bundle"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(bundle_module, name, value)
                refused(packed, words)

    def test_a_picture_that_promises_gigapixels(self, packed: Path) -> None:
        """Its header is refused before a byte is allocated for it."""
        data = bytearray(png(np.zeros((64, 64, 3), np.uint8)))
        data[16:24] = (100_000).to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        refused(rewrite(packed, {"tiles/0000.png": bytes(data)}, signed=True), "larger than a tile")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
    @given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def test_no_flipped_bit_changes_what_is_learned(
        self, packed: Path, where: float, bit: int
    ) -> None:
        data = bytearray(packed.read_bytes())
        honest = read_bundle(packed)
        data[int(where * len(data))] ^= 1 << bit
        altered = packed.with_name("altered.zip")
        altered.write_bytes(bytes(data))
        try:
            read = read_bundle(altered)
        except ModelFileError:
            return
        for a, b in zip(read.tiles, honest.tiles, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.provenance, b.provenance)


def test_no_disk(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(ModelFileError, match="No space left"):
        write_bundle(tmp_path / "b.zip", [tiny.tile(1, 64)], model, [])
    assert list(tmp_path.iterdir()) == []
