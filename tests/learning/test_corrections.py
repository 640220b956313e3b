from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.learning.corrections import (
    CorrectionTile,
    class_index,
    class_values,
    merge_tiles,
    pack_tiles,
    read_tiles,
    to_source,
)
from napari_genselfdiff.registry.card import ClassSpec, TaskSpec
from tests.learning import tiny


def unpack(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder / "corrections"


def test_tiles_survive_the_disk(tmp_path: Path) -> None:
    tiles = [tiny.tile(1), tiny.tile(2, provenance=2)]
    areas = CorrectionTile(tiles[0].image, tiles[0].classes, None, tiles[0].provenance, 1.0, "a")
    folder = unpack(tmp_path, pack_tiles("corrections", [*tiles, areas]))
    for tile, back in zip([*tiles, areas], read_tiles(folder), strict=True):
        np.testing.assert_array_equal(back.image, tile.image)
        np.testing.assert_array_equal(back.classes, tile.classes)
        np.testing.assert_array_equal(back.provenance, tile.provenance)
        assert (back.mpp, back.source) == (tile.mpp, tile.source)
        if tile.objects is None:
            assert back.objects is None
        else:
            assert back.objects is not None
            pairs = np.unique(np.stack([tile.objects, back.objects], -1).reshape(-1, 2), axis=0)
            assert len(pairs) == len(np.unique(tile.objects)) == len(np.unique(back.objects))


def test_no_folder_holds_no_tiles(tmp_path: Path) -> None:
    assert read_tiles(tmp_path / "nowhere") == []


@pytest.mark.parametrize("damage", ["json", "gone", "outside", "text", "size"])
def test_damaged_tiles_are_refused(tmp_path: Path, damage: str) -> None:
    folder = unpack(tmp_path, pack_tiles("corrections", [tiny.tile(1)]))
    index = json.loads((folder / "tiles.json").read_text())
    if damage == "json":
        (folder / "tiles.json").write_text("[{")
    elif damage == "gone":
        (folder / "0000.png").unlink()
    elif damage == "outside":
        index[0]["image"] = "../0000.png"
        (folder / "tiles.json").write_text(json.dumps(index))
    elif damage == "text":
        (folder / "0000.png").write_text("not a picture")
    else:
        other = pack_tiles("corrections", [tiny.tile(1, size=64)])
        (folder / "0000.png").write_bytes(other["corrections/0000.png"])
    with pytest.raises(ModelFileError):
        read_tiles(folder)


def test_a_newer_tile_replaces_the_older_one_of_its_place() -> None:
    old, new, other = tiny.tile(1, provenance=2), tiny.tile(1), tiny.tile(2)
    assert merge_tiles([old, other], [new]) == [new, other]


def test_layers_of_different_size_are_refused() -> None:
    tile = tiny.tile(1)
    with pytest.raises(ConfigError, match="same pixels"):
        CorrectionTile(tile.image, tile.classes[:5], None, tile.provenance, 0.25, "x")


def test_class_values_and_channels_are_inverse() -> None:
    specs = [ClassSpec(value=v, name=f"c{v}", color="#0072B2", key="") for v in (3, 7)]
    task = TaskSpec(name="Areas", kind="areas", mpp=1.0, classes=tuple(specs))
    assert class_values(task).tolist() == [0, 3, 7]
    assert class_index(task)[class_values(task)].tolist() == [0, 1, 2]
    assert class_index(task)[[0, 1, 255]].tolist() == [0, 0, 0]


def test_source_knows_only_what_it_is_told() -> None:
    tile = tiny.tile(1)
    known = np.zeros(tile.classes.shape, bool)
    known[:10] = True
    truth = to_source(tile, tiny.NUCLEI, known, 1.0).labels()
    assert truth is not None
    np.testing.assert_array_equal(truth.known, known)
    assert float(truth.distance[tile.classes == 0].max()) == 0
