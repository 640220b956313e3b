from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from zarr.storage import LocalStore

from napari_genselfdiff.annotation.arrays import _label_options
from napari_genselfdiff.annotation.chunks import ChunkArray
from napari_genselfdiff.annotation.files import Files
from napari_genselfdiff.annotation.pyramid import level_shapes, majority, nearest, rebuild, split
from napari_genselfdiff.errors import ConfigError, StoreCorruptError
from napari_genselfdiff.slides.geometry import Region

SMALL = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)
)


@given(SMALL)
def test_majority_is_the_slow_majority(fine: NDArray[np.uint8]) -> None:
    even = np.pad(fine, ((0, fine.shape[0] % 2), (0, fine.shape[1] % 2)), mode="edge")
    coarse = majority(fine)
    assert coarse.shape == (-(-fine.shape[0] // 2), -(-fine.shape[1] // 2))
    for y, x in np.ndindex(coarse.shape):
        four = even[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
        assert coarse[y, x] == max(four, key=lambda value: (four.count(value), value))


def test_level_shapes_end_in_one_chunk() -> None:
    assert level_shapes((513, 3)) == [(513, 3), (257, 2)]
    assert level_shapes((512, 512)) == [(512, 512)]
    assert level_shapes((100_000, 7))[-1] == (391, 1)


def files_of(folder: Path) -> Files:
    (folder / "zarr.json").touch()  # it is the folder of a store
    return Files(folder)


def levels_of(folder: Path, shape: tuple[int, int], chunk: int) -> list[ChunkArray]:
    shapes = [shape]
    while max(shapes[-1]) > chunk:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    files = files_of(folder)
    return [ChunkArray(files, str(i), s, (chunk, chunk), "uint8") for i, s in enumerate(shapes)]


@settings(max_examples=20)
@given(data=st.data(), reduce=st.sampled_from([majority, nearest]), align=st.sampled_from([1, 8]))
def test_a_changed_box_gives_what_a_full_rebuild_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, reduce: object, align: int
) -> None:
    shape = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    levels = levels_of(tmp_path_factory.mktemp("levels"), shape, 8)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(3):
        y, x = (int(rng.integers(n)) for n in shape)
        box = Region.from_bounds(
            y, x, int(rng.integers(y, shape[0])) + 1, int(rng.integers(x, shape[1])) + 1
        )
        levels[0].write(box.slices, rng.integers(0, 3, box.shape).astype(np.uint8))
        rebuild(levels, box, reduce, align=align)  # type: ignore[arg-type]
    values = levels[0].read((slice(None), slice(None)))
    for level in levels[1:]:
        values = reduce(values)  # type: ignore[operator]
        np.testing.assert_array_equal(level.read((slice(None), slice(None))), values)


def test_split_covers_once() -> None:
    blocks = split(Region(3, 5, 30, 10), 8)
    seen = np.zeros((40, 40), int)
    for block in blocks:
        seen[block.slices] += 1
    assert seen.sum() == 300
    assert seen[3:33, 5:15].all()
    assert {(block.y1 % 8, block.x1 % 8) for block in blocks} == {(0, 0), (0, 7), (1, 0), (1, 7)}


@pytest.mark.parametrize("dtype", ["uint8", "uint32"])
def test_chunks_are_those_of_zarr(tmp_path: Path, dtype: str) -> None:
    """What zarr writes we read, what we write zarr reads, and the files are the same."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (700, 900)).astype(dtype)
    values[512:] = 0
    options = _label_options((700, 900), dtype)
    theirs = zarr.create_array(LocalStore(tmp_path), name="theirs", **options)
    theirs[:] = values
    mine = zarr.create_array(LocalStore(tmp_path), name="mine", **options)
    ours = ChunkArray(files_of(tmp_path), "mine", (700, 900), (512, 512), dtype)
    for start in range(0, 700, 100):  # in strips, so that chunks are read and changed
        strip = slice(start, start + 100)
        ours.write((strip, slice(0, 900)), values[strip])
    np.testing.assert_array_equal(mine[:], values)
    read = ChunkArray(files_of(tmp_path), "theirs", (700, 900), (512, 512), dtype)
    np.testing.assert_array_equal(read.read((slice(13, 690), slice(7, 2000))), values[13:690, 7:])
    files = {
        name: sorted(f.relative_to(tmp_path / name) for f in (tmp_path / name).rglob("c/*/*"))
        for name in ("theirs", "mine")
    }
    assert files["theirs"] == files["mine"]
    for file in files["mine"]:
        assert (tmp_path / "mine" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()


@pytest.mark.parametrize("data", [b"", b"x" * 10, b"x" * 4096])
def test_a_chunk_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    array = ChunkArray(files_of(tmp_path), "a", (700, 900), (512, 512), "uint8")
    file = tmp_path / "a" / "c" / "0" / "1"
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    with pytest.raises(StoreCorruptError, match=r"chunk \(0, 1\)"):
        array.read((slice(0, 9), slice(500, 600)))
    assert not array.read((slice(0, 9), slice(0, 500))).any()


def test_a_chunk_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    big = ChunkArray(files_of(tmp_path), "a", (4096, 4096), (4096, 4096), "uint8")
    big.write((slice(0, 4096), slice(0, 4096)), np.ones((4096, 4096), np.uint8))
    small = ChunkArray(files_of(tmp_path), "a", (512, 512), (512, 512), "uint8")
    with pytest.raises(StoreCorruptError):
        small.read((slice(0, 9), slice(0, 9)))


def test_a_box_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        rebuild(levels_of(tmp_path, (30, 30), 8), Region(100, 100, 5, 5), nearest)
